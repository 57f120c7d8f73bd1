"""KenLM (Heafield 2011) reads the same ARPA file: every word of every text has the same probability there.

It is compiled from source for minutes, so it belongs to no extra: `pip install kenlm` runs these tests.
"""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenlm.envs.targets import NGramTarget
from tokenlm.envs.text import Vocabulary

kenlm = pytest.importorskip("kenlm")

WORDS = Vocabulary(["a", "b", "c"])
TEXTS = st.lists(st.sampled_from(["a", "b", "c", "foreign"]), max_size=8)
# Sums of single-precision base-10 logarithms there, of double-precision natural ones here.
NATS = 2e-6


def ours(target: NGramTarget, vocabulary: Vocabulary, words: list[str], begins: bool = True) -> list[float]:
    """log p of each word and of the end, nats."""
    length, ids = target.order, [*vocabulary.encode(words), Vocabulary.EOS]
    before = [Vocabulary.BOS] if begins else []
    found = []
    for place, word in enumerate(ids):
        prefix = [*before, *ids[:place]][-length:]
        window = np.array([[Vocabulary.PAD] * (length - len(prefix)) + prefix])
        found.append(float(target.log_prob(window, np.array([word]))[0]))
    return found


def theirs(model, words: list[str], begins: bool = True) -> list[float]:
    return [log10 * math.log(10.0) for log10, _, _ in model.full_scores(" ".join(words), bos=begins, eos=True)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A fitted trigram model: as KenLM and as the target read its file, and itself."""
    documents = [[5, 6, 1, 5, 6], [5, 7, 6], [6, 1, 5], [1, 1, 7], [7]]
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    fitted = NGramTarget.fit(documents, len(WORDS), 3)
    fitted.to_arpa(path, WORDS)
    return kenlm.Model(str(path)), NGramTarget.from_arpa(path, WORDS), fitted


@pytest.mark.parametrize("begins", [True, False], ids=["after <s>", "in the middle"])
def test_back_off_unknown_words_and_the_end(models, begins):
    model, read, fitted = models
    assert (model.order, read.order) == (3, 3)
    for words in (
        [],
        ["a"],
        ["foreign"],
        ["a", "b", "foreign", "a"],
        ["c", "c", "c"],
        ["foreign", "foreign", "c", "a"],
    ):
        expected = theirs(model, words, begins)
        np.testing.assert_allclose(ours(read, WORDS, words, begins), expected, atol=NATS)
        np.testing.assert_allclose(ours(fitted, WORDS, words, begins), expected, atol=NATS)


def test_some_words_back_off_and_some_are_unknown(models):
    """Else the test above would compare little: KenLM says how long the n-gram was that it found."""
    model, _, _ = models
    found = list(model.full_scores("a b foreign c a b", bos=True, eos=True))
    assert {length for _, length, _ in found} >= {1, 2, 3}
    assert any(unknown for _, _, unknown in found)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=TEXTS)
def test_every_text(models, words):
    model, read, _ = models
    np.testing.assert_allclose(ours(read, WORDS, words), theirs(model, words), atol=NATS)
    assert sum(ours(read, WORDS, words)) == pytest.approx(model.score(" ".join(words)) * math.log(10.0), abs=10 * NATS)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    documents=st.lists(st.lists(st.sampled_from([1, 5, 6, 7]), min_size=1, max_size=6), min_size=1, max_size=10),
    order=st.integers(2, 4),
    words=TEXTS,
)
def test_every_model_that_is_written(documents, order, words, tmp_path_factory):
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    fitted = NGramTarget.fit(documents, len(WORDS), order)
    fitted.to_arpa(path, WORDS)
    np.testing.assert_allclose(ours(fitted, WORDS, words), theirs(kenlm.Model(str(path)), words), atol=NATS)
