"""The target `factored`: hidden kinds, classes and positions, low rank, and an exact oracle on its small automaton."""

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, Oracle, TokenLMVectorEnv, World
from tokenlm.envs.device import TokenLMDeviceEnv
from tokenlm.envs.targets import FactoredTarget, check_target
from tokenlm.envs.targets.factored import CLASSES, KINDS, POSITIONS, TOPICS
from tokenlm.envs.trivial import start_distribution

SIZE = 41  # 36 words: twelve of each kind, six of each class
SMALL = EnvConfig(
    target="factored", vocab_size=8, max_new_tokens=3, context_length=6, ending="fixed", prompt_length=(2, 2)
)


@pytest.fixture(scope="module")
def target():
    return FactoredTarget(SIZE, seed=101)


@pytest.mark.parametrize("eos_probability", [0.0, 0.2])
def test_it_is_a_consistent_distribution(eos_probability):
    target = FactoredTarget(12, seed=1, eos_probability=eos_probability)
    check_target(target, longest=20)
    rows = np.exp(target.state_log_probs(np.arange(target.num_states)))
    np.testing.assert_allclose(rows.sum(1), 1.0)
    np.testing.assert_allclose(rows[:, 3], eos_probability)
    assert (rows[:, [0, 1, 2, 4]] == 0).all()


def test_kinds_and_classes_are_equally_frequent(target):
    words = np.arange(5, SIZE)
    after_one = target.state_of(np.array([[2, w] for w in words]))
    assert np.bincount(after_one)[1:].tolist() == [12, 12, 12]
    after_two = target.state_of(np.array([[2, words[0], w] for w in words]))
    topics = (after_two - 1 - KINDS) // (POSITIONS * CLASSES)
    assert sorted(np.unique(topics, return_counts=True)[1].tolist()) == [12, 12, 12]
    classes = (target.next_states(after_two[:1])[0, 5:] - 1 - KINDS) % CLASSES
    assert np.bincount(classes).tolist() == [6] * CLASSES


def test_words_of_the_same_kind_or_class_say_the_same(target):
    """p* after a text is what it is after another text with the same hidden labels, and else it is not."""
    words = np.arange(5, SIZE)
    first = target.state_of(words[:, None])
    classes = (target.next_states(np.array([1 + KINDS]))[0, 5:] - 1 - KINDS) % CLASSES
    alike, other = words[first == first[0]][1], words[first != first[0]][0]
    last, beside = words[classes == classes[3]][:2]
    texts = [[2, words[0], 9, 7, last], [2, alike, 9, 30, beside], [2, other, 9, 7, last]]
    rows = target.log_probs(np.array(texts))
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.abs(rows[0, 5:] - rows[2, 5:]).max() > 0.1


def test_the_first_two_words_are_uniform(target):
    rows = target.log_probs(np.array([[0, 0, 2], [0, 2, 17]]))
    np.testing.assert_allclose(rows[:, 5:], -np.log(SIZE - 5))


def test_the_topic_bears_on_every_later_word(target):
    """Two prompts of different topics with the same text after them: every step differs, and positions do too."""
    first = target.state_of(np.arange(5, SIZE)[:, None])
    other = 5 + int((first != first[0]).argmax())
    text = [11] * POSITIONS
    texts = [np.array([[2, x, 8, *text[:t]] for x in (5, other)]) for t in range(POSITIONS)]
    rows = np.stack([target.log_probs(both) for both in texts])
    assert (np.abs(rows[:, 0, 5:] - rows[:, 1, 5:]).max(1) > 0.1).all()
    assert len({row.tobytes() for row in rows[1:, 0]}) == POSITIONS - 1  # after the same last word
    again = target.log_probs(np.array([[2, 5, 8, *text, 11]]))[0]  # positions are counted modulo 16
    np.testing.assert_array_equal(again, rows[1, 0])


def test_log_probabilities_have_the_rank_of_the_formula(target):
    """⟨z, u_a⟩ has rank 8; the bias and the normaliser add one each."""
    table = target.state_log_probs(np.arange(1 + KINDS, target.num_states))[:, 5:]
    assert table.shape == (TOPICS * POSITIONS * CLASSES, SIZE - 5)
    assert np.linalg.matrix_rank(table) == 10


def test_documents_follow_p_star(target):
    documents = np.array(target.sample_documents(3_000, 6, seed=0))
    states = target.state_of(documents[:, :4])
    expected = np.exp(target.state_log_probs(states))
    counted = np.bincount(documents[:, 4], minlength=SIZE)
    error = np.sqrt((expected * (1.0 - expected)).sum(0))
    assert (np.abs(counted - expected.sum(0)) <= 5.0 * error + 1e-9).all()


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_oracle_is_exact_by_enumeration(temperature):
    world = World.of(SMALL)
    oracle = Oracle.of(world, SMALL)
    assert oracle.is_exact
    prefixes = start_distribution(oracle).prefixes
    texts = np.array(list(itertools.product(world.words, repeat=SMALL.max_new_tokens)))
    for prefix, value in zip(prefixes, oracle.optimal_value(prefixes, temperature=temperature), strict=True):
        log_probs = np.zeros(len(texts))
        for step in range(texts.shape[1]):
            read = np.concatenate([np.tile(prefix, (len(texts), 1)), texts[:, :step]], axis=1)
            log_probs += world.target.target.log_prob(read, texts[:, step])
        soft = temperature * np.log(np.exp(log_probs / temperature).sum()) if temperature else log_probs.max()
        assert value == pytest.approx(soft, abs=1e-12)
        if temperature == 1.0:
            assert value == pytest.approx(0.0, abs=1e-12)


def test_single_vector_and_device_environments_agree():
    config = dataclasses.replace(SMALL, vocab_size=30, max_new_tokens=5, context_length=8)
    single = gym.make("TokenLM-v0", config=config).unwrapped
    vector = TokenLMVectorEnv(3, config)
    device = TokenLMDeviceEnv(3, config, device="cpu")
    windows, _ = vector.reset(seed=7)
    on_device, _ = device.reset(seed=7)
    alone, _ = single.reset(seed=8)
    assert (windows[:, -3] == 2).all()  # <bos> and two words
    np.testing.assert_array_equal(windows, on_device.numpy())
    np.testing.assert_array_equal(windows[1], alone)
    rng = np.random.default_rng(0)
    for _ in range(config.max_new_tokens):
        actions = rng.choice(vector.action_masks()[0].nonzero()[0], 3)
        windows, rewards, *_ = vector.step(actions)
        on_device, paid, *_ = device.step(torch.from_numpy(actions))
        alone, reward, *_ = single.step(int(actions[1]))
        np.testing.assert_allclose(rewards, paid.numpy(), atol=1e-12)
        assert rewards[1] == pytest.approx(reward, abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_length": 5}, "context_length must hold the whole of it, 6 tokens"),
        ({"task": "qa"}, "the target 'factored' has no pairs for the task 'qa'"),
        ({"ending": "eos", "max_new_tokens": 1}, "the target 'factored' with ending 'eos'"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        World.of(dataclasses.replace(SMALL, **settings))


def test_a_target_of_no_words_is_refused():
    with pytest.raises(ValueError, match="vocab_size above 5, not 5"):
        FactoredTarget(5)
    with pytest.raises(ValueError, match=r"\[0, 1\), not 1.0"):
        FactoredTarget(9, eos_probability=1.0)
    with pytest.raises(ValueError, match="use a smaller vocabulary"):
        FactoredTarget(400_000)
