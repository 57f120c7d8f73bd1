"""Kneser-Ney against a slow implementation written from the formulas, and as a finite automaton."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenlm.envs.targets import NGramTarget
from tokenlm.envs.targets.kneser_ney import modified_discounts

V = 9
BOS, EOS = 2, 3
corpora = st.lists(st.lists(st.integers(5, V - 1), min_size=1, max_size=7), min_size=1, max_size=12)


@settings(max_examples=30)
@given(corpora, st.integers(1, 4), st.data())
def test_equals_the_formulas_in_every_context(slow_kneser_ney, documents, order, data):
    target = NGramTarget.fit(documents, V, order)
    context = tuple(data.draw(st.lists(st.integers(5, V - 1), min_size=order - 1, max_size=order - 1)))
    prefix = np.array([[0, 0, 0, 0, *context]])
    expected = slow_kneser_ney(documents, V, order).row(context)
    np.testing.assert_allclose(np.exp(target.log_probs(prefix)[0]), expected, rtol=1e-10)


@settings(max_examples=30)
@given(corpora, st.integers(1, 6))
@example([[5]], 5)  # longer n-grams than the whole corpus has
@example([[5]], 9)
def test_equals_the_formulas_along_a_document(slow_kneser_ney, documents, order):
    target = NGramTarget.fit(documents, V, order)
    slow = slow_kneser_ney(documents, V, order)
    words = [BOS, *documents[0], EOS]
    for i in range(1, len(words)):
        context = tuple(words[max(0, i - order + 1) : i])
        window = np.array([[0] * (8 - i) + words[:i]])
        got = target.log_prob(window, np.array([words[i]]))[0]
        assert got == pytest.approx(math.log(slow.row(context)[words[i]]), abs=1e-10)


def test_discounts_by_hand():
    # n1 = 4, n2 = 3, n3 = 2, n4 = 1, so Y = 4/10.
    counts = np.array([1] * 4 + [2] * 3 + [3] * 2 + [4])
    y = 0.4
    np.testing.assert_allclose(modified_discounts(counts), [1 - 2 * y * 3 / 4, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2])


def test_discounts_without_an_estimate_are_half_a_count():
    np.testing.assert_allclose(modified_discounts(np.array([1, 1, 2])), [0.5, 1.0, 1.5])


@settings(max_examples=40)
@given(corpora, st.integers(1, 4), st.lists(st.integers(5, V - 1), min_size=4, max_size=4))
def test_sums_to_one_whatever_the_context(documents, order, context):
    target = NGramTarget.fit(documents, V, order)
    for prefix in ([0, 0, 0, BOS], [0, BOS, context[0], context[1]], context):
        assert np.exp(target.log_probs(np.array([prefix]))).sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(1, V - 1), min_size=1, max_size=7), min_size=1, max_size=12), st.integers(1, 4))
def test_special_tokens_in_a_document_are_context_only(documents, order):
    target = NGramTarget.fit(documents, V, order)
    rows = np.exp(target.state_log_probs(np.arange(target.num_states)))
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-12)
    assert (rows[:, [0, 2, 4]] == 0).all()


@settings(max_examples=30)
@given(corpora, st.integers(1, 4), st.lists(st.integers(5, V - 1), min_size=1, max_size=9))
def test_the_automaton_agrees_with_reading_the_prefix(documents, order, words):
    target = NGramTarget.fit(documents, V, order)
    prefix = np.array([[0] * (10 - len(words)) + [BOS] + words])
    state = target.state_of(np.array([[BOS]])[:, -(order - 1) :] if order > 1 else np.array([[BOS]]))
    for word in words:
        state = target.next_state(state, np.array([word]))
    np.testing.assert_allclose(target.state_log_probs(state), target.log_probs(prefix), atol=1e-12)
    every = np.arange(V)
    stepped = target.next_state(np.repeat(state, V), every)
    np.testing.assert_array_equal(target.next_states(state)[0, 5:], stepped[5:])
    assert (target.next_states(state) < target.num_states).all()


@pytest.fixture(scope="module")
def target() -> NGramTarget:
    rng = np.random.default_rng(0)
    return NGramTarget.fit([rng.integers(5, 50, rng.integers(1, 12)).tolist() for _ in range(200)], 50, 3)


@pytest.fixture(scope="module")
def prefixes() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([np.full((64, 1), BOS), rng.integers(5, 50, (64, 5))], axis=1)


def test_one_token_is_an_entry_of_the_row(target, prefixes):
    rows = target.log_probs(prefixes)
    for token in range(50):
        got = target.log_prob(prefixes, np.full(64, token))
        np.testing.assert_allclose(got, rows[:, token], atol=1e-12)


def test_torch_gives_what_numpy_gives(target, prefixes):
    tokens = np.arange(64) % 45 + 5
    as_torch = torch.from_numpy(prefixes), torch.from_numpy(tokens)
    np.testing.assert_allclose(target.log_prob(*as_torch).numpy(), target.log_prob(prefixes, tokens), atol=1e-14)
    np.testing.assert_allclose(target.log_probs(as_torch[0]).numpy(), target.log_probs(prefixes), atol=1e-14)
    states = target.state_of(prefixes)
    assert torch.equal(target.next_states(torch.from_numpy(states)), torch.from_numpy(target.next_states(states)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_are_the_same_model(target, prefixes, copied):
    target.log_probs(torch.from_numpy(prefixes))  # so that there are mirrors to leave behind
    np.testing.assert_array_equal(copied(target).log_probs(prefixes), target.log_probs(prefixes))


@pytest.mark.parametrize(
    ("documents", "order", "message"),
    [
        ([[5]], 0, "order of an n-gram model must be at least 1, not 0"),
        ([], 3, "at least one document"),
        ([[5, 99]], 3, "between 0 and 8, but the documents hold 5 to 99"),
        ([[5, 6], [0, 5]], 3, "<pad>"),
    ],
)
def test_what_cannot_be_fitted_says_why(documents, order, message):
    with pytest.raises(ValueError, match=message):
        NGramTarget.fit(documents, V, order)
