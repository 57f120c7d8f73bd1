"""References train, race and evaluate like any other algorithm, and get what they should."""

import dataclasses
import json
import os

import gymnasium as gym
import numpy as np
import pytest

import tokenlm  # noqa: F401
from tokenlm.agents import Agent, RunConfig, evaluate, play
from tokenlm.agents.evaluation import trivial_returns
from tokenlm.agents.evaluation.exact import exact_score
from tokenlm.agents.runs.algorithms import ALGORITHMS, load, make
from tokenlm.agents.runs.race import EntryConfig
from tokenlm.agents.runs.training import Run, load_run
from tokenlm.envs import EnvConfig, NotExact, Oracle, World
from tokenlm.envs.bounds import beam_search
from tokenlm.envs.trivial import start_distribution

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=9, max_new_tokens=4, context_length=7, ending="fixed", prompt_length=(0, 2)
)
ENDS = dataclasses.replace(CHAIN, ending="eos", min_new_tokens=2)
WORLDS = {"fixed": CHAIN, "eos": ENDS, "one prompt": dataclasses.replace(CHAIN, prompt_length=(0, 0))}
NAMES = ("constant", "same-text", "beam", "oracle", "unigram", "table", "bandit", "reward-model")


@pytest.mark.parametrize("world", WORLDS)
def test_what_is_told_p_star_gets_what_it_should(world):
    env = WORLDS[world]
    trivial = trivial_returns(env)
    oracle = Oracle.of(World.of(env), env)
    played = {name: play(make(name, env, 0), World.of(env), env, 300, 0, 0.0) for name in ("oracle", "beam")}
    for name, result in played.items():
        best = oracle.optimal_return(result.prefixes)
        found = beam_search(World.of(env), env, result.prefixes, 10).log_probs
        np.testing.assert_allclose(result.returns, best if name == "oracle" else found, atol=1e-9)
    for name, value in (
        ("constant", max(trivial["constant"], trivial.get("constant_eos", -np.inf))),
        ("same-text", trivial.get("same_text")),
    ):
        if value is not None:
            returns = play(make(name, env, 0), World.of(env), env, 300, 0, 0.0).returns
            assert returns.mean() == pytest.approx(value, abs=5 * returns.std() / np.sqrt(300) + 1e-9)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("world", ["one prompt", "eos"])
def test_the_oracle_has_no_regret(world, temperature):
    agent = make("oracle", WORLDS[world], 0, temperature=temperature)
    result = evaluate(agent, episodes=40, documents=4)
    assert result["temperature"] == temperature
    assert result["regret"] == pytest.approx(0.0, abs=1e-9)
    if world == "one prompt" and temperature:
        assert exact_score(agent).soft_regret == pytest.approx(0.0, abs=1e-9)


def test_a_table_certifies_the_optimum_and_a_bandit_does_not_plan():
    env = WORLDS["one prompt"]
    table = make("table", env, 0).learn(2_000)
    assert table.env_steps >= 2_000
    assert table.gap == pytest.approx(0.0, abs=1e-9)
    assert table.figures()["certified_gap"] == pytest.approx(0.0, abs=1e-9)
    assert evaluate(table, episodes=4, documents=2)["greedy_regret"] == pytest.approx(0.0, abs=1e-9)
    bandit = make("bandit", env, 0).learn(2_000)
    greedy = beam_search(World.of(env), env, np.array([[0] * 6 + [2]]), 1).log_probs[0]
    assert play(bandit, World.of(env), env, 1, 0, 0.0).returns[0] == pytest.approx(greedy, abs=1e-9)


@pytest.mark.parametrize("world", ["fixed", "eos"])
def test_the_optimism_of_a_table_is_an_upper_bound(world):
    env = WORLDS[world]
    oracle = Oracle.of(World.of(env), env)
    best = oracle.optimal_return(start_distribution(oracle).prefixes).max()
    for steps in (16, 200, 1_000):
        table = make("table", env, 0).learn(steps)
        values = table._plan(table._rewards(optimistic=True))[0]
        assert values.max() >= best - 1e-9
        assert table.gap >= -1e-9


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_table_learns_the_soft_optimum(temperature):
    env = WORLDS["one prompt"]
    table = make("table", env, 0, temperature=temperature).learn(4_000)
    assert exact_score(table).soft_regret < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_they_train_save_and_evaluate_like_any_other(name, tmp_path):
    env = ENDS
    assert isinstance(make(name, env, 0), Agent)
    config = RunConfig(
        name="run", env=env, algorithm=name, total_steps=200, evaluations=1, evaluation_documents=3,
        evaluation_episodes=4, samples=1, baseline_seconds=0.0, output=str(tmp_path), device="cpu",
    )  # fmt: skip
    summary = Run(config, quiet=True).train()
    agent, _ = load_run(tmp_path / "run", device="cpu")
    again = evaluate(agent, split="test", episodes=4, seed=0)
    for figure in ("greedy_return", "greedy_regret", "regret", "normalized_score"):
        assert again[figure] == pytest.approx(summary[figure], abs=1e-9), figure
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["greedy_regret"] >= -1e-9
    assert agent.generate("", seed=0)


def test_they_count_what_they_write_outside_too():
    env = WORLDS["fixed"]
    agent = make("beam", env, 0)
    single = gym.make("TokenLM-v0", config=env).unwrapped
    for seed in range(5):
        observation, _ = single.reset(seed=seed)
        first, state, total, over = observation, None, 0.0, False
        while not over:
            action, state = agent.predict(observation, state, deterministic=True, action_masks=single.action_masks())
            observation, reward, terminated, truncated, _ = single.step(int(action))
            total, over = total + reward, terminated or truncated
        assert total == pytest.approx(beam_search(single.world, env, first[None], 10).log_probs[0], abs=1e-9)


def test_races_tell_them_apart():
    sources = {name: EntryConfig(name).source for name in (*NAMES, "maximum-likelihood")}
    assert sources == {
        **dict.fromkeys(("constant", "same-text", "beam", "oracle"), "p*"),
        **dict.fromkeys(("unigram", "maximum-likelihood"), "corpus"),
        **dict.fromkeys(("table", "bandit", "reward-model"), "rewards"),
    }
    assert set(NAMES) <= set(ALGORITHMS)


def test_a_setting_of_another_version_is_named(tmp_path):
    make("beam", CHAIN, 0).save(tmp_path)
    saved = json.loads((tmp_path / "agent.json").read_text(encoding="utf-8"))
    saved["settings"]["updates"] = 8
    (tmp_path / "agent.json").write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"of another version: .*unexpected keyword argument 'updates'; train it again"
    ):
        load("beam", tmp_path, CHAIN)


def test_what_they_cannot_do_is_said(tmp_path):
    with pytest.raises(ValueError, match="a table of rewards needs one for every token"):
        make("table", dataclasses.replace(CHAIN, reward_every=0), 0)
    with pytest.raises(ValueError, match="is too large"):
        make("table", CHAIN, 0, context=12)
    with pytest.raises(ValueError, match="context must be at least 0"):
        make("table", CHAIN, 0, context=-1)
    with pytest.raises(ValueError, match="unexpected keyword argument 'width'; leave this setting out"):
        make("beam", CHAIN, 0, width=3)
    with pytest.raises(NotExact, match="no constant text is allowed"):
        make("constant", dataclasses.replace(CHAIN, no_repeat=1), 0)
    with pytest.raises(NotExact, match="contextual bandit"):
        make("oracle", dataclasses.replace(CHAIN, transition="teacher"), 0)
    with pytest.raises(ValueError, match="temperature must be 0"):
        make("oracle", CHAIN, 0, temperature=-1.0)
    make("table", CHAIN, 0).save(tmp_path)
    with pytest.raises(ValueError, match=r"has the shape .*, not .* as here"):
        load("table", tmp_path, dataclasses.replace(CHAIN, vocab_size=8))


def npz(path, **changed):
    arrays = {
        "sums": np.zeros((1, 5, 5)), "counts": np.zeros((1, 5, 5), np.int64), "starts": np.zeros(1, np.int64),
        "env_steps": np.array(3),
    }  # fmt: skip
    np.savez_compressed(path, **{name: value for name, value in {**arrays, **changed}.items() if value is not None})


DAMAGE = {
    "no archive": (lambda path: path.write_bytes(b"x" * 99), "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe or a device, not a file"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a bomb": (lambda path: npz(path, sums=np.zeros(1 << 24)), "at most 1,0[0-9]{2},[0-9]{3} belong there"),
    "objects": (lambda path: npz(path, starts=np.array([{}], object)), "is damaged"),
    "no counts": (lambda path: npz(path, counts=None), "is damaged"),
    "text": (lambda path: npz(path, env_steps=np.array("3")), "env_steps has entries of type <U1"),
    "many steps": (lambda path: npz(path, env_steps=np.zeros(2, np.int64)), "its starts are not contexts"),
    "no context": (lambda path: npz(path, starts=np.array([-1])), "its starts are not contexts"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as files")
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_hostile_table_is_refused_with_one_sentence(kind, tmp_path):
    make("table", CHAIN, 0).save(tmp_path)
    path = tmp_path / "table.npz"
    path.unlink()
    write, sentence = DAMAGE[kind]
    write(path)
    with pytest.raises(ValueError, match=sentence) as caught:
        load("table", tmp_path, CHAIN)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", '{"settings": 3}'])
def test_hostile_settings_are_refused_with_one_sentence(text, tmp_path):
    make("table", CHAIN, 0).save(tmp_path)
    (tmp_path / "agent.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"agent\.json is damaged: it holds no settings"):
        load("table", tmp_path, CHAIN)
