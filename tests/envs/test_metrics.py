"""Scores of texts against references: numbers worked out by hand, and sacreBLEU's own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.envs import metrics

SCORES = (
    metrics.exact_match, metrics.token_f1, metrics.accuracy, metrics.sentence_bleu, metrics.sentence_chrf,
)  # fmt: skip
WORDS = st.lists(st.sampled_from(["the", "cat", "Sat", "on", "猫", "坐着", "。", "?"]), max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "f1", "exact"),
    [
        ("the cat sat", "A cat sat!", 1.0, 1.0),  # articles and marks do not count
        ("cat dog", "cat bird fish", 2 * 1 / 5, 0.0),
        ("cat cat", "cat", 2 / 3, 0.0),  # as often as it occurs
        ("是北京。", "北京", 2 * 2 / 5, 0.0),
        ("Ｃａｔ", "cat", 1.0, 1.0),
        ("北京 Beijing", "北京beijing。", 1.0, 1.0),
        ("", "", 1.0, 1.0),
        ("", "cat", 0.0, 0.0),
        ("the", "the", 1.0, 1.0),
        ("?", "!", 0.0, 0.0),
    ],
)
def test_answers(hypothesis, reference, f1, exact):
    assert metrics.token_f1(hypothesis, reference) == pytest.approx(f1)
    assert metrics.exact_match(hypothesis, reference) == exact


def test_labels_are_compared_as_they_are():
    assert metrics.accuracy(" sports\n", "sports") == 1.0
    assert metrics.accuracy("Sports", "sports") == 0.0


@given(WORDS, WORDS)
def test_every_score_of_a_pair_lies_between_0_and_1_and_is_1_for_the_reference(hypothesis, reference):
    for score in SCORES:
        assert 0.0 <= score(hypothesis, reference) <= 1.0
        if reference:
            assert score(reference, reference) == pytest.approx(1.0)


def test_bleu_of_a_corpus():
    """Of four words three match, of three pairs one, of two triples and one quadruple none: smoothed by 1/2, 1/4."""
    hypothesis, reference = "a b x d", "a b c d"
    precisions = [3 / 4, 1 / 3, 1 / 2 / 2, 1 / 4 / 1]
    expected = 100 * math.exp(sum(map(math.log, precisions)) / 4)
    assert metrics.corpus_bleu([hypothesis], [reference]) == pytest.approx(expected)
    assert metrics.sentence_bleu(hypothesis, reference) == pytest.approx(expected / 100)


def test_chinese_is_cut_into_characters():
    assert metrics.sentence_bleu("我喜欢喝茶", "我喜欢喝水") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert metrics.corpus_bleu(["我喜欢喝茶"], ["我喜欢喝水"]) > 50


def test_chrf_is_higher_for_what_shares_more_characters():
    near, far = metrics.corpus_chrf(["the cats"], ["the cat"]), metrics.corpus_chrf(["dogs"], ["the cat"])
    assert 100 > near > far >= 0
    assert metrics.corpus_chrf(["the cat"], ["the cat"]) == pytest.approx(100)


def test_every_hypothesis_has_its_reference():
    for score in (metrics.corpus_bleu, metrics.corpus_chrf):
        with pytest.raises(ValueError, match="got 1 and 2"):
            score(["a"], ["a", "b"])
        with pytest.raises(ValueError, match="got 0 and 0"):
            score([], [])
