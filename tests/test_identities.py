"""The identities that make the optimum known (README, "How it works"), against enumeration of every text."""

import itertools
import math

import numpy as np
import pytest
import torch

from tokenlm.agents.dqn.losses import soft_value, value_bound
from tokenlm.envs import EnvConfig, Episodes, Oracle, World

WORDS, T = (5, 6, 7), 4
TEXTS = np.array(list(itertools.product(WORDS, repeat=T)))


def play_every_text(config: EnvConfig) -> np.ndarray:
    """(81, T) rewards of every text of T words, in the order of TEXTS."""
    episodes = Episodes(World.of(config), config, len(TEXTS))
    episodes.start_from_prompts(np.arange(len(TEXTS)), [[] for _ in TEXTS], None)
    return np.stack([episodes.step(TEXTS[:, t], np.ones(len(TEXTS), bool))[0] for t in range(T)], axis=1)


def markov(reward_every: int = 1, seed: int = 0) -> EnvConfig:
    return EnvConfig(
        target="markov", order=3, vocab_size=8, max_new_tokens=T, context_length=T + 1, ending="fixed",
        prompt_length=(0, 0), reward_every=reward_every, target_seed=seed,
    )  # fmt: skip


def tree(rewards: np.ndarray, temperature: float, gamma: float = 1.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Q*_t of shape (3,)*(t+1) and V*_t of shape (3,)*t by the soft Bellman equation on the tree of all prefixes."""
    shape = (len(WORDS),) * T
    value = np.zeros(shape)
    q_values, values = [], []
    for t in reversed(range(T)):
        # A reward depends on the words up to its own, so any continuation shows it.
        reward = rewards[:, t].reshape(shape)[(..., *[0] * (T - 1 - t))]
        q = reward + gamma * value
        value = soft_value(torch.from_numpy(q), temperature).numpy()
        q_values.insert(0, q)
        values.insert(0, value)
    return q_values, values


def log_p() -> np.ndarray:
    """(81,) log p*(text)."""
    return play_every_text(markov()).sum(1)


def test_p_star_is_a_distribution_over_texts():
    assert np.exp(log_p()).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
def test_dense_at_temperature_one_the_agent_is_the_language_model(gamma):
    q_values, values = tree(play_every_text(markov()), 1.0, gamma)
    for q, value in zip(q_values, values, strict=True):
        np.testing.assert_allclose(value, 0.0, atol=1e-12)
        np.testing.assert_allclose(np.exp(q).sum(-1), 1.0, atol=1e-12)
    first = play_every_text(markov())[:, 0].reshape(3, -1)[:, 0]
    np.testing.assert_allclose(q_values[0], first, atol=1e-12)


def test_reward_at_the_end_makes_q_the_log_probability_of_the_prefix():
    q_values, values = tree(play_every_text(markov(reward_every=0)), 1.0)
    texts = np.exp(log_p()).reshape((3,) * T)
    for t in range(T):
        prefix = texts.sum(axis=tuple(range(t + 1, T)))
        np.testing.assert_allclose(q_values[t], np.log(prefix), atol=1e-12)
        np.testing.assert_allclose(values[t], np.log(prefix.sum(-1)), atol=1e-12)


@pytest.mark.parametrize("every", [0, 2, 3])
def test_the_reward_dial_leaves_the_optimal_policy(every):
    dense, _ = tree(play_every_text(markov()), 0.7)
    dialled, _ = tree(play_every_text(markov(reward_every=every)), 0.7)
    for a, b in zip(dense, dialled, strict=True):
        policies = [np.exp(q / 0.7) / np.exp(q / 0.7).sum(-1, keepdims=True) for q in (a, b)]
        np.testing.assert_allclose(*policies, atol=1e-12)


def test_the_soft_return_is_minus_the_kl_divergence():
    rng = np.random.default_rng(0)
    log_pi = np.zeros((3,) * T)
    for t in range(T):
        logits = rng.normal(size=(3,) * (t + 1))
        step = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        log_pi = log_pi + step.reshape(step.shape + (1,) * (T - 1 - t))
    log_pi = log_pi.ravel()
    pi = np.exp(log_pi)
    soft_return = (pi * (play_every_text(markov()).sum(1) - log_pi)).sum()
    assert soft_return == pytest.approx(-(pi * (log_pi - log_p())).sum(), abs=1e-12)


@pytest.mark.parametrize("every", [1, 0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_temperature_zero_the_optimum_is_the_most_likely_text(every, seed):
    config = markov(every, seed)
    _, values = tree(play_every_text(config), 0.0)
    best = play_every_text(markov(1, seed)).sum(1).max()
    assert values[0] == pytest.approx(best, abs=1e-12)
    prefix = np.array([[0] * T + [2]])
    assert Oracle(World.of(config), config).optimal_return(prefix)[0] == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_other_temperatures_sharpen_whole_texts_not_tokens(temperature):
    q_values, values = tree(play_every_text(markov()), temperature)
    log_text = np.zeros((3,) * T)
    for q, value in zip(q_values, values, strict=True):
        step = (q - value[..., None]) / temperature
        log_text = log_text + step.reshape(step.shape + (1,) * (T - step.ndim))
    power = np.exp(log_p() / temperature)
    np.testing.assert_allclose(np.exp(log_text.ravel()), power / power.sum(), atol=1e-12)
    assert values[0] == pytest.approx(temperature * math.log(power.sum()), abs=1e-12)

    token = np.exp(play_every_text(markov()).reshape(*(3,) * T, T) / temperature)
    local = np.ones((3,) * T)
    for t in range(T):
        step = token[(..., *[0] * (T - 1 - t), t)]
        step = step / step.sum(-1, keepdims=True)
        local = local * step.reshape(step.shape + (1,) * (T - 1 - t))
    assert local.sum() == pytest.approx(1.0)
    assert 0.5 * np.abs(local.ravel() - power / power.sum()).sum() > 0.02


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("every", [1, 2, 0])
def test_values_stay_below_their_bound(temperature, every):
    _, values = tree(play_every_text(markov(every)), temperature)
    for t, value in enumerate(values):
        bound = value_bound(temperature, torch.tensor(T - t), len(WORDS))
        assert (value <= float(bound) + 1e-12).all()


def test_best_text_with_eos_by_enumeration():
    config = EnvConfig(
        target="markov", order=2, vocab_size=8, max_new_tokens=T, context_length=T + 1, prompt_length=(0, 0)
    )
    world = World.of(config)
    best = -np.inf
    for length in range(T):
        texts = (
            np.array(list(itertools.product(WORDS, repeat=length))).reshape(len(WORDS) ** length, length).astype(int)
        )
        texts = np.concatenate([texts, np.full((len(texts), 1), 3)], axis=1)
        episodes = Episodes(world, config, len(texts))
        episodes.start_from_prompts(np.arange(len(texts)), [[] for _ in texts], None)
        total = sum(episodes.step(texts[:, t], np.ones(len(texts), bool))[0] for t in range(length + 1))
        best = max(best, total.max())
    assert Oracle(world, config).optimal_return(np.array([[0] * T + [2]]))[0] == pytest.approx(best, abs=1e-12)


def test_reference_rewards_without_discount_are_affine_in_the_probability():
    config = EnvConfig(
        corpus=("a b", "a c", "a b b", "c b", "b c"), tokenizer="word", target="reference", epsilon=0.2,
        transition="teacher", context_length=4, max_new_tokens=3, prompt_length=(0, 0),
    )  # fmt: skip
    world = World.of(config)
    size = world.vocab_size
    valid = np.flatnonzero(world.valid)
    chance = np.array([0.5, 0.25, 0.125, 0.125])[: len(valid)]
    expected = np.array(valid)
    rewards = np.stack(
        [
            world.target.log_prob(
                np.zeros((len(valid), 4), int), np.full(len(valid), a), np.full(len(valid), True), expected
            )
            for a in valid
        ]
    )  # (action, y)
    q_values = rewards @ chance
    low, high = np.log(0.2 / size), np.log(0.8 + 0.2 / size)
    shift = np.log(1 - 4 * 0.2 / size)
    np.testing.assert_allclose((q_values + shift - low) / (high - low), chance, atol=1e-12)
