"""`tokenlm verify`: figures come out of the policy again, or the command says which do not."""

import dataclasses
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest

from tokenlm.agents import AgentConfig, RunConfig
from tokenlm.agents.evaluation.exact import every_text
from tokenlm.agents.runs.listing import read_run
from tokenlm.agents.runs.report import shown
from tokenlm.agents.runs.share.card import card
from tokenlm.agents.runs.share.export import Exported
from tokenlm.agents.runs.submission import id_of, read_submission
from tokenlm.agents.runs.training import Run, load_run
from tokenlm.agents.runs.verified_text import described
from tokenlm.agents.runs.verifying import score_interval, verify
from tokenlm.cli import main
from tokenlm.envs import EnvConfig, World, env_config_from
from tokenlm.envs.text.digests import write_digests

TINY = env_config_from("TokenLM-Tiny-v0")  # 81 texts
LEARNER = AgentConfig.of(
    None,
    {
        "network": {"embedding_size": 8, "hidden_size": 16}, "num_envs": 8, "batch_size": 8, "learning_starts": 0,
        "temperature": 0.5, "corpus_share": 0.0,
    },
)  # fmt: skip
POLICY = """
import numpy as np


class Uneven:
    \"\"\"Writes the word `token`, at times another one, whatever stands before.\"\"\"

    def __init__(self, env, *, seed, device, token, share):
        self.env_steps, self.token, self.share, self.size = 0, token, share, env.vocab_size

    def learn(self, total_steps, callback=None):
        raise AssertionError("what is submitted is not trained again")

    def log_probs(self, observation, action_masks=None):
        rows = np.full((len(np.atleast_2d(observation)), self.size), -np.inf)
        rows[:, 5:] = np.log((1 - self.share) / (self.size - 5))
        rows[:, self.token] = np.logaddexp(rows[:, self.token], np.log(self.share))
        return rows

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        return np.full(len(np.atleast_2d(observation)), self.token), state
"""


def run_of(world: int, output, **settings) -> RunConfig:
    env = dataclasses.replace(TINY, target_seed=world)
    common = {"total_steps": 400, "evaluations": 1, "evaluation_documents": 5, "evaluation_episodes": 32, "samples": 0}
    values = {"agent": LEARNER, "baseline_seconds": 0, "seed": world, **common, **settings}
    return RunConfig(name=str(world), env=env, output=str(output), **values)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one learner in three racing worlds."""
    folder = tmp_path_factory.mktemp("submitted")
    for world in range(3):
        Run(run_of(world, folder), quiet=True).train()
    return folder


@pytest.fixture
def own(tmp_path):
    """A policy of three methods in a folder of its own."""
    (tmp_path / "uneven_policy.py").write_text(POLICY, encoding="utf-8")

    def write(**values):
        settings = {"token": 5, "share": 0.6}
        submission = {"id": "TokenLM-Tiny-v0", "policy": "uneven_policy:Uneven", "settings": settings, **values}
        (tmp_path / "submission.yaml").write_text(json.dumps(submission), encoding="utf-8")
        return tmp_path

    return write


def command(*words) -> int:
    try:
        main(["verify", *map(str, words)])
    except SystemExit as ending:
        return ending.code
    return 0


def altered(runs, tmp_path, **figures):
    """A copy of the runs with other figures in the summary of world 1."""
    copy = shutil.copytree(runs, tmp_path / "altered")
    summary = json.loads((copy / "1" / "summary.json").read_text(encoding="utf-8"))
    changed = {name: change(summary[name]) for name, change in figures.items()}
    (copy / "1" / "summary.json").write_text(json.dumps(summary | changed), encoding="utf-8")
    write_digests(copy / "1", [copy / "1" / "summary.json"])  # a forger's, not a slip of the disk
    return copy


def test_the_figures_of_a_run_come_out_of_its_weights_again(runs):
    found = verify(runs)
    assert found.row["id"] == "TokenLM-Tiny-v0"
    assert (found.row["temperature"], found.row["source"], found.row["policy"]) == (0.5, "rewards", "dqn")
    assert [world["world"] for world in found.row["worlds"]] == [0, 1, 2]
    for world in found.row["worlds"]:
        summary = json.loads((runs / str(world["world"]) / "summary.json").read_text(encoding="utf-8"))
        assert summary["regret"] == pytest.approx(summary["exact"]["soft_regret"])  # all 81 texts are listed
        for name, stored in (("regret", "regret"), ("kl", "kl_to_target"), ("score", "normalized_score")):
            assert world[name] == pytest.approx(summary[stored], abs=1e-6)
        assert (world["env_steps"], world["seconds"]) == (summary["env_steps"], summary["wall_seconds"])
    assert len(found.claims) == 9
    assert found.holds
    one = verify(runs / "2")
    assert one.row["worlds"] == found.row["worlds"][2:]


def test_at_temperature_0_it_is_the_greedy_text_that_is_compared(runs):
    found = verify(runs / "1", temperature=0.0)
    summary = json.loads((runs / "1" / "summary.json").read_text(encoding="utf-8"))
    stored = {claim.figure: claim.stored for claim in found.claims}
    assert stored["regret"] == summary["greedy_regret"]
    assert stored["score"] == summary["greedy_score"]
    assert found.holds
    other = verify(runs / "1", temperature=0.25)  # no figure is stored for this one, but the KL
    assert [claim.figure for claim in other.claims] == ["kl"]


def test_a_figure_that_does_not_hold_is_named(runs, tmp_path, capsys):
    copy = altered(runs, tmp_path, regret=lambda r: 0.9 * r, normalized_score=lambda s: s)
    assert command(copy) == 1
    shown = capsys.readouterr().out
    assert "8 of 9 figures in summary.json hold" in shown
    assert "regret of world 1 does not: " in shown
    assert "score of world 1" not in shown
    assert command(copy / "2") == 0


def test_sampled_figures_hold_within_their_interval_and_no_further(runs, tmp_path):
    summary = json.loads((runs / "1" / "summary.json").read_text(encoding="utf-8"))
    low, high = summary["kl_to_target_ci"]
    assert low < high
    inside = altered(runs, tmp_path / "inside", kl_to_target=lambda k: k + 0.9 * (high - low))
    outside = altered(runs, tmp_path / "outside", kl_to_target=lambda k: k + 1.1 * (high - low))
    assert verify(inside / "1").holds
    assert not verify(outside / "1").holds
    assert verify(runs, seed=77, episodes=64).holds  # other texts


def test_the_row_that_is_printed_is_the_one_to_store(runs, tmp_path, capsys):
    assert command(runs, "--temperature=0", "--episodes=16", "--seed=3", "--json") == 0
    row = tmp_path / "row.json"
    row.write_text(capsys.readouterr().out, encoding="utf-8")
    again = verify(runs, row=row)
    assert {claim.source for claim in again.claims} == {"summary.json", "row.json"}
    assert [claim.found for claim in again.claims if claim.source == "row.json"] == pytest.approx(
        [claim.stored for claim in again.claims if claim.source == "row.json"]
    )
    assert again.row["temperature"] == 0.0
    assert {(world["episodes"], world["seed"]) for world in again.row["worlds"]} == {(16, 3)}
    (runs / "row.json").touch()  # as `> row.json` does before the command runs
    try:
        assert command(runs) == 0
    finally:
        (runs / "row.json").unlink()
    values = json.loads(row.read_text(encoding="utf-8"))
    values["worlds"].append({**values["worlds"][0], "world": 7})
    copy = shutil.copytree(runs, tmp_path / "copy")
    (copy / "row.json").write_text(json.dumps(values), encoding="utf-8")
    assert command(copy) == 1  # a world that nobody can recompute
    assert "regret of world 7 does not" in capsys.readouterr().out


def test_a_model_card_is_held_against_the_run(runs, tmp_path, capsys):
    run = read_run(runs / "1")
    text = card(run, load_run(runs / "1")[1], Exported("ONNX", "lstm", 0.5, state=(1, 16)))
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    found = verify(runs / "1", row=tmp_path / "README.md")
    assert [(c.figure, c.holds) for c in found.claims if c.source == "README.md"] == [("regret", True), ("kl", True)]
    regret = str(run.summary["regret"])
    assert regret in text
    in_table = f"| regret, nats per text | {shown(run.summary['regret'])} |"
    assert in_table in text
    forged = text.replace(in_table, "| regret, nats per text | 0.001 |")
    (tmp_path / "README.md").write_text(forged, encoding="utf-8")
    assert command(runs / "1", "--row", tmp_path / "README.md") == 2
    assert f"README.md has other figures than its header, which has {in_table}" in capsys.readouterr().err
    (tmp_path / "README.md").write_text(forged.replace(regret, "0.001"), encoding="utf-8")
    assert command(runs / "1", "--row", tmp_path / "README.md") == 1
    assert "regret of world 1 does not: 0.001 in README.md" in capsys.readouterr().out
    (tmp_path / "README.md").write_text("# A run", encoding="utf-8")
    assert command(runs / "1", "--row", tmp_path / "README.md") == 2
    assert "README.md has no figures: its header needs one model" in capsys.readouterr().err


def test_a_policy_of_three_methods_is_measured_as_it_is(own):
    """Against all 81 texts: the regret of its greedy text, and KL(π ‖ p*) of a policy without memory."""
    folder = own(worlds=[0, 4])
    found = verify(folder, trust=True, episodes=4000)
    assert found.row["temperature"] == 0.0
    assert found.claims == []
    for world in found.row["worlds"]:
        env = dataclasses.replace(TINY, target_seed=world["world"])
        texts = every_text(World.of(env), env)
        words = TINY.vocab_size - 5
        token = np.log(np.where(texts.tokens == 5, 0.4 / words + 0.6, 0.4 / words))
        log_pi = token.sum(1)
        assert np.exp(log_pi).sum() == pytest.approx(1.0)
        constant = texts.log_target[(texts.tokens == 5).all(1)]
        assert world["regret"] == pytest.approx(texts.log_target.max() - constant[0])
        kl = float(np.exp(log_pi) @ (log_pi - texts.log_target))
        low, high = world["kl_ci"]
        assert kl == pytest.approx(world["kl"], abs=high - low)
        assert high - low < 0.1 * kl


def test_code_of_a_folder_is_imported_only_when_it_is_trusted(own, capsys):
    folder = own()
    assert command(folder) == 2
    assert "uneven_policy:Uneven" in capsys.readouterr().err
    assert command(folder, "--trust") == 0
    assert "no figures are stored that these could be compared with" in capsys.readouterr().out


@pytest.mark.parametrize(("policy", "score"), [("oracle", 1.0), ("same-text", 0.0)])
def test_references_have_the_scores_that_define_the_scale(own, policy, score):
    folder = own(policy=policy, settings={}, id="TokenLM-Factored-v0", worlds=[2], source="p*")
    (world,) = verify(folder, episodes=24).row["worlds"]
    if score:
        assert world["score"] == pytest.approx(score)
        assert world["regret"] == pytest.approx(0.0, abs=1e-9)
    else:  # the best text for all prompts of the training split is at most the best for these
        assert world["score"] <= 1e-9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worlds": [0, 100]}, "has the world of target seed 100, which is not raced; racing worlds are 0 to 9"),
        ({"worlds": [1, 1]}, "has several policies for the world 1"),
        ({"worlds": []}, "worlds must name at least one target seed"),
        ({"id": "TokenLM-Tinny-v0"}, "the id 'TokenLM-Tinny-v0' is unknown; did you mean 'TokenLM-Tiny-v0'"),
        ({"policy": "orcale", "settings": {}}, "algorithm 'orcale' is unknown; did you mean 'oracle'"),
        ({"source": "reward"}, "source 'reward' is unknown; did you mean 'rewards'"),
        ({"wolrds": [0]}, "has no setting 'wolrds'; did you mean 'worlds'"),
    ],
)
def test_what_is_no_submission_gets_one_sentence(own, capsys, values, message):
    assert command(own(**values), "--trust") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_runs_that_are_no_one_submission(runs, tmp_path, capsys):
    copy = shutil.copytree(runs, tmp_path / "copy")
    Run(run_of(5, copy, total_steps=80), quiet=True).train()
    assert command(copy) == 2
    assert "the runs of the worlds 0 and 5" in capsys.readouterr().err
    assert command(tmp_path / "nowhere") == 2
    (runs / "row.json").write_text('{"worlds": [1, 2]}', encoding="utf-8")
    try:
        assert command(runs) == 2
        assert "row.json is no row" in capsys.readouterr().err
        (runs / "row.json").write_text('{"worlds": [{"world": 1, "regret": "0"}]}', encoding="utf-8")
        assert command(runs) == 2
        assert "regret in row.json must be a number, not '0'" in capsys.readouterr().err
    finally:
        (runs / "row.json").unlink()


def test_an_environment_has_the_id_that_its_arguments_have():
    for name in ("TokenLM-v0", "TokenLM-Form-Sparse-v0", "TokenLM-Teacher-v0"):
        env = EnvConfig.of(None, gym.spec(name).kwargs)
        world = dataclasses.replace(env, split="test", target_seed=3, invalid_action="random", mask_in_info=True)
        assert id_of(world) == name
    assert id_of(dataclasses.replace(EnvConfig(), max_new_tokens=31)) == ""


def test_an_interval_of_scores_is_that_of_regrets_turned_round():
    assert score_interval([1.0, 3.0], 4.0) == pytest.approx([0.25, 0.75])
    assert score_interval([1.0, 3.0], None) is None
    assert score_interval([1.0, 3.0], 0.0) is None  # the best trivial policy is optimal


def test_the_table_has_a_line_for_each_world_and_their_mean(runs):
    found = verify(runs)
    lines = described(found).splitlines()
    assert lines[0] == "TokenLM-Tiny-v0, temperature 0.5, dqn (rewards): 32 texts of test prompts in 3 worlds"
    assert [line.split()[0] for line in lines[2:7]] == ["world", "0", "1", "2", "mean"]
    mean = np.mean([world["score"] for world in found.row["worlds"]])
    assert f"{mean:.3f}" in lines[6]
    assert lines[-1] == "9 of 9 figures in summary.json hold (regret, score, kl; no others were compared)"
    assert "mean" not in described(verify(runs / "0"))


def test_a_submission_says_what_was_learned_from(runs):
    assert {each.source for each in read_submission(runs)} == {"rewards"}
