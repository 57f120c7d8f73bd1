"""A race from its configuration to its table, and everything that can go wrong on the way."""

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.agents import Agent
from tokenlm.agents.evaluation import trivial_returns
from tokenlm.agents.runs.algorithms import ALGORITHMS, algorithm, make
from tokenlm.agents.runs.config import with_settings
from tokenlm.agents.runs.race import EntryConfig, Race, RaceConfig
from tokenlm.agents.runs.race import search as searching
from tokenlm.agents.runs.race.budget import target_updates
from tokenlm.agents.runs.race.curves import COLOURS, panels
from tokenlm.agents.runs.race.estimate import Part, duration, estimate, parts_of
from tokenlm.agents.runs.race.jobs import Job, run_all
from tokenlm.agents.runs.race.machine import note_start
from tokenlm.agents.runs.race.references import TITLES, references
from tokenlm.agents.runs.race.search import search
from tokenlm.agents.runs.race.statistics import interquartile_mean, is_ahead, paired
from tokenlm.agents.runs.race.table import table
from tokenlm.cli import main
from tokenlm.envs import EnvConfig, Oracle, World
from tokenlm.envs.text import write_json
from tokenlm.parsing import config_names, parse_race, parse_run

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
TINY = EnvConfig(
    target="markov", order=2, vocab_size=8, max_new_tokens=4, context_length=5, ending="fixed", prompt_length=(0, 0)
)
NETWORK = {"embedding_size": 8, "hidden_size": 16}
ENTRIES = {
    "ours": EntryConfig(
        "dqn",
        {"corpus_share": 0.0, "learning_starts": 0, "num_envs": 8, "network": NETWORK},
        search={"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
    ),
    "PPO": EntryConfig(
        "sb3-ppo",
        {"num_envs": 8, "n_steps": 16, "batch_size": 32, "network": NETWORK},
        search={
            "learning_rate": [1e-2, 1e-3],
            "num_envs": [4, 8],
            "network": [NETWORK, {"name": "mlp", "hidden_size": 8}],
        },
    ),
    "ours, corpus": EntryConfig("dqn", {"corpus_share": 0.5, "learning_starts": 0, "num_envs": 8, "network": NETWORK}),
    "mine": EntryConfig("bandit:Bandit"),
    "broken": EntryConfig("sb3-ppo", {"no_such_setting": 1}),
}


SECONDS = 0.25


class Patient(Race):
    """Its runs of equal steps have all the time they need: what is said of them holds on a machine of any speed."""

    def _jobs(self, chosen, leg):
        jobs = super()._jobs(chosen, leg)
        return {key: dataclasses.replace(j, max_seconds=600.0) for key, j in jobs.items()} if leg == "steps" else jobs


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """A race whose entry `mine` is the algorithm that the README shows.

    It goes on from runs that are done already, here in this process: torch is not started again for each of them.
    """
    output = tmp_path_factory.mktemp("races")
    example = next(e for e in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class Bandit" in e)
    (output / "bandit.py").write_text(example, encoding="utf-8")
    sys.path.insert(0, str(output))
    config = RaceConfig(
        name="tiny", env=TINY, entries=ENTRIES, seeds=2, total_steps=600, max_seconds=SECONDS, evaluations=4, episodes=4,
        documents=20, trials=2, output=str(output),
    )  # fmt: skip
    runner = Patient(config, quiet=True)
    runner.runs.mkdir(parents=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searching, "run_all", lambda jobs, *_: [job.run() for job in jobs])
            chosen = search(config, runner._job)
        for leg in ("steps", "seconds"):
            for job in runner._jobs(chosen, leg).values():
                job.run()
        yield runner, Patient(config, quiet=True).run()
    finally:
        sys.path.remove(str(output))


def test_the_readmes_algorithm_enters_the_race_and_finds_the_best_next_tokens(race):
    """It remembers what each token earned after the last one: on a chain of order 2 that is p*, and it writes greedily."""
    _, result = race
    row = result["rows"]["mine"]
    assert row["error"] is None
    greedy = result["references"]["beam search under p*, width 1"]["score"]
    assert row["steps"]["score"] == pytest.approx([greedy] * 3)
    assert row["steps"]["runs"] == 2
    assert row["steps"]["perplexity"] is None  # of a policy that is sure of one word


def test_the_readmes_algorithm_is_an_agent(race):
    agent = make("bandit:Bandit", TINY, 0)
    assert isinstance(agent, Agent)
    agent.learn(200)
    assert agent.env_steps == 200


def test_a_failed_entry_is_a_row_that_says_so(race):
    runner, result = race
    assert result["rows"]["broken"]["error"] == "ValueError: SB3PPO has no setting 'no_such_setting'"
    assert result["rows"]["broken"]["steps"]["score"] is None
    text = (runner.folder / "table.md").read_text(encoding="utf-8")
    assert "(failed: ValueError: SB3PPO has no setting 'no_such_setting')" in text


def test_the_classes_are_never_mixed(race):
    runner, result = race
    alone, corpus = (runner.folder / "table.md").read_text(encoding="utf-8").split("**With corpus episodes**")
    assert "| ours, corpus |" in corpus
    assert "| ours, corpus |" not in alone
    assert "| PPO |" in alone
    assert {row["class"] for row in result["rows"].values()} == {"From rewards alone", "With corpus episodes"}


def test_scores_are_those_of_the_exact_optimum(race):
    _, result = race
    known = result["references"]
    assert known["optimum"]["score"] == 1.0
    trivial = [known[name] for name in TITLES.values() if name in known]
    assert len(trivial) >= 4
    assert max(row["score"] for row in trivial) == 0.0
    best = max(row["return"] for row in trivial)
    assert known["beam search under p*, width 10"]["score"] == pytest.approx(1.0)
    for runs in result["runs"].values():
        for run in (*runs["steps"], *runs["seconds"]):
            for row in run["rows"]:
                assert row["score"] <= 1.0 + 1e-9
                assert row["regret"] == pytest.approx(known["optimum"]["return"] - row["greedy_return"])
                assert row["score"] == pytest.approx(1.0 - row["regret"] / (known["optimum"]["return"] - best))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_race_at_a_temperature_measures_the_soft_regret(tmp_path, temperature):
    job = Job(
        path=tmp_path / "job.json", algorithm="unigram", settings={}, env=TINY, seed=0, device="cpu", threads=1,
        total_steps=1, max_seconds=1.0, evaluations=1, episodes=16, documents=2, temperature=temperature,
    )  # fmt: skip
    job.run()
    row = json.loads(job.path.read_text(encoding="utf-8"))["rows"][-1]
    best = Oracle.of(World.of(TINY), TINY).optimal_value([[0, 0, 0, 0, 2]], temperature=temperature)[0]
    trivial = trivial_returns(TINY, temperature)
    exact = best - trivial["unigram_sampled"]
    assert row["regret"] == pytest.approx(exact, rel=0.2)  # of 16 texts
    assert row["score"] == pytest.approx(1.0 - row["regret"] / (best - max(trivial.values())), abs=1e-9)
    known = references(RaceConfig(env=TINY, entries=ENTRIES, episodes=2, documents=2, temperature=temperature))["rows"]
    assert known["unigram, sampled"]["regret"] == pytest.approx(exact, abs=1e-9)
    assert known["optimum"]["regret"] == 0.0
    assert (known["p* sampled"]["regret"] < 1e-9) == (temperature == 1.0)


def test_a_temperature_of_a_race_is_a_number():
    with pytest.raises(ValueError, match=r"temperature must be 0 .greedy. or more, and finite, not -1"):
        RaceConfig(entries=ENTRIES, temperature=-1.0)


def test_budgets_are_kept(race):
    _, result = race
    for name, runs in result["runs"].items():
        for run in runs["steps"]:
            if run["error"] is None:
                assert 600 <= run["rows"][-1]["env_steps"] <= 600 + 128, name
        for run in runs["seconds"]:
            if run["error"] is None:
                last = run["rows"][-1]
                assert last["seconds"] >= SECONDS or last["env_steps"] >= run["job"]["total_steps"], name
                # However long the step took in which the time ran out, there is none after it.
                assert len({row["env_steps"] for row in run["rows"] if row["seconds"] > SECONDS}) <= 1, name


def test_the_search_takes_the_best_of_its_trials(race):
    _, result = race
    tried = result["chosen"]["PPO"]["tried"]
    assert len(tried) == 2
    best = max(tried, key=lambda trial: trial["score"])
    assert result["chosen"]["PPO"]["settings"] == {**ENTRIES["PPO"].settings, **best["chosen"]}


def test_the_same_command_goes_on_and_does_nothing_twice(race):
    runner, result = race
    files = {path: path.stat().st_mtime_ns for path in runner.runs.iterdir()}
    lost = runner.runs / "mine--steps--0--1.json"
    lost.unlink()
    again = runner.run()
    assert {p: p.stat().st_mtime_ns for p in runner.runs.iterdir() if p != lost} == {
        p: t for p, t in files.items() if p != lost
    }
    assert lost.exists()
    assert again["rows"]["ours"] == result["rows"]["ours"]
    # The lost run was done in a process of its own; the others, in that of the tests.
    assert again["rows"]["mine"]["error"] is None
    assert again["rows"]["mine"]["steps"]["score"] == result["rows"]["mine"]["steps"]["score"]
    assert (runner.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((runner.folder / "result.json").read_text(encoding="utf-8"))["rows"].keys() == ENTRIES.keys()


def test_a_run_with_other_settings_is_done_again(race):
    runner, result = race
    job = next(iter(runner._jobs(result["chosen"], "steps").values()))
    assert job.result() is not None
    assert type(job)(**{**vars(job), "total_steps": 700}).result() is None


def test_a_process_that_dies_is_a_failed_run(race, tmp_path):
    runner, _ = race
    job = runner._job("dies", EntryConfig("bandit:Bandit"), {}, 0, 0)
    (tmp_path / "deadly.py").write_text("import os\n\nos._exit(3)\n", encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    try:
        dying = type(job)(**{**vars(job), "path": tmp_path / "dies.json", "algorithm": "deadly:Agent"})
        run_all([dying], 1, "", quiet=True)
    finally:
        sys.path.remove(str(tmp_path))
    assert dying.result()["error"] == "ended with exit code 3"


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12))
def test_the_interquartile_mean_lies_in_its_interval_and_among_the_values(values):
    mean, low, high = interquartile_mean([values])
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert min(values) - 1e-12 <= mean <= max(values) + 1e-12


def test_the_interquartile_mean_leaves_out_the_outer_quarters():
    assert interquartile_mean([[0.0, 1.0, 3.0, 100.0]])[0] == 2.0
    assert interquartile_mean([[0.0], [1.0], [3.0], [100.0]])[0] == 2.0
    assert interquartile_mean([[None, 0.5]]) == [0.5, 0.5, 0.5]
    assert interquartile_mean([[None]]) is None


def test_the_bootstrap_draws_within_worlds():
    """Runs that differ by their world alone leave no doubt about these worlds; drawn from one pot they would."""
    worlds = [[float(world)] * 3 for world in range(4)]
    assert interquartile_mean(worlds) == [1.5, 1.5, 1.5]
    _, low, high = interquartile_mean([[value for world in worlds for value in world]])
    assert low < 1.5 < high


def test_a_paired_comparison_by_hand():
    """Differences 1 to 5: mean 3, standard deviation √2.5, t = 3/√(2.5/5) = 4.243 with 4 degrees of freedom."""
    found = paired([[2.0], [4.0], [6.0], [8.0], [10.0]], [[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert found == {"difference": 3.0, "p": pytest.approx(0.013236, abs=1e-5), "pairs": 5}
    assert not is_ahead(found)
    # Seeds are averaged within their world; in a single world they are the pairs.
    assert paired([[1.0, 3.0], [2.0, 6.0]], [[0.0, 0.0], [0.0, 0.0]]) == {"difference": 3.0, "p": None, "pairs": 2}
    assert paired([[1.0, 3.0, 2.0, 6.0]], [[0.0] * 4])["pairs"] == 4
    assert paired([[1.0, None], [2.0]], [[1.0, 5.0], [2.0]]) == {"difference": 0.0, "p": None, "pairs": 2}
    assert paired([[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]])["p"] == 1.0
    sure = paired([[3.0, 3.1, 3.2, 3.0]], [[0.0] * 4])
    assert is_ahead(sure)
    assert not is_ahead(paired([[0.0] * 4], [[3.0, 3.1, 3.2, 3.0]]))


def test_settings_reach_into_dicts_without_touching_the_given_ones():
    given = {"a": 1, "network": {"hidden_size": 8}}
    assert with_settings(given, {"network.hidden_size": 16, "b": 2}) == {"a": 1, "b": 2, "network": {"hidden_size": 16}}
    assert given == {"a": 1, "network": {"hidden_size": 8}}
    with pytest.raises(ValueError, match=r"no setting a\.b: a is 1, which has none below it"):
        with_settings(given, {"a.b": 2})


def test_the_command_line_reaches_into_settings_and_leaves_what_stands_beside():
    network = parse_run(["sb3-ppo"]).algorithm_settings["network"]
    for words in (
        ["--algorithm_settings.network.hidden_size", "256"],
        ["--algorithm_settings.network.hidden_size=256"],
    ):
        run = parse_run(["sb3-ppo", "--algorithm_settings.learning_rate", "3e-4", *words])
        assert run.algorithm_settings["network"] == {**network, "hidden_size": 256}
        assert run.algorithm_settings["learning_rate"] == 3e-4
        assert run.algorithm_settings["n_steps"] == 64


def test_a_search_asks_every_entry_for_the_same_and_nothing_twice(tmp_path, monkeypatch):
    """Regrets that are made up: -(ln rate - ln 0.01)², so 0.01 is best of what is there."""
    asked = []

    def answer(jobs, *_):
        for job in jobs:
            asked.append(job)
            regret = (np.log(job.settings["learning_rate"]) - np.log(0.01)) ** 2
            write_json(job.path, {"job": job._plain(), "error": None, "rows": [{"regret": regret}]})

    monkeypatch.setattr(searching, "run_all", answer)
    few = EntryConfig("sb3-ppo", {"learning_rate": 0.1}, search={"learning_rate": [0.1, 0.02]})
    many = EntryConfig("dqn", {"learning_rate": 0.1}, search={"learning_rate": {"low": 1e-4, "high": 0.5, "log": True}})
    config = RaceConfig(
        env=TINY, entries={"few": few, "many": many, "none": EntryConfig("table")}, trials=6, worlds=[0, 1],
        tuning_worlds=[100, 101], total_steps=900, max_seconds=9.0, output=str(tmp_path),
    )  # fmt: skip
    found = search(config, Race(config)._job)
    assert {name: len(each["tried"]) for name, each in found.items()} == {"few": 6, "many": 6, "none": 0}
    assert {(job.total_steps, job.max_seconds, job.split, job.seed) for job in asked} == {(300, 3.0, "valid", 1000)}
    assert {job.env.target_seed for job in asked} == {100, 101}
    assert len(asked) == 2 * (2 + 6)  # each on two worlds; `few` has two settings
    assert [found[name]["tried"][0]["chosen"] for name in ("few", "many")] == [{"learning_rate": 0.1}] * 2
    assert found["few"]["settings"] == {"learning_rate": 0.02}
    best = max(found["many"]["tried"], key=lambda trial: trial["score"])
    assert found["many"]["settings"] == best["chosen"]
    monkeypatch.setattr(searching, "run_all", lambda jobs, *_: None)  # all are done
    assert search(config, Race(config)._job) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worlds": [0, 100]}, "world of target seed 100 is reported, so nothing may be tuned on it"),
        ({"tuning_worlds": [0]}, "world of target seed 0 is reported"),
        ({"tuning_worlds": []}, "a search needs at least one of tuning_worlds"),
        ({"worlds": [1, 1]}, r"worlds must be different target seeds of at least 0, not \[1, 1\]"),
        ({"search_share": 0.2}, "search_share must be at least a third and at most 1, not 0.2"),
        ({"legs": ["step"]}, "leg 'step' is unknown; did you mean 'steps'"),
        ({"env": EnvConfig(), "worlds": [1, 2]}, "the target 'ngram' is drawn from no seed, so it has one world"),
        (
            {"entries": {"D": EntryConfig("sb3-dqn", search={"target_update_interval": [100, 1000]})}},
            "a trial of D has 1,000 environment steps, in which its target network may be copied only 0 times",
        ),
    ],
)
def test_a_search_that_would_say_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RaceConfig(**{"env": TINY, "entries": ENTRIES, "trials": 2, "total_steps": 3_000, **changes})


def test_copies_of_a_target_network():
    assert target_updates("sb3-dqn", {"target_update_interval": 500, "learning_starts": 1_000}, 6_000) == 10.0
    looped = {"target_update_interval": 10, "learning_starts": 0, "updates_per_step": 2, "num_envs": 4}
    assert target_updates("torchrl-dqn", looped, 200) == 10.0
    assert target_updates("sb3-ppo", {}, 10) is None


def test_out_of_the_box_keeps_what_an_entry_learns_from_alone():
    every = parse_race(["race-markov"])
    plain = parse_race(["race-markov", "--defaults=true"])
    assert plain.trials == 0
    assert all(set(entry.settings) <= {"corpus_share", "pretrain"} for entry in plain.entries.values())
    assert {e.source for e in plain.entries.values()} == {e.source for e in every.entries.values()}
    assert not any(entry.search for entry in plain.entries.values())
    twins = RaceConfig(
        entries={"a": EntryConfig("sb3-ppo", {"n_steps": 8}), "b": EntryConfig("sb3-ppo")}, defaults=True
    )
    assert list(twins.entries) == ["a"]
    assert Race(twins).folder.name == "race-defaults"


def test_seconds_alone_measure_the_speed_first(tmp_path, monkeypatch):
    config = RaceConfig(
        name="timed", env=TINY, entries={"PPO": EntryConfig("sb3-ppo", ENTRIES["PPO"].settings)}, seeds=1, episodes=2,
        max_seconds=0.1, evaluations=1, documents=1, legs=["seconds"], output=str(tmp_path),
    )  # fmt: skip
    monkeypatch.setattr(sys.modules[Race.__module__], "run_all", lambda jobs, *_: [job.run() for job in jobs])
    race = Race(config, quiet=True)
    result = race.run()
    assert {path.stem for path in race.runs.iterdir()} == {"PPO--pace", "PPO--seconds--0--0"}
    pace = json.loads((race.runs / "PPO--pace.json").read_text(encoding="utf-8"))
    assert pace["job"]["env"]["target_seed"] == 100
    last = pace["rows"][-1]
    steps = result["runs"]["PPO"]["seconds"][0]["job"]["total_steps"]
    assert steps == pytest.approx(0.1 * last["env_steps"] / last["seconds"], abs=1)
    assert result["rows"]["PPO"]["steps"]["score"] is None
    assert "steps to" not in (race.folder / "table.md").read_text(encoding="utf-8")


def test_a_policy_without_a_likelihood_has_no_perplexity():
    kinds = {name: algorithm(name) for name in ("sb3-dqn", "sb3-ppo", "grpo", "dqn")}
    settings = {"num_envs": 16, "network": NETWORK}
    made = {name: make(name, TINY, 0, "cpu", **settings).has_perplexity for name in kinds}
    assert made == {"sb3-dqn": False, "sb3-ppo": True, "grpo": True, "dqn": True}


def test_the_load_before_a_race_is_noted(tmp_path, monkeypatch):
    for load, busy in ((0.1, False), (0.9, True), (0.2, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 5.0, 5.0), raising=False)
        found = note_start(tmp_path / "machine.json")
        assert (found["loads"][-1], found["busy"]) == (load, busy)
    assert found["loads"] == [0.1, 0.9, 0.2]
    assert found["waiting"]  # idle threads sleep: see tokenlm.threads


def test_at_most_eight_curves_a_panel():
    names = [str(number) for number in range(11)]
    rows = panels({"A": names, "B": ["x"]})
    assert [(title, len(each)) for title, each in rows] == [("A, 1", 8), ("A, 2", 3), ("B", 1)]
    assert [name for _, each in rows[:2] for name in each] == names
    assert len(set(COLOURS)) == 8


def test_results_are_csv_too(race):
    runner, result = race
    read = {name: list(csv.DictReader((runner.folder / name).read_text(encoding="utf-8").splitlines()))
            for name in ("result.csv", "runs.csv")}  # fmt: skip
    assert len(read["result.csv"]) == 2 * len(ENTRIES)
    assert len(read["runs.csv"]) == 2 * 2 * len(ENTRIES)
    mine = next(row for row in read["result.csv"] if row["entry"] == "mine" and row["leg"] == "steps")
    assert float(mine["score"]) == result["rows"]["mine"]["steps"]["score"][0]
    single = [row for row in read["runs.csv"] if row["entry"] == "mine" and row["leg"] == "steps"]
    assert [(row["world"], row["seed"]) for row in single] == [("0", "0"), ("0", "1")]


def test_races_that_are_shipped_search_every_learner_and_choose_its_network():
    for name in config_names("race"):
        config = parse_race([name])
        untuned = "table"  # a reference, as it comes
        learners = {n: e for n, e in config.entries.items() if e.source != "p*" and e.algorithm != untuned}
        assert set(config.searched()) == set(learners), name
        assert config.trials >= 8
        assert len(config.raced_worlds) * config.seeds >= 5
        for entry in learners.values():
            if entry.algorithm != "reward-model":  # which has a network of its own kind
                assert any(setting.startswith("network") for setting in entry.search)
            assert set(entry.space.stored(entry.settings)) == set(entry.search), entry  # its own settings come first
            if entry.algorithm != "maximum-likelihood":
                assert "num_envs" in entry.search


@pytest.mark.parametrize("name", config_names("race"))
def test_every_shipped_race_is_valid(name):
    config = parse_race([name])
    assert config.name == name
    for entry in config.entries.values():
        assert entry.algorithm in ALGORITHMS
    if config.env.corpus in ("zh", "en"):  # others are the user's own
        assert World.of(config.env).target.tracks_states


def test_some_entries_alone():
    every, some = parse_race(["race-markov"]), parse_race(["race-markov", "--only=[GRPO, 'TokenLM soft DQN, corpus']"])
    assert list(some.entries) == ["GRPO", "TokenLM soft DQN, corpus"]
    assert all(some.entries[name] == every.entries[name] for name in some.entries)


def test_the_table_says_when_the_best_had_what_the_second_ends_with(race):
    _, result = race
    rows = {name: dict(result["rows"]["PPO"]) for name in ("fast", "slow")}
    for name, score, steps in (("fast", 0.9, 500.0), ("slow", 0.6, 400.0)):
        rows[name]["seconds"] = {**rows[name]["seconds"], "score": [score] * 3, "env_steps": steps}
    ahead = [{"first": "fast", "second": "slow", "difference": 0.3, "p": 0.004, "pairs": 5, "ahead": True}]
    curve = [{"seconds": s, "env_steps": 10 * s, "score": s / 10} for s in range(1, 10)]
    runs = {"fast": {"seconds": [{"rows": curve}]}, "slow": {"seconds": [{"rows": []}]}}
    race = {**result["race"], "max_seconds": 30.0}
    raced = {"race": race, "rows": rows, "references": {}, "runs": runs, "comparisons": {"seconds": ahead}}
    text = table(raced)
    sentence = (
        "fast first had the 0.600 that slow ends with after 6 s, 1/5 of the time, and 60 steps, where slow took 400."
    )
    assert sentence in text
    race["max_seconds"] = 8.0
    text = table(raced)
    assert "after 6 s, 0.75 of the time" in text
    assert "After 8 s fast is ahead of slow (p = 0.004)." in text
    level = {"seconds": [{**ahead[0], "p": 0.02, "ahead": False}]}
    text = table({**raced, "comparisons": level})
    assert "ahead of" not in text
    assert "first had" not in text
    assert "After 8 s not told apart from fast: slow (p = 0.02)." in text
    assert "first had" not in table({**raced, "rows": {"fast": rows["fast"]}, "comparisons": {}})


def test_a_race_says_first_how_long_it_takes_at_most(tmp_path):
    """Three worlds, two seeds: 12 runs of each leg, 2 x 3 trials of 20 s; the oracle learns nothing."""
    entries = {name: ENTRIES[name] for name in ("ours", "ours, corpus")} | {"best": EntryConfig("oracle")}
    config = RaceConfig(
        env=TINY, entries=entries, worlds=[0, 1, 2], tuning_worlds=[100, 101], seeds=2, trials=3, max_seconds=60.0,
        total_steps=1000, search_share=1 / 3, processes=2, output=str(tmp_path),
    )  # fmt: skip
    assert parts_of(config) == [
        Part("trial", 6, 20.0), Part("pace", 0, 10.0), Part("steps", 12, 60.0), Part("seconds", 12, 60.0)
    ]  # fmt: skip
    assert estimate(config).startswith("30 runs are left, 2 side by side: at most 13 min of learning, less where")
    done = ["ours--trial--0--100", "ours--steps--1--0", "ours, corpus--seconds--2--1", "best--steps--0--0"]
    assert estimate(config, done).startswith("27 runs are left, 2 side by side: at most 12 min")
    plain = dataclasses.replace(config, defaults=True, legs=["seconds"], max_seconds=9.0)
    assert plain.searched() == {}
    assert [part for part in parts_of(plain) if part.runs] == [Part("seconds", 12, 9.0)]
    assert estimate(plain) == ("12 runs are left, 2 side by side: at most 54 s of learning; evaluations come on top")
    foreign = dataclasses.replace(plain, entries={"PPO": ENTRIES["PPO"]}, defaults=False)
    assert parts_of(foreign)[1] == Part("pace", 1, 9.0)
    assert [duration(s) for s in (0.4, 99.0, 100.0, 5_900.0, 8_640.0, 4_000_000.0)] == [
        "0 s", "99 s", "2 min", "98 min", "2 h 24 min", "1,111 h 7 min",
    ]  # fmt: skip


def test_a_race_of_defaults_says_how_long(tmp_path, capsys):
    config = RaceConfig(
        name="short", env=TINY, entries={"ours": ENTRIES["ours"]}, defaults=True, legs=["steps"], seeds=1,
        total_steps=64, evaluations=2, episodes=2, documents=2, output=str(tmp_path),
    )  # fmt: skip
    runner = Race(config)
    runner.runs.mkdir(parents=True)
    for job in runner._jobs({"ours": {"settings": {}}}, "steps").values():
        job.run()
    runner.run()
    assert "0 runs are left, 2 side by side: at most 0 s of learning" in capsys.readouterr().out


def test_a_table_without_runs_still_prints():
    empty = {"seeds": 0, "score": None, "return": None, "kl": None, "perplexity": None, "env_steps": None,
             "seconds": None, **{f"{u} to {v}": None for u in ("seconds", "env_steps") for v in (0.5, 0.9, 0.98)}}  # fmt: skip
    row = {"class": "From rewards alone", "trials": 0, "error": "gone", "steps": empty, "seconds": empty}
    race = {"max_seconds": 1.0, "total_steps": 10, "seeds": 1, "threads": 1, "processes": 1}
    assert "(failed: gone)" in table({"race": race, "rows": {"a": row}, "references": {}})


MISTAKES = [
    (["race", "race-markow"], "no configuration 'race-markow'; did you mean 'race-markov'"),
    (["race", "race-markov", "--only=[SB3 DQM]"], "has no entry 'SB3 DQM'; did you mean 'SB3 DQN'"),
    (["race", "race-markov", "--seeds=0"], "seeds must be at least 1, not 0"),
    (["train", "quickstart", "--algorithm=sb3-pqo"], "algorithm 'sb3-pqo' is unknown; did you mean 'sb3-ppo'"),
    (["train", "quickstart", "--algorithm=nowhere:Agent"], "there is no module 'nowhere' on the path"),
    (["train", "quickstart", "--algorithm=tokenlm.agents:Nobody"], "the module tokenlm.agents has no 'Nobody'"),
    (["train", "quickstart", "--algorithm_settings.a=1"], "algorithm_settings (a) are for other algorithms"),
    (
        ["train", "sb3-ppo", "--algorithm_settings.n_steps.a=1"],
        "no setting algorithm_settings.n_steps.a: algorithm_settings.n_steps is 64, which has none",
    ),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_mistakes_end_with_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_no_agent_is_refused_by_what_it_lacks(tmp_path, monkeypatch):
    text = "class Nothing:\n    def __init__(self, env, seed, device):\n        self.env_steps = 0\n"
    (tmp_path / "nothing.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="'nothing:Nothing' is no Agent: it lacks learn, predict, log_probs"):
        make("nothing:Nothing", TINY, 0)


def test_every_algorithm_named_has_a_class():
    for name in ALGORITHMS:
        if not name.startswith(("tianshou", "torchrl", "rllib")):
            assert {"learn", "predict", "log_probs"} <= set(dir(algorithm(name))), name


@pytest.mark.parametrize("name", ["sb3-ppo", "reinforce"])
def test_another_algorithm_trains_from_the_command_line(name, tmp_path, capsys):
    main(
        [
            "train", name, f"--output={tmp_path}", "--total_steps=512", "--evaluations=2", "--evaluation_episodes=4",
            "--evaluation_documents=5", "--algorithm_settings.num_envs=8", "--env.vocab_size=12",
            "--env.max_new_tokens=4", "--env.context_length=5", "--algorithm_settings.network.embedding_size=8",
            "--algorithm_settings.network.hidden_size=16",
        ]
    )  # fmt: skip
    folder = tmp_path / name
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["env_steps"] == 0
    assert rows[-1]["env_steps"] >= 512
    assert np.isfinite(rows[-1]["greedy_return"])
    assert {"curves.png", "samples.txt", "summary.json", "weights.safetensors"} <= {p.name for p in folder.iterdir()}
    capsys.readouterr()
    main(["evaluate", str(folder), "--json", "--episodes=4"])
    assert json.loads(capsys.readouterr().out)["env_steps"] == rows[-1]["env_steps"]
    main(["generate", str(folder), "--count=2", "--temperature=0"])
    written = capsys.readouterr().out.splitlines()
    assert len(written) == 2
    assert written[0] == written[1]
    assert parse_run([str(folder / "config.yaml")]).algorithm == name


def test_an_algorithm_of_ones_own_lies_in_the_folder_the_command_is_called_in(tmp_path):
    example = next(e for e in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class Bandit" in e)
    (tmp_path / "bandit.py").write_text(example, encoding="utf-8")
    command = "from tokenlm.agents.runs.algorithms import algorithm; print(algorithm('bandit:Bandit').__name__)"
    found = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-c", command],
        cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert found.stdout.strip() == "Bandit"
