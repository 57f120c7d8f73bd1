"""Exact scores: enumeration against the oracle and against sampling."""

import dataclasses
import itertools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents import DQN, Schedule, evaluate, play
from tokenlm.agents.evaluation.claims import supported_claims
from tokenlm.agents.evaluation.exact import every_text, exact_score, log_policy, score_distribution
from tokenlm.envs import EnvConfig, Oracle, World, solver

TINY = gym.make("TokenLM-Tiny-v0").unwrapped.config
EOS = dataclasses.replace(TINY, ending="eos", min_new_tokens=1)


def untrained(env: EnvConfig, seed: int = 1) -> DQN:
    agent = DQN(env, network={"embedding_size": 8, "hidden_size": 16}, seed=seed)
    with torch.no_grad():
        agent.network.head.weight.mul_(60)
    return agent


@pytest.mark.parametrize("env", [TINY, EOS], ids=["fixed", "eos"])
def test_all_texts_have_all_the_probability(env):
    texts = every_text(World.of(env), env)
    assert np.exp(texts.log_target).sum() == pytest.approx(1.0, abs=1e-12)
    assert len({tuple(t) for t in texts.tokens.tolist()}) == len(texts.tokens)
    expected = 3**4 if env is TINY else 3 + 9 + 27 + 81
    assert len(texts.tokens) == expected
    for temperature in (0.4, 1.0):
        assert np.exp(log_policy(untrained(env), texts, temperature)).sum() == pytest.approx(1.0, abs=1e-6)


def test_texts_come_from_every_prompt():
    texts = every_text(World.of(TINY), TINY, [5, 7])
    assert texts.prompt.tolist() == [2, 5, 7]
    assert np.exp(texts.log_target).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("env", [TINY, EOS], ids=["fixed", "eos"])
def test_exact_scores_agree_with_sampling(env):
    agent = untrained(env)
    score = exact_score(agent)
    played = play(agent, agent.world, env, 20_000, 0, 1.0)
    error = played.kl.std() / math.sqrt(20_000)
    assert score.kl_to_target == pytest.approx(played.kl.mean(), abs=5 * error)
    error = played.returns.std() / math.sqrt(20_000)
    assert score.expected_return == pytest.approx(played.returns.mean(), abs=5 * error)
    assert score.greedy_return == pytest.approx(play(agent, agent.world, env, 1, 0, 0.0).returns[0], abs=1e-9)


def test_the_soft_regret_at_temperature_one_is_the_divergence():
    score = exact_score(untrained(TINY), temperature=1.0)
    assert score.soft_regret == pytest.approx(score.kl_to_target, abs=1e-9)
    assert score.soft_return == pytest.approx(-score.kl_to_target, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_optimal_distribution_has_no_regret(temperature):
    world = World.of(TINY)
    texts = every_text(world, TINY)
    weights = np.exp(texts.log_target / temperature)
    log_pi = np.log(weights / weights.sum())
    score = score_distribution(world, TINY, texts, log_pi, log_pi, temperature)
    assert score.soft_regret == pytest.approx(0.0, abs=1e-12)
    assert score.total_variation == pytest.approx(0.0, abs=1e-12)
    assert score.greedy_regret == pytest.approx(0.0, abs=1e-12)
    assert score.greedy_score == pytest.approx(1.0)
    value = Oracle(world, TINY).optimal_value(np.array([0, 0, 0, 0, 2]), temperature=temperature)
    assert score.soft_return == pytest.approx(value, abs=1e-12)


def test_a_wrong_distribution_by_hand():
    """π even over the 81 texts: both divergences from their definition."""
    world = World.of(TINY)
    texts = every_text(world, TINY)
    log_pi = np.full(81, -math.log(81))
    score = score_distribution(world, TINY, texts, log_pi, log_pi, 1.0)
    p = np.exp(texts.log_target)
    assert score.kl_from_target == pytest.approx(float((p * np.log(p * 81)).sum()))
    assert score.kl_to_target == pytest.approx(float(-np.log(p * 81).mean()))
    assert score.total_variation == pytest.approx(0.5 * np.abs(p - 1 / 81).sum())
    assert score.expected_return == pytest.approx(Oracle(world, TINY).expected_return("random", [[0, 0, 0, 0, 2]])[0])


def test_evaluation_carries_exact_figures_intervals_and_claims():
    agent = untrained(TINY)
    result = evaluate(agent, episodes=400)
    assert result["exact"]["kl_to_target"] == pytest.approx(exact_score(agent).kl_to_target)
    low, high = result["kl_to_target_ci"]
    assert low < result["kl_to_target"] < high
    # Sampled with 400 texts, the interval is 1.96 standard errors on either side.
    assert low - (high - low) < result["exact"]["kl_to_target"] < high + (high - low)
    assert "nothing about credit assignment" in result["supports"]
    assert result["optimal_return_bounds"] is None


def test_intervals_cover_what_they_estimate():
    agent = untrained(TINY)
    exact = exact_score(agent).expected_return
    inside = 0
    for seed in range(100):
        low, high = evaluate(agent, episodes=60, documents=2, seed=1_000 * seed)["sampled_return_ci"]
        inside += low < exact < high
    assert inside >= 85  # 95 % of 100, five standard deviations below


@pytest.mark.parametrize(
    ("settings", "temperature", "gamma", "says"),
    [
        ({}, 1.0, 1.0, "nothing about credit assignment"),
        ({}, 1.0, 0.5, "nothing about credit assignment"),
        ({}, 0.0, 1.0, "most likely text needs planning"),
        ({"reward_every": 0}, 1.0, 1.0, "credit assignment over the whole text"),
        ({"reward_every": 3}, 0.5, 1.0, "credit assignment over 3 tokens"),
        ({"reward_every": 0}, 1.0, 0.9, "nothing about language modelling"),
        ({"transition": "teacher"}, 1.0, 0.0, "nothing about sequential decisions"),
    ],
)
def test_each_setting_says_what_it_supports(settings, temperature, gamma, says):
    assert says in supported_claims(dataclasses.replace(TINY, **settings), temperature, gamma)


def test_too_many_texts_are_refused():
    big = gym.make("TokenLM-Markov-v0").unwrapped.config
    with pytest.raises(ValueError, match="too many to enumerate"):
        every_text(World.of(big), big)


def test_the_lexical_order_of_texts():
    texts = every_text(World.of(TINY), TINY)
    assert texts.tokens.tolist() == [list(t) for t in itertools.product((5, 6, 7), repeat=4)]


def test_an_agent_at_half_temperature_samples_the_square_of_p_star():
    """Identity 5: p*² normalised over whole texts; sharpening p* word by word gives something else."""
    agent = DQN(
        "TokenLM-Tiny-v0", temperature=0.5, corpus_share=0.0, num_envs=16, batch_size=32, learning_starts=64, epsilon=0.3,
        learning_rate=Schedule(2e-2, 1e-4), target_update_rate=0.05, network={"embedding_size": 16, "hidden_size": 32},
    ).learn(9_000)  # fmt: skip
    score = exact_score(agent)
    assert score.total_variation < 0.02
    assert score.soft_regret < 1e-2

    world = agent.world
    texts = every_text(world, TINY)
    local = np.zeros(len(texts.tokens))
    for step in range(4):
        prefix = np.concatenate([np.full((81, 1), 2), texts.tokens[:, :step]], axis=1)
        rows = world.target.log_probs(world.target.track(prefix), np.zeros(81, bool)) / 0.5
        rows = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        local += rows[np.arange(81), texts.tokens[:, step]]
    wrong = score_distribution(world, TINY, texts, local, local, 0.5)
    assert wrong.total_variation > 0.05


def test_bounds_stand_in_for_an_optimum_out_of_reach(monkeypatch):
    agent = untrained(TINY)
    best = evaluate(agent, episodes=8)["optimal_return"]
    monkeypatch.setattr(solver, "MAX_ENTRIES", 1)
    result = evaluate(agent, episodes=8, bounds=True)
    assert result["optimal_return"] is None
    assert result["greedy_score"] is None
    assert result["random_return"] < result["target_return"]
    low, high = result["optimal_return_bounds"]
    assert low - 1e-9 <= best <= high + 1e-9
    trivial = max(result["trivial_returns"].values())
    assert set(result["trivial_returns"]) == {"constant", "unigram_greedy"}  # the others need tables
    lowest, highest = result["greedy_score_bounds"]
    assert lowest - 1e-9 <= (result["greedy_return"] - trivial) / (best - trivial) <= highest + 1e-9 <= 1.0 + 2e-9
