"""ARPA files: a model worked out by hand, round trips, vocabularies that differ from the file's, malformed files."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.envs.targets import NGramTarget
from tokenlm.envs.text import Vocabulary

# p(a) = 0.5, p(b) = 0.2, p(</s>) = 0.2, p(<unk>) = 0.1. After <s>: p(a) = 0.8, so the rest, 0.5 in the unigrams, shares
# 0.2: weight 0.4. After a: p(b) = 0.6; the rest has 0.8: weight 0.5. After b nothing is listed: weight 1.
# After "<s> a": p(b) = 0.9; the rest after a has 0.4: weight 0.25.
BY_HAND = """a comment
\\data\\
ngram 1=5
ngram 2=2
ngram 3=1

\\1-grams:
-0.301029995664\ta\t-0.301029995664
-0.698970004336\tb
-0.698970004336 </s>
-99\t<s>\t-0.397940008672
-1\t<unk>

\\2-grams:
-0.0969100130081\t<s> a\t-0.602059991328
-0.221848749616\ta b

\\3-grams:
-0.0457574905607\t<s> a b

\\end\\
"""
WORDS = Vocabulary(["a", "b"])
A, B, EOS, UNK, BOS = 5, 6, 3, 1, 2


@pytest.fixture
def by_hand(tmp_path):
    path = tmp_path / "by_hand.arpa"
    path.write_text(BY_HAND, encoding="utf-8")
    return path


def probabilities(target: NGramTarget, *prefix: int) -> dict[int, float]:
    window = np.array([[0] * (4 - len(prefix)) + list(prefix)])
    return {i: float(p) for i, p in enumerate(np.exp(target.log_probs(window)[0])) if p > 0}


def test_a_model_worked_out_by_hand(by_hand):
    target = NGramTarget.from_arpa(by_hand, WORDS)
    assert (target.order, target.vocab_size) == (3, 7)
    unigrams = {A: 0.5, B: 0.2, EOS: 0.2, UNK: 0.1}
    assert probabilities(target) == pytest.approx(unigrams)
    assert probabilities(target, A, B) == pytest.approx(unigrams)
    assert probabilities(target, BOS) == pytest.approx({A: 0.8, B: 0.08, EOS: 0.08, UNK: 0.04})
    after_a = {A: 0.25, B: 0.6, EOS: 0.1, UNK: 0.05}
    assert probabilities(target, B, A) == pytest.approx(after_a)
    after_bos_a = {A: 0.25 * 0.25, B: 0.9, EOS: 0.25 * 0.1, UNK: 0.25 * 0.05}
    assert probabilities(target, BOS, A) == pytest.approx(after_bos_a)
    assert target.log_prob(np.array([[0, BOS, A]]), np.array([B]))[0] == pytest.approx(math.log(0.9))


def test_a_word_the_vocabulary_lacks_becomes_unknown(by_hand):
    target = NGramTarget.from_arpa(by_hand, Vocabulary(["a"]))
    assert probabilities(target) == pytest.approx({A: 0.5, EOS: 0.2, UNK: 0.3})
    assert probabilities(target, UNK, A) == pytest.approx({A: 0.25, EOS: 0.1, UNK: 0.65})
    assert probabilities(target, BOS, A) == pytest.approx({A: 0.0625, EOS: 0.025, UNK: 0.9125})


def test_words_the_file_lacks_share_its_unknown(by_hand):
    target = NGramTarget.from_arpa(by_hand, Vocabulary(["a", "b", "c"]))
    assert probabilities(target, BOS) == pytest.approx({A: 0.8, B: 0.08, EOS: 0.08, UNK: 0.02, 7: 0.02})


corpora = st.lists(st.lists(st.sampled_from([1, 5, 6, 7, 8]), min_size=1, max_size=6), min_size=1, max_size=10)
FOUR = Vocabulary(["a", "b", "c", "d"])


@settings(max_examples=40)
@given(corpora, st.integers(1, 4))
def test_a_round_trip_keeps_every_probability(tmp_path_factory, documents, order):
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    fitted = NGramTarget.fit(documents, len(FOUR), order)
    fitted.to_arpa(path, FOUR)
    read = NGramTarget.from_arpa(path, FOUR)
    windows = np.array(list(itertools.product([0, BOS, 1, 5, 6, 7, 8], repeat=max(1, order - 1))))
    np.testing.assert_allclose(read.log_probs(windows), fitted.log_probs(windows), atol=1e-9)
    if set(itertools.chain(*documents)) == {1, 5, 6, 7, 8}:  # else the file makes a state of an unseen word
        np.testing.assert_array_equal(read.state_of(windows), fitted.state_of(windows))
        assert read.num_states == fitted.num_states
    read.to_arpa(path, FOUR)
    np.testing.assert_allclose(NGramTarget.from_arpa(path, FOUR).log_probs(windows), read.log_probs(windows), atol=1e-9)


@settings(max_examples=40)
@given(corpora, st.integers(1, 4), st.sets(st.sampled_from("abcd")), st.lists(st.sampled_from("xyz"), unique=True))
def test_another_vocabulary_stays_a_distribution_with_the_probabilities_of_the_common_words(
    tmp_path_factory, documents, order, dropped, added
):
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    fitted = NGramTarget.fit(documents, len(FOUR), order)
    fitted.to_arpa(path, FOUR)
    vocabulary = Vocabulary([*(w for w in FOUR.words if w not in dropped), *added])
    read = NGramTarget.from_arpa(path, vocabulary)
    rows = np.exp(read.state_log_probs(np.arange(read.num_states)))
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-9)

    common = [w for w in vocabulary.words if w in FOUR]
    contexts = list(itertools.product(["<bos>", *common], repeat=max(1, order - 1)))
    here = np.array([[2 if w == "<bos>" else vocabulary.id(w) for w in c] for c in contexts])
    there = np.array([[2 if w == "<bos>" else FOUR.id(w) for w in c] for c in contexts])
    new, old = np.exp(read.log_probs(here)), np.exp(fitted.log_probs(there))
    for word in common:
        np.testing.assert_allclose(new[:, vocabulary.id(word)], old[:, FOUR.id(word)], atol=1e-9)
    np.testing.assert_allclose(new[:, EOS], old[:, EOS], atol=1e-9)
    share = old[:, UNK] / (len(added) + 1)
    for word in added:
        np.testing.assert_allclose(new[:, vocabulary.id(word)], share, atol=1e-9)
    outside = sum((old[:, FOUR.id(w)] for w in dropped), np.zeros(len(old)))
    np.testing.assert_allclose(new[:, UNK], share + outside, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"no line \\data\\"),
        ("ngram 1=5\n", "", r"line 3: expected the count 'ngram 1=…', not 'ngram 2=2'"),
        ("ngram 1=5", "ngram 1=6", r"line 14: the section \\1-grams: holds 5 n-grams, not the 6 announced"),
        ("\\2-grams:", "\\4-grams:", r"line 14: expected the section \\2-grams:, not '\\\\4-grams:'"),
        ("\\3-grams:\n", "", r"line 18: expected a base-10 logarithm, not 'b'"),
        ("\ta b\n", "\ta b a 0\n", r"line 16: expected a number, 2 word\(s\) and optionally a number, not"),
        ("\\end\\", "", r"is incomplete: it has no line \\end\\"),
        ("\\end\\", "\\4-grams:", r"line 21: expected \\end\\ after 3 sections, not"),
        ("a b\n", "a c\n", r"line 16: the word 'c' is not among the unigrams"),
        ("<s> a b", "b a b", r"line 19: the context of 'b a b' is not among the 2-grams"),
        ("\ta b", "\t<s> a", r"line 16: '<s> a' is listed twice"),
        ("-0.698970004336\tb", "-0.698970004336\ta", r"line 9: the word 'a' is listed twice"),
        ("-1\t", "x\t", r"line 12: expected a base-10 logarithm, not 'x'"),
        ("-1\t", "1\t", r"line 12: a log-probability must not be above 0, not 1"),
        ("-0.0457574905607", "-1", r"the probabilities after '<s> a' sum to 0.2, not to 1"),
        ("-0.698970004336 </s>", "-0.698970004336 d", "no </s>"),
    ],
)
def test_a_malformed_file_says_where(by_hand, old, new, message):
    assert old in BY_HAND
    by_hand.write_text(BY_HAND.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        NGramTarget.from_arpa(by_hand, WORDS)


def test_a_closed_vocabulary_has_nothing_to_share(by_hand):
    closed = BY_HAND.replace("-1\t<unk>\n", "").replace("1=5", "1=4").replace("-0.698970004336\tb", "-0.522878745\tb")
    closed = closed.replace("a\t-0.301029995664", "a\t-0.243038049")  # 0.4 for what had 0.7
    by_hand.write_text(closed, encoding="utf-8")
    assert probabilities(NGramTarget.from_arpa(by_hand, WORDS))[B] == pytest.approx(0.3)
    with pytest.raises(ValueError, match=r"lacks 1 word\(s\) of the vocabulary, such as 'c'"):
        NGramTarget.from_arpa(by_hand, Vocabulary(["a", "b", "c"]))


def test_what_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="no ARPA file"):
        NGramTarget.from_arpa(tmp_path / "none.arpa", WORDS)
    (tmp_path / "latin.arpa").write_bytes(b"\\data\\\nngram 1=1\n\n\\1-grams:\n-1 \xe9t\xe9\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        NGramTarget.from_arpa(tmp_path / "latin.arpa", WORDS)
    target = NGramTarget.fit([[5, 6]], 7, 2)
    for words, message in (
        (["a", "b c"], "white space"),
        (["a", "<s>"], "special token in an ARPA file"),
        (["a"], "7 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            target.to_arpa(tmp_path / "x.arpa", Vocabulary(words))
    target.to_arpa(tmp_path / "x.arpa", Vocabulary(["a", "\u3000"]))  # a word like any other
    NGramTarget.from_arpa(tmp_path / "x.arpa", Vocabulary(["a", "\u3000"]))
