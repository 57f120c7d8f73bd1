"""The reward model: what it keeps are the rewards, its plan is the best text of the model, and it generalises."""

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents import evaluate, play
from tokenlm.agents.baselines import reward_model
from tokenlm.agents.baselines.reward_model import RewardModel
from tokenlm.agents.evaluation.scores import Scale
from tokenlm.agents.runs.algorithms import load, make
from tokenlm.envs import EnvConfig, Oracle, World

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=9, max_new_tokens=4, context_length=7, ending="fixed", prompt_length=(0, 2)
)
ENDS = dataclasses.replace(CHAIN, ending="eos", min_new_tokens=2)
NO_TWICE = dataclasses.replace(CHAIN, no_repeat=1)
SMALL = {"num_envs": 16, "updates": 8, "batch_size": 64, "hidden_size": 32}


@pytest.fixture(scope="module", params=["fixed", "eos", "no_repeat"])
def trained(request):
    env = {"fixed": CHAIN, "eos": ENDS, "no_repeat": NO_TWICE}[request.param]
    return make("reward-model", env, 0, **SMALL).learn(1_500)


def test_it_keeps_what_each_token_earned(trained):
    env, length = trained.env_config, trained.env_config.context_length
    oracle = Oracle.of(World.of(env), env)
    for text, rewards in zip(trained._texts[:200], trained._rewards[:200], strict=True):
        for step, reward in enumerate(rewards[~np.isnan(rewards)]):
            state = oracle.track(text[None, step : step + length])
            ends = np.array([oracle.eos_valid(step)])
            assert reward == pytest.approx(float(oracle.target.log_prob(state, text[[length + step]], ends)[0]))
    assert trained.env_steps == int((~np.isnan(trained._rewards)).sum()) >= 1_500


def test_a_wide_search_finds_the_best_text_of_the_model(trained):
    """By enumeration of all texts, after prompts and after tokens written."""
    env = trained.env_config
    first = np.array([[0, 0, 0, 0, 2, 6, 8], [0, 0, 0, 0, 0, 2, 5]])
    for written, windows in ((0, first), (2, np.concatenate([first[:, 2:], [[7, 5], [6, 7]]], axis=1))):
        found = trained.plan(first, windows, written, 300)
        for row in range(2):
            totals, known = {}, {}
            for text in itertools.product(range(5, 9), repeat=env.max_new_tokens - written):
                for end in range(len(text) + 1):  # a text may end after each of its tokens
                    tokens = [*text[:end], 3][: len(text)] if env.ending == "eos" else list(text)
                    totals[tuple(tokens)] = _modelled(trained, known, first[row], windows[row], written, tokens)
            best = max(totals, key=totals.get)
            assert tuple(found[row][found[row] > 0]) == best
            assert found.shape == (2, env.max_new_tokens - written)


def _modelled(agent, known, first, windows, written, tokens):
    total = 0.0
    for step, token in enumerate(tokens):
        key = windows.tobytes()
        if key not in known:
            with torch.no_grad():
                row = agent._log_probs(agent._averaged, first[None], windows[None], np.array([written + step]))
            known[key] = row[0].tolist()
        total += known[key][token]
        windows = np.append(windows[1:], token)
    return total


def test_plans_of_many_prompts_are_made_in_pieces(trained, monkeypatch):
    first = np.array([[0, 0, 0, 0, 2, word, other] for word in range(5, 9) for other in range(5, 9)])
    whole = trained.plan(first, first, 0, 4)
    monkeypatch.setattr(reward_model, "_ENTRIES", 3 * 4 * 9)  # three prompts
    np.testing.assert_array_equal(trained.plan(first, first, 0, 4), whole)


def test_the_model_sums_to_one_over_the_valid_tokens(trained):
    windows = np.array([[0, 0, 0, 0, 2, 6, 8]])
    for written in (0, 3):
        row = trained._log_probs(trained.network, windows, windows, np.array([written])).exp()[0].detach().numpy()
        assert row.sum() == pytest.approx(1.0, abs=1e-5)
        assert (row[:3] == 0.0).all()
        assert (row[3] > 0.0) == (trained.env_config.ending == "eos" and written >= 2)
        assert (row[8] > 0.0) == (trained.env_config.no_repeat == 0)


def test_it_finds_the_optimum_of_a_small_world(trained):
    assert evaluate(trained, episodes=30, documents=2)["greedy_regret"] == pytest.approx(0.0, abs=0.05)


def test_it_plans_anew_where_another_text_was_begun():
    agent = make("reward-model", CHAIN, 0, **SMALL).learn(300)
    first = np.array([[0, 0, 0, 0, 2, 6, 8]])
    plan = agent.plan(first, first, 0, 16)[0]
    for written in range(4):
        now = np.append(first[0], plan[:written])[None, written:]
        assert agent.state_values(first, now, np.array([written]))[0].argmax() == plan[written]
    other = 5 if plan[0] != 5 else 6
    now = np.append(first[0, 1:], other)[None]
    assert agent.state_values(first, now, np.array([1]))[0].argmax() == agent.plan(first, now, 1, 16)[0, 0]


def test_it_writes_the_same_after_it_was_saved(tmp_path):
    agent = make("reward-model", ENDS, 3, **SMALL).learn(400)
    agent.save(tmp_path)
    again = load("reward-model", tmp_path, ENDS)
    assert again.env_steps == agent.env_steps
    texts = [play(a, World.of(ENDS), ENDS, 40, 0, 0.0).written for a in (agent, again)]
    assert texts[0] == texts[1]
    with pytest.raises(ValueError, match=r"has the shape .*, not .* as here"):
        load("reward-model", tmp_path, dataclasses.replace(ENDS, vocab_size=8))


def test_equal_seeds_learn_the_same():
    agents = [make("reward-model", CHAIN, 5, **SMALL).learn(200) for _ in range(2)]
    np.testing.assert_array_equal(agents[0]._texts, agents[1]._texts)
    for name, value in agents[0].network.state_dict().items():
        torch.testing.assert_close(value, agents[1].network.state_dict()[name], rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        (dataclasses.replace(CHAIN, reward_every=0), {}, "a model of rewards needs one for every token"),
        (dataclasses.replace(CHAIN, transition="teacher"), {}, "a model of rewards needs one for every token"),
        (CHAIN, {"beams": 0}, "beams must be at least 1, not 0"),
        (CHAIN, {"context": 8}, r"context must lie between 0 and context_length \(7\), not 8"),
    ],
)
def test_what_it_cannot_do_is_refused(env, settings, message):
    with pytest.raises(ValueError, match=message):
        RewardModel(env, **settings)


def test_it_has_no_temperature():
    agent = make("reward-model", CHAIN, 0, **SMALL)
    assert agent.temperature == 0.0
    with pytest.raises(ValueError, match="at temperature 0, not 1"):
        agent.policy_temperature(1.0)


@pytest.mark.slow
def test_it_generalises_where_a_table_cannot():
    """On a tuning world of `TokenLM-Factored-v0`, prompts of the test split: near the optimum, a table near 0."""
    env = dataclasses.replace(gym.make("TokenLM-Factored-v0").unwrapped.config, target_seed=101, split="test")
    learned = {name: make(name, dataclasses.replace(env, split="train"), 0) for name in ("reward-model", "table")}
    scores = {}
    for name, agent in learned.items():
        agent.train(100_000)
        played = play(agent, World.of(env), env, 256, 0, 0.0)
        scale = Scale.of(World.of(env), env, played.prefixes)
        scores[name] = scale.score(scale.regret(float(played.returns.mean())))
    assert scores["reward-model"] > 0.8
    assert scores["table"] < 0.1
