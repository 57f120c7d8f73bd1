"""The Markov chain, the reference text, and conditioning on valid actions."""

import itertools

import numpy as np
import pytest
import torch

from tokenlm.envs.targets import ConditionedTarget, MarkovTarget, NGramTarget, ReferenceTarget


def valid_actions(size: int, eos: bool) -> np.ndarray:
    valid = np.ones(size, bool)
    valid[:5] = False
    valid[3] = eos
    return valid


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("eos_probability", [0.0, 0.2])
def test_markov_rows_are_distributions(order, eos_probability):
    target = MarkovTarget(9, order, seed=1, eos_probability=eos_probability)
    rows = np.exp(target.state_log_probs(np.arange(target.num_states)))
    np.testing.assert_allclose(rows.sum(1), 1.0)
    np.testing.assert_allclose(rows[:, 3], eos_probability)
    assert (rows[:, [0, 1, 2, 4]] == 0).all()


def test_markov_looks_at_the_last_tokens_only():
    target = MarkovTarget(9, order=3, seed=0)
    states = {}
    for context in itertools.product(range(5, 9), repeat=2):
        long = target.state_of(np.array([[2, 7, 8, *context]]))
        assert long == target.state_of(np.array([[0, 0, 0, *context]]))
        states[context] = int(long[0])
    assert len(set(states.values())) == 16
    assert target.next_state(np.array([states[5, 6]]), np.array([7]))[0] == states[6, 7]


def test_markov_torch_equals_numpy():
    target = MarkovTarget(12, order=3, seed=0)
    states, tokens = np.arange(target.num_states), np.arange(target.num_states) % 7 + 5
    as_torch = torch.from_numpy(states), torch.from_numpy(tokens)
    np.testing.assert_array_equal(target.state_log_prob(*as_torch).numpy(), target.state_log_prob(states, tokens))
    np.testing.assert_array_equal(target.next_states(as_torch[0]).numpy(), target.next_states(states))


def test_markov_documents_follow_the_chain():
    target = MarkovTarget(10, order=2, seed=3)
    documents = np.array(target.sample_documents(4_000, 6, seed=0))
    after = documents[:, 3][documents[:, 2] == 7]
    expected = np.exp(target.log_probs(np.array([[7]]))[0])
    counted = np.bincount(after, minlength=10) / len(after)
    standard_error = np.sqrt(expected * (1 - expected) / len(after))
    assert (np.abs(counted - expected) <= 5 * standard_error + 1e-12).all()


def test_markov_documents_begin_as_the_chain_does_where_it_does_not_end_at_once():
    target = MarkovTarget(10, order=2, seed=3, eos_probability=0.25)
    documents = target.sample_documents(20_000, 4, seed=0)
    first = np.bincount([d[0] for d in documents], minlength=10) / len(documents)
    expected = np.exp(target.log_probs(np.array([[2]]))[0])
    expected[3] = 0.0
    expected /= expected.sum()
    assert (np.abs(first - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(documents)) + 1e-12).all()
    # After the first word each next one exists with probability 3/4.
    for length in range(1, 4):
        reached = np.mean([len(d) > length for d in documents])
        assert abs(reached - 0.75**length) < 5 * 0.5 / np.sqrt(len(documents))


def test_the_race_of_the_design_is_about_as_hard_as_designed():
    # design: a uniformly random policy earns about -7.8 nats a token on V = 200.
    target = MarkovTarget(200, order=2, seed=0)
    rows = target.state_log_probs(np.arange(target.num_states))[:, 5:]
    assert -8.6 < rows.mean() < -7.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 5}, "vocab_size above 5, not 5"),
        ({"vocab_size": 9, "order": 0}, "at least 1, not 0"),
        ({"vocab_size": 2_000, "order": 4}, "bytes"),
        ({"vocab_size": 9, "eos_probability": 1.0}, r"\[0, 1\), not 1.0"),
    ],
)
def test_markov_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        MarkovTarget(**settings)


def test_reference_by_hand():
    target = ReferenceTarget(10, epsilon=0.2)
    prefixes, expected = np.zeros((2, 3), int), np.array([6, 3])
    rows = np.exp(target.log_probs(prefixes, expected))
    np.testing.assert_allclose(rows.sum(1), 1.0)
    np.testing.assert_allclose(rows[0, 6], 0.8 + 0.02)
    np.testing.assert_allclose(rows[0, 5], 0.02)
    np.testing.assert_allclose(np.exp(target.log_prob(prefixes, np.array([6, 6]), expected)), [0.82, 0.02])
    as_torch = target.log_probs(torch.from_numpy(prefixes), torch.from_numpy(expected))
    np.testing.assert_allclose(as_torch.exp().numpy(), rows)
    with pytest.raises(ValueError, match="own next token"):
        target.log_prob(prefixes, expected)


def targets(size: int) -> list:
    rng = np.random.default_rng(0)
    documents = [rng.integers(5, size, 6).tolist() for _ in range(40)]
    return [
        NGramTarget.fit(documents, size, 3),
        MarkovTarget(size, order=2, seed=0, eos_probability=0.1),
        ReferenceTarget(size, 0.3),
    ]


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("eos_ever", [True, False])
def test_conditioned_is_the_target_renormalised_over_valid_actions(index, eos_ever):
    size = 14
    target = targets(size)[index]
    valid = valid_actions(size, eos_ever)
    conditioned = ConditionedTarget(target, valid)
    prefixes = np.array([[0, 0, 2], [0, 2, 6], [2, 7, 9], [5, 6, 5]])
    expected = np.array([6, 7, 3, 8])
    eos_now = np.array([True, False, True, False]) & eos_ever
    got = conditioned.log_probs(conditioned.track(prefixes), eos_now, expected)
    for row in range(4):
        allowed = valid.copy()
        allowed[3] = eos_now[row]
        plain = np.where(allowed, np.exp(target.log_probs(prefixes, expected)[row]), 0.0)
        np.testing.assert_allclose(np.exp(got[row]), plain / plain.sum(), atol=1e-12)
    token = np.array([6, 6, 9, 5])
    one = conditioned.log_prob(conditioned.track(prefixes), token, eos_now, expected)
    np.testing.assert_allclose(one, got[np.arange(4), token], atol=1e-12)
    as_torch = conditioned.log_prob(
        conditioned.track(torch.from_numpy(prefixes)), *map(torch.from_numpy, (token, eos_now, expected))
    )
    np.testing.assert_allclose(as_torch.numpy(), one, atol=1e-12)
