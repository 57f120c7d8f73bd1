"""A search of settings: what the sampler finds, what survives a kill, what is refused, what comes out."""

import csv
import dataclasses
import inspect

import numpy as np
import pytest
import stable_baselines3
import yaml

from tokenlm.agents import RunConfig
from tokenlm.agents.runs.algorithms import algorithm
from tokenlm.agents.runs.figures import make_agent
from tokenlm.agents.runs.search import Space, TuneConfig
from tokenlm.agents.runs.search import tune as tuning
from tokenlm.agents.runs.search.config import applied
from tokenlm.agents.runs.search.report import best_trial, importance
from tokenlm.agents.runs.search.space import Choices, Range, nested
from tokenlm.agents.runs.search.study import ask, finished, new_study
from tokenlm.agents.runs.search.tune import Tune
from tokenlm.cli import main
from tokenlm.envs import EnvConfig
from tokenlm.parsing import config_names, default_space, parse_run, parse_tune, read_space

TINY = EnvConfig(
    target="markov", order=2, vocab_size=8, max_new_tokens=4, context_length=5, ending="fixed", prompt_length=(0, 0)
)
NETWORK = {"name": "lstm", "embedding_size": 4, "hidden_size": 8}
SPACE = Space.of({"learning_rate.start": {"low": 1e-3, "high": 1e-1, "log": True}, "batch_size": [4, 8]})


def small(output, **changes) -> TuneConfig:
    agent = RunConfig().agent.of(None, {"network": NETWORK, "num_envs": 8, "batch_size": 4, "learning_starts": 0})
    run = RunConfig(
        name="tiny", env=TINY, agent=agent, total_steps=96, evaluations=2, evaluation_documents=4,
        evaluation_episodes=4, baseline_seconds=0.0, output=str(output), device="cpu",
    )  # fmt: skip
    return TuneConfig(run, **{"space": SPACE, "trials": 3, **changes})


def states(study):
    return [trial.state.name for trial in study.trials]


def test_a_space_reads_yaml():
    space = Space.of({"a": [1, 2], "b": {"low": 1, "high": 9}, "c.d": {"low": 0.1, "high": 1.0, "log": True}})
    assert space.parts == {"a": Choices((1, 2)), "b": Range(1, 9), "c.d": Range(0.1, 1.0, True)}
    assert space.parts["b"].is_whole
    assert not space.parts["c.d"].is_whole
    assert Space.of({"a": [1, 2], "b": {"low": 1, "high": 9}}).size == 18
    assert nested({"c.d": 1, "c.e": 2, "a": 3}) == {"a": 3, "c": {"d": 1, "e": 2}}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ([], "x in the space of a search has no choices"),
        (3, r"x in the space of a search must be a list of choices or \{low: …, high: …, log: true\}, not 3"),
        ({"low": 1}, "must be a list of choices or"),
        ({"low": 2, "high": 1}, "must have numbers low < high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "must have a low above 0 because its logarithm is searched, not 0.0"),
    ],
)
def test_a_part_that_is_no_space_is_refused(part, message):
    with pytest.raises(ValueError, match=message):
        Space.of({"x": part})


def test_a_study_stores_what_the_space_means():
    networks = [{"name": "lstm", "hidden_size": 8}, {"name": "transformer"}]
    space = Space.of({"network": networks, "rate": {"low": 0.1, "high": 1.0}, "on": [True, False]})
    # A choice is held by settings that have all it names; a value outside of its range is none.
    held = space.stored({"network": {"name": "lstm", "hidden_size": 8, "skip": True}, "rate": 2.0, "on": 1})
    assert space.settings(held) == {"network": networks[0]}
    trial, chosen = ask(new_study(space, {"network": networks[1], "rate": 0.5, "on": False}, 3), space, 3)
    assert chosen == {"network": networks[1], "rate": 0.5, "on": False}
    assert space.settings(trial.params) == chosen


def bowl(chosen):
    """Largest, 0, at x = 0.01 (on a logarithmic scale) and y = 3."""
    return -((np.log10(chosen["x"]) + 2.0) ** 2) - 0.1 * (chosen["y"] - 3) ** 2


BOWL = Space.of({"x": {"low": 1e-5, "high": 1.0, "log": True}, "y": {"low": -10, "high": 10}})


def searched(trials, seed):
    study = new_study(BOWL, {}, trials)
    for _ in range(trials):
        trial, chosen = ask(study, BOWL, trials, (seed,))
        study.tell(trial, bowl(chosen))
    return study


def test_a_space_takes_in_the_values_of_the_first_trial():
    space = Space.of({"a": [1, 2], "b": {"low": 1, "high": 9}, "c.d": {"low": 0.1, "high": 1.0, "log": True}})
    wider = space.holding({"a": 3, "b": 20, "c": {"d": 0.02}})
    assert wider.parts == {"a": Choices((1, 2, 3)), "b": Range(1, 20), "c.d": Range(0.02, 1.0, True)}
    assert wider.stored({"a": 3, "b": 20, "c": {"d": 0.02}}) == {"a": 3, "b": 20, "c.d": 0.02}
    assert space.holding({"a": 2, "b": 2.5, "c": {"d": -1.0}}) == space  # what a part cannot have changes nothing


def test_a_search_beats_random_draws_of_the_same_number():
    trials, found, drawn = 30, [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        drawn.append(max(bowl({"x": 10 ** rng.uniform(-5, 0), "y": rng.integers(-10, 11)}) for _ in range(trials)))
        found.append(best_trial(searched(trials, seed)).value)
    assert np.mean(found) > 0.5 * np.mean(drawn)  # both are negative: half as far from the top
    assert max(found) > -0.05


def test_the_settings_of_a_trial_depend_on_the_seed_and_on_those_before_alone():
    one, same, other = (searched(6, seed) for seed in (3, 3, 4))
    assert [t.params for t in one.trials] == [t.params for t in same.trials]
    assert [t.params for t in one.trials] != [t.params for t in other.trials]
    assert len({tuple(t.params.values()) for t in one.trials}) == 6


def test_importance_knows_which_setting_matters():
    space = Space.of({"x": {"low": 0.0, "high": 1.0}, "idle": {"low": 0.0, "high": 1.0}})
    study = new_study(space, {}, 20)
    for _ in range(20):
        trial, chosen = ask(study, space, 20)
        study.tell(trial, -((chosen["x"] - 0.3) ** 2))
    found = importance(study)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["x"] > 0.7


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search that Ctrl-C ends in its second trial, and the same that goes on to its end."""
    config, begun = small(tmp_path_factory.mktemp("runs")), []
    train = tuning.run_trial.__globals__["train_part"]

    def interrupted(run, look):
        begun.append(run)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(run, look)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tuning.run_trial.__globals__, "train_part", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Tune(config, quiet=True).run()
        stopped = states(Tune(config)._study())
        chosen = Tune(config, quiet=True).run()
    return config, begun, stopped, chosen


def test_a_search_goes_on_after_a_stop_with_the_same_number_of_trials(tuned):
    config, _, stopped, _ = tuned
    assert stopped == ["COMPLETE", "RUNNING"]
    study = Tune(config)._study()
    assert finished(study) == config.trials
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[2].params == study.trials[1].params
    assert Tune(dataclasses.replace(config, trials=3), quiet=True).run() == tuned[3]  # nothing left to do
    assert len(Tune(config)._study().trials) == 4


def test_trials_never_see_the_world_that_is_reported(tuned):
    config, begun, _, _ = tuned
    assert {run.env.target_seed for run in begun} == {100}
    assert {run.total_steps for run in begun} == {32}  # a third
    assert config.run.seed not in {run.seed for run in begun}
    with pytest.raises(ValueError, match="target seed 0 is reported, so nothing may be tuned on it"):
        dataclasses.replace(config, worlds=[100, 0])
    assert [part.env.target_seed for part in small("x", worlds=[100, 7]).parts] == [100, 7]
    corpus = dataclasses.replace(config.run, env=EnvConfig(corpus="zh"))
    assert [part.env for part in TuneConfig(corpus, space=SPACE).parts] == [corpus.env]


def test_the_first_trial_is_the_configuration_itself(tuned):
    study = Tune(tuned[0])._study()
    assert study.trials[0].params == {"learning_rate.start": 4e-3, "batch_size": 4}


def test_the_best_is_a_configuration_that_trains(tuned):
    config, _, _, chosen = tuned
    folder = Tune(config).folder
    best = parse_run([str(folder / "best.yaml")])
    assert best == dataclasses.replace(applied(config.run, chosen), name="tiny-tuned")
    assert best.agent.learning_rate.start == chosen["learning_rate.start"]
    assert best.agent.learning_rate.end == config.run.agent.learning_rate.end
    assert best.env == config.run.env
    agent = make_agent(best)
    agent.train(best.total_steps)
    assert agent.num_steps >= best.total_steps


def test_every_trial_is_a_line_of_the_table(tuned):
    config, *_ = tuned
    folder = Tune(config).folder
    rows = list(csv.DictReader((folder / "trials.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["state"] for row in rows] == ["complete", "fail", "complete", "complete"]
    values = [float(row["perplexity"]) for row in rows if row["perplexity"]]
    assert len(values) == 3
    assert f"perplexity {min(values):.5g}" in (folder / "best.yaml").read_text(encoding="utf-8")
    for name in ("importance.png", "slices.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_another_search_does_not_go_on_in_the_same_folder(tuned):
    config, *_ = tuned
    with pytest.raises(ValueError, match="holds a search with another share; give the same to go on"):
        Tune(dataclasses.replace(config, share=0.5), quiet=True).run()
    with pytest.raises(ValueError, match="the agent has no setting 'batch_sise'; did you mean 'batch_size'"):
        dataclasses.replace(config, space=Space.of({"batch_sise": [1, 2]}))


def test_settings_that_fail_have_a_reason_and_count(tmp_path):
    config = small(tmp_path, space=Space.of({"network": [NETWORK, {"name": "tabular"}]}), trials=2)
    run = dataclasses.replace(
        config.run, env=dataclasses.replace(TINY, vocab_size=20)
    )  # 16⁴ prefixes are too many for a table
    config = dataclasses.replace(config, run=run)
    tune = Tune(config, quiet=True)
    tune.run()
    study = tune._study()
    assert finished(study) == 2
    for trial in study.trials:
        failed = trial.params["network"] == '{"name": "tabular"}'
        assert (trial.state.name == "FAIL") == failed
        assert ("is too large" in trial.user_attrs.get("reason", "")) == failed


def test_a_hopeless_trial_is_ended_early(tmp_path):
    config = small(tmp_path, trials=2)
    study = new_study(config.space, {}, 9, prunes=True)
    for value in (5.0, 4.0, 3.0, 2.0, 1.0):
        trial, _ = ask(study, config.space, 9)
        for step in range(1, 5):
            trial.report(value, step)
        study.tell(trial, value)
    bad, _ = ask(study, config.space, 9)
    decided = []
    for step in range(1, 5):
        bad.report(2.5, step)
        decided.append(bad.should_prune())
    assert decided == [False, True, True, True]  # the median is 3; the first evaluation says too little


@pytest.mark.slow
def test_workers_share_the_trials(tmp_path):
    config = small(tmp_path, trials=4, workers=2)
    tune = Tune(config, quiet=True)
    tune.run()
    study = tune._study()
    assert finished(study) == len(study.trials) == 4
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 4


def test_spaces_that_are_shipped_hold_settings_of_their_algorithms(tmp_path):
    parse_tune(["markov"])  # refuses names that our learner does not have
    for name in ("sb3-ppo", "sb3-a2c", "sb3-dqn", "reinforce", "grpo"):
        kind = algorithm(name)
        library = getattr(stable_baselines3, kind.algorithm, None) if hasattr(kind, "algorithm") else None
        known = {"num_envs", "normalize_reward", *(inspect.signature(library).parameters if library else kind.defaults)}
        names = {part for part in default_space(name).parts if not part.startswith("network.")}
        assert names <= known, name
    assert all(read_space(name).size > 50 for name in config_names("search"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"space": {"n_steps": [8, 16]}}), encoding="utf-8")
    mine = parse_tune(["sb3-ppo", f"--space={tmp_path / 'mine.yaml'}", "--trials", "4", "--worlds=[101, 102]"])
    assert (mine.trials, list(mine.worlds), list(mine.space.parts)) == (4, [101, 102], ["n_steps"])
    assert applied(mine.run, {"n_steps": 8}).algorithm_settings == {**mine.run.algorithm_settings, "n_steps": 8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune", "markov", "--trials=0"], "trials must be at least 1, not 0"),
        (["tune", "markov", "--trails=3"], "there is no field 'trails'; did you mean 'trials'"),
        (["tune", "markov", "--space=serch-dqn"], "no configuration 'serch-dqn'; did you mean 'search-dqn'"),
        (["tune", "rllib-ppo"], "no space of settings is shipped for the algorithm 'rllib-ppo'"),
        (["tune", "markov", "--worlds=[0]"], "the world of target seed 0 is reported"),
    ],
)
def test_mistakes_end_with_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
