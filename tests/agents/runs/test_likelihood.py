"""Maximum likelihood beside a run is kept, loaded as it was, and checked like everything else that is saved."""

import json
import shutil

import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.evaluation.evaluate import score_text
from tokenlm.agents.runs.likelihood import FOLDER, load_baseline
from tokenlm.agents.runs.listing import find_runs
from tokenlm.agents.runs.training import load_run
from tokenlm.agents.web.play import shown_runs
from tokenlm.cli import main
from tokenlm.envs import Vocabulary

SMALL = [
    "--agent.network.embedding_size=8", "--agent.network.hidden_size=16", "--agent.num_envs=8", "--agent.batch_size=8",
    "--agent.learning_starts=0", "--env.tokenizer=word", "--evaluation_episodes=8", "--evaluation_documents=5",
    "--evaluations=1", "--total_steps=200", "--device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    main(["train", str(corpus), f"--output={output}", *SMALL, "--baseline_seconds=0.3"])
    return output / "animals"


def logits(agent):
    windows = [[Vocabulary.BOS, *agent.tokenizer.encode(text)] for text in ("the cat", "the dog", "cat sees")]
    return torch.as_tensor(agent.log_probs(windows))


def test_what_was_measured_is_what_is_loaded(run):
    _, config = load_run(run)
    kept = load_baseline(run, config, "cpu")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert score_text(kept, "test").perplexity == pytest.approx(summary["baseline"]["perplexity"], rel=1e-6)
    titled = "maximum likelihood on the same network (temperature 1)\n"
    written = (run / "samples.txt").read_text(encoding="utf-8").split(titled)[1].rstrip("\n").split("\n")
    assert kept.generate([""], config.samples, seed=config.seed) == written
    (shown,) = shown_runs([str(run)], "cpu")
    asked = {"prompt": "the", "temperature": 0.8, "seed": 3}
    assert shown.likelihood.agent.generate(**asked) == kept.generate(**asked)
    assert kept.config.corpus_share == 1.0
    assert kept.temperature == 1.0


def test_saved_again_its_logits_are_the_same(run, tmp_path):
    _, config = load_run(run)
    kept = load_baseline(run, config, "cpu")
    (tmp_path / FOLDER).mkdir()
    kept.save(tmp_path / FOLDER)
    assert torch.equal(logits(load_baseline(tmp_path, config, "cpu")), logits(kept))
    assert not torch.allclose(logits(kept), logits(DQN.load(run)))  # it is another than the agent beside it
    assert {path.name for path in (run / FOLDER).iterdir()} == {
        "agent.json", "digests.json", "tokenizer", "weights.safetensors",
    }  # fmt: skip


def test_a_run_without_it_loads(corpus, run, tmp_path):
    main(["train", str(corpus), f"--output={tmp_path}", *SMALL, "--baseline_seconds=0"])
    _, config = load_run(tmp_path / "animals")
    assert not (tmp_path / "animals" / FOLDER).exists()
    assert load_baseline(tmp_path / "animals", config) is None
    earlier = shutil.copytree(run, tmp_path / "earlier")
    shutil.rmtree(earlier / FOLDER)
    (shown,) = shown_runs([str(earlier)], "cpu")
    assert shown.likelihood is None
    assert shown.steps.agent.generate("the", seed=1) == load_run(run)[0].generate("the", seed=1)


def test_a_run_that_was_killed_while_it_learned_has_it_too(corpus, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Stands for SIGKILL: nothing catches it."""

    def dying(*_):
        raise Killed

    words = ["train", str(corpus), f"--output={tmp_path}", *SMALL, "--baseline_seconds=0.1"]
    with monkeypatch.context() as patch:
        patch.setattr("tokenlm.agents.runs.training.train_baseline", dying)
        with pytest.raises(Killed):
            main(words)
    run = tmp_path / "animals"
    assert not (run / FOLDER).exists()
    assert list(run.glob("state-*"))
    main(words)
    assert not list(run.glob("state-*"))
    _, config = load_run(run)
    assert load_baseline(run, config).transitions_trained > 0


def test_other_algorithms_have_it_on_the_same_network(tmp_path):
    main(["train", "reinforce", f"--output={tmp_path}", "--name=other", "--baseline_seconds=0.1", "--total_steps=200",
          "--evaluations=1", "--evaluation_episodes=8", "--evaluation_documents=5", "--env.max_new_tokens=6"])  # fmt: skip
    agent, config = load_run(tmp_path / "other", "cpu")
    kept = load_baseline(tmp_path / "other", config, "cpu")
    assert config.algorithm == "reinforce"
    shapes = {name: value.shape for name, value in agent.network_policy()[0].state_dict().items()}
    assert shapes == {name: value.shape for name, value in kept.network_policy()[0].state_dict().items()}
    summary = json.loads((tmp_path / "other" / "summary.json").read_text(encoding="utf-8"))
    assert score_text(kept, "test").perplexity == pytest.approx(summary["baseline"]["perplexity"], rel=1e-6)


def damaged(run, copy, file):
    shutil.copytree(run, copy)
    data = bytearray((copy / FOLDER / file).read_bytes())
    data[-5] ^= 1
    (copy / FOLDER / file).write_bytes(data)
    return copy


@pytest.mark.parametrize("file", ["weights.safetensors", "agent.json", "tokenizer/settings.json"])
def test_damage_is_one_sentence(file, run, tmp_path, capsys):
    copy = damaged(run, tmp_path / "copy", file)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main(["play", str(copy), "--port=0"])
    assert ending.value.code == 2
    *read, said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("reading ") for line in read)
    path = copy / FOLDER / file
    assert said.startswith(f"tokenlm: {path} {'is not JSON' if file == 'agent.json' else 'was changed since'}")
    path.unlink()
    with pytest.raises(SystemExit):
        main(["play", str(copy), "--port=0"])
    assert f"{copy / FOLDER}" in capsys.readouterr().err
    load_run(copy)  # the run itself is whole


def test_it_is_no_run_of_its_own(run, tmp_path):
    shutil.copytree(run, tmp_path / "one")
    assert [found.folder for found in find_runs(tmp_path)] == [tmp_path / "one"]
    (tmp_path / "one" / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match="there is no run below"):
        find_runs(tmp_path)
