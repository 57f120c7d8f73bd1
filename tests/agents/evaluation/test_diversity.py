"""Distinct-n, repetition and self-BLEU: worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from tokenlm.agents.evaluation.diversity import distinct, ngrams, repetition, self_bleu

TEXTS = [["the", "cat", "sees", "the", "cat"], ["the", "dog"], ["cat"], []]


def test_ngrams():
    assert ngrams("abcd", 2) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert ngrams("abcd", 4) == [("a", "b", "c", "d")]
    assert ngrams("abc", 4) == []


@pytest.mark.parametrize(
    ("n", "value"),
    [
        (1, 4 / 8),  # the, cat, sees, dog of 5 + 2 + 1 words
        (2, 4 / 5),  # the cat, cat sees, sees the, the dog; "the cat" comes twice
        (3, 3 / 3),
        (6, None),
    ],
)
def test_distinct(n, value):
    assert distinct(TEXTS, n) == (value if value is None else pytest.approx(value))


def test_repetition():
    # 6 4-grams: abab baba abab baba abab baba -> 2 different ones; abcde has 2 of 2; "abc" has none
    texts = ["ababababa", "abcde", "abc"]
    assert repetition(texts) == pytest.approx(((1 - 2 / 6) + 0.0) / 2)
    assert repetition(texts, 1) == pytest.approx(((1 - 2 / 9) + 0.0 + 0.0) / 3)
    assert repetition(["abc"]) is None


def test_self_bleu():
    same = [[7, 8, 9, 10, 11]] * 3
    assert self_bleu(same) == pytest.approx(1.0)
    assert self_bleu([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) < 0.1
    assert self_bleu([[1, 2]]) is None
    assert self_bleu([[1, 2], []]) is None


def test_self_bleu_by_hand():
    # a b c d e | a b c d f: precisions 4/5, 3/4, 2/3, 1/2, no brevity penalty; the same from both sides
    value = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert self_bleu(["abcde", "abcdf"]) == pytest.approx(value)
    # the shorter one is all there, but pays exp(1 - 5/4) for its length; the longer one misses its last word
    shorter, longer = math.exp(1 - 5 / 4), value
    assert self_bleu(["abcd", "abcde"]) == pytest.approx((shorter + longer) / 2)


def test_self_bleu_takes_tokens_as_they_are():
    assert self_bleu([["a b", "C", "。", "d-e"], ["a b", "C", "。", "d-e"]]) == pytest.approx(1.0)
    one = self_bleu([[".", "?", "A", "b"], ["!", ",", "a", "b"]])
    assert one == pytest.approx(self_bleu([[1, 2, 3, 4], [5, 6, 7, 4]]))


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=2, max_size=6))
def test_self_bleu_is_the_mean_of_sacrebleu_sentence_scores(texts):
    score = BLEU(tokenize="none", effective_order=True).sentence_score
    lines = [" ".join(map(str, text)) for text in texts]
    expected = [score(line, lines[:i] + lines[i + 1 :]).score / 100 for i, line in enumerate(lines)]
    assert self_bleu(texts) == pytest.approx(sum(expected) / len(expected))


WORDS = st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=6)


@given(WORDS, st.integers(1, 4))
def test_what_holds_for_any_texts(texts, n):
    share, repeated = distinct(texts, n), repetition(texts, n)
    assert (share is None) == (repeated is None) == all(len(t) < n for t in texts)
    if share is not None:
        assert 0 < share <= 1
        assert 0 <= repeated < 1
        # Of one text the two add up to 1; twice the same texts are half as distinct.
        assert distinct(texts + texts, n) == pytest.approx(share / 2)
        assert repetition(texts + texts, n) == pytest.approx(repeated)
    for text in texts:
        if len(text) >= n:
            assert distinct([text], n) + repetition([text], n) == pytest.approx(1.0)
