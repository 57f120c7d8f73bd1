"""Sequence rewards: the score of the finished text, paid with its last token, the same in every environment."""

import dataclasses
import itertools
import sys
import types

import numpy as np
import pytest
import torch

from tokenlm.envs import (
    EnvConfig,
    NotExact,
    Oracle,
    TokenLMDeviceEnv,
    TokenLMEnv,
    TokenLMVectorEnv,
    Vocabulary,
    World,
    force,
    metrics,
)  # fmt: skip
from tokenlm.envs.sequence_rewards import SCORES

PAIRS = tuple((f"say {a} {b} {c}", f"{a} {c} {b}") for a, b, c in itertools.product("pqrs", repeat=3))
ENV = EnvConfig(
    corpus=PAIRS, tokenizer="word", task="qa", target="reference", context_length=12, max_new_tokens=5,
    sequence_reward="f1", sequence_weight=3.0, log_prob_weight=0.5,
)  # fmt: skip
TINY = EnvConfig(target="markov", order=2, vocab_size=8, max_new_tokens=3, context_length=6, prompt_length=(0, 0))


@pytest.mark.parametrize("every", [1, 2, 0])
@pytest.mark.parametrize("name", SCORES)
def test_it_is_the_weighted_score_added_to_the_last_reward(name, every):
    config = dataclasses.replace(ENV, sequence_reward=name, reward_every=every)
    env = TokenLMEnv(config)
    plain = TokenLMEnv(dataclasses.replace(config, sequence_reward="", log_prob_weight=1.0))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        env.reset(seed=seed)
        plain.reset(seed=seed)
        source = env.text.removesuffix(" → ")
        over = False
        while not over:
            action = rng.choice(np.flatnonzero(env.action_masks()))
            _, reward, over, truncated, info = env.step(action)
            _, other, *_ = plain.step(action)
            assert not truncated
            assert info["log_prob"] <= 0
            if not over:
                assert reward == pytest.approx(0.5 * other)
        hypothesis = env.text.split(" → ")[1]
        assert reward == pytest.approx(0.5 * other + 3.0 * SCORES[name](hypothesis, dict(PAIRS)[source]))


def test_single_vector_and_device_environments_agree():
    single = [TokenLMEnv(ENV) for _ in range(3)]
    vector, device = TokenLMVectorEnv(3, ENV, autoreset_mode="SameStep"), TokenLMDeviceEnv(3, ENV, device="cpu")
    for i, env in enumerate(single):
        env.reset(seed=i)
    vector.reset(seed=0)
    device.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(25):
        actions = np.array([rng.choice(np.flatnonzero(env.action_masks())) for env in single])
        alone = np.array([env.step(a)[1] for env, a in zip(single, actions, strict=True)])
        for env in single:
            if not env._running:
                env.reset()
        assert np.array_equal(vector.step(actions)[1], alone)
        np.testing.assert_allclose(device.step(torch.from_numpy(actions))[1].numpy(), alone, rtol=0, atol=1e-12)


def test_a_document_that_is_written_down_earns_the_whole_score():
    world = World.of(ENV)
    documents = world.documents["valid"]
    rows = np.arange(len(documents))
    forced = force(world, ENV, "valid", rows, documents.shortest_prompt)
    last = forced.rewards[rows, forced.lengths - 1]
    assert forced.terminated.all()
    np.testing.assert_allclose(last, 0.5 * forced.log_probs[rows, forced.lengths - 1] + 3.0)
    np.testing.assert_allclose(forced.rewards.sum(1), 0.5 * forced.log_probs.sum(1) + 3.0)


def test_a_document_cut_off_is_scored_against_all_of_it():
    config = dataclasses.replace(ENV, max_new_tokens=2)
    world = World.of(config)
    documents = world.documents["train"]
    forced = force(world, config, "train", np.zeros(1, np.int64), documents.shortest_prompt[:1])
    target = world.pairs["train"][0][1]
    score = metrics.token_f1(" ".join(target.split()[:2]), target)
    assert score == pytest.approx(0.8)
    assert forced.terminated[0]
    assert forced.rewards.sum() == pytest.approx(0.5 * forced.log_probs.sum() + 3.0 * score)


def test_a_longer_reference_of_ones_own():
    env = TokenLMEnv(ENV)
    target = "p q r s p q r s p q r s"
    env.reset(options={"prompt": "say p q r", "target": target})
    for _ in range(5):
        _, reward, terminated, _, info = env.step(env.world.vocabulary.id("p"))
    assert terminated
    assert reward == pytest.approx(0.5 * info["log_prob"] + 3.0 * metrics.token_f1("p p p p p", target))


def test_a_function_of_ones_own(monkeypatch):
    module = types.ModuleType("own_scores")
    module.length = lambda hypothesis, reference: len(hypothesis) / (1 + len(hypothesis))
    module.wrong = lambda hypothesis, reference: 2.0
    module.nothing = lambda hypothesis, reference: None
    module.nan = lambda hypothesis, reference: float("nan")
    monkeypatch.setitem(sys.modules, "own_scores", module)
    env = TokenLMEnv(dataclasses.replace(ENV, sequence_reward="own_scores:length"))
    env.reset(seed=0)
    env.step(env.world.vocabulary.id("p"))
    _, reward, _, _, info = env.step(Vocabulary.EOS)
    assert reward == pytest.approx(0.5 * info["log_prob"] + 3.0 * 0.5)
    wrong = {
        "wrong": (ValueError, r"'own_scores:wrong' returned 2.0; a score must lie between 0 and 1"),
        "nothing": (ValueError, r"'own_scores:nothing' returned None; a score must be a number"),
        "nan": (
            FloatingPointError,
            r"'own_scores:nan' returned nan for the text 'p'; a score must lie between 0 and 1",
        ),
    }
    for name, (error, message) in wrong.items():
        env = TokenLMEnv(dataclasses.replace(ENV, sequence_reward=f"own_scores:{name}"))
        env.reset(seed=0)
        env.step(env.world.vocabulary.id("p"))
        with pytest.raises(error, match=message):
            env.step(Vocabulary.EOS)
    for name, message in (("own_scores:none", "has no 'none'"), ("no_such:f", "no module 'no_such'")):
        with pytest.raises(ValueError, match=message):
            TokenLMEnv(dataclasses.replace(ENV, sequence_reward=name))


def test_no_optimum_is_claimed_for_a_score():
    config = dataclasses.replace(TINY, sequence_reward="f1")
    oracle = Oracle(World.of(config), config)
    assert not oracle.is_exact
    for ask in (oracle.optimal_value, oracle.optimal_return, oracle.bounds):
        with pytest.raises(NotExact, match="sequence reward 'f1'"):
            ask([[0, 0, 0, 0, 0, 2]])


@pytest.mark.parametrize("weight", [0.3, 2.0])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_weight_is_a_scale_of_rewards_and_temperature(weight, temperature):
    """Against the soft Bellman equation with the rewards that the environment itself pays."""
    config = dataclasses.replace(TINY, log_prob_weight=weight, ending="fixed")
    world = World.of(config)
    env = TokenLMEnv(config)

    def value(texts):
        env.reset(seed=0)
        rewards = [env.step(a)[1] for a in texts]
        if len(texts) == config.max_new_tokens:
            return sum(rewards)
        values = np.array([value([*texts, a]) for a in world.words])
        return values.max() if temperature == 0 else temperature * np.log(np.exp(values / temperature).sum())

    start = env.reset(seed=0)[0]
    assert env.oracle.optimal_value(start, temperature=temperature) == pytest.approx(value([]))
    env.reset(seed=0)
    q_values = env.optimal_q(temperature)[world.words]
    assert q_values == pytest.approx(np.array([value([a]) for a in world.words]))
    assert env.oracle.optimal_return(start[None])[0] == pytest.approx(env.oracle.optimal_value(start, temperature=0.0))
    with pytest.raises(NotExact, match="bounds need log_prob_weight 1"):
        env.oracle.bounds(start)
