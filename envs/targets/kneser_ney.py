"""Interpolated modified Kneser-Ney smoothing: the trie of an n-gram model from documents.

Chen & Goodman 1998, "An empirical study of smoothing techniques for language modeling"; counts and unigrams as in
Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Floats, Ints
from ..text.vocabulary import Vocabulary

NEVER_PREDICTED = (Vocabulary.PAD, Vocabulary.BOS, Vocabulary.SEP)


@dataclass(frozen=True)
class Trie:
    """An n-gram model. Nodes are n-grams, numbered by length; node 0 is the empty n-gram.

    Args:
        keys: (N,) int64, parent·V + last word, strictly increasing; entry i belongs to node i + 1.
        log_prob: (N + 1,) log p(last word | the words before it), interpolated, nats.
        log_backoff: (N + 1,) log back-off weight of the node as a context, nats.
        link: (N + 1,) node of the same n-gram without its oldest word.
        level: (order + 2,) nodes of k words are level[k] … level[k + 1] - 1.
    """

    keys: Ints
    log_prob: Floats
    log_backoff: Floats
    link: Ints
    level: Ints


def fit(documents: Sequence[Sequence[int] | Ints], vocab_size: int, order: int) -> Trie:
    """Fit documents of token ids, each with `<bos>` before and `<eos>` after it.

    Unigrams are interpolated with the uniform distribution over all tokens except `<pad>`, `<bos>` and `<sep>`, so that
    every other token has a positive probability in every context. These three occur in contexts only.
    """
    words, document = _flatten(documents)
    keys, counts, node, level = _count(words, document, vocab_size, order)
    size = int(level[-1])
    link, begins = np.zeros(size, np.int64), np.zeros(size, np.bool_)
    for k in range(1, order + 1):
        at = np.flatnonzero(node[k] >= 0)
        link[node[k][at]] = node[k - 1][at + 1] if k > 1 else 0
        begins[node[k][at]] = words[at] == Vocabulary.BOS
    parent, word = np.concatenate([[0], keys // vocab_size]), np.concatenate([[Vocabulary.PAD], keys % vocab_size])

    probability, log_backoff = np.zeros(size), np.zeros(size)
    for k in range(1, order + 1):
        here = slice(level[k], level[k + 1])
        count = counts[here]
        if k < order:
            # Below the highest order the count is the number of different preceding words; an n-gram at the beginning
            # of a document has none and keeps its count.
            longer = np.arange(level[k + 1], level[k + 2])
            different = np.bincount(link[longer], minlength=size)[here]
            count = np.where(begins[here], count, different)
        predicted = ~np.isin(word[here], NEVER_PREDICTED)
        discounts = np.concatenate([[0.0], modified_discounts(count[predicted])])
        discount = discounts[np.minimum(count, 3)] * predicted
        count = count * predicted
        total = np.bincount(parent[here], count, size)
        taken = np.bincount(parent[here], discount, size)
        weight = np.divide(taken, total, out=np.ones(size), where=total > 0)
        shorter = slice(level[k - 1], level[k])
        log_backoff[shorter] = np.log(weight[shorter])
        lower = 1.0 / (vocab_size - len(NEVER_PREDICTED)) if k == 1 else probability[link[here]]
        seen = np.divide(count - discount, total[parent[here]], out=np.zeros(len(count)), where=predicted)
        probability[here] = np.where(predicted, seen + weight[parent[here]] * lower, 0.0)
    with np.errstate(divide="ignore"):
        log_prob = np.log(probability)
    return Trie(keys, log_prob, log_backoff, link, level)


def modified_discounts(counts: Ints) -> Floats:
    """(3,) discounts D1, D2, D3+ from the counts of one order (Chen & Goodman 1998, eq. 26).

    If a count of counts is 0, as in a small corpus, the estimate does not exist, and ½, 1 and 1½ replace it; the model
    is still a proper distribution.
    """
    n1, n2, n3, n4 = (float(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return np.array([0.5, 1.0, 1.5])
    y = n1 / (n1 + 2 * n2)
    raw = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    # Outside these bounds a seen n-gram would keep no probability, or a context would pass none to the shorter one.
    return np.clip(raw, 0.01, np.array([0.99, 1.99, 2.99]))


def _flatten(documents: Sequence[Sequence[int] | Ints]) -> tuple[Ints, Ints]:
    """All words in one array, with `<bos>` and `<eos>`, and the document of each."""
    lengths = np.fromiter((len(d) for d in documents), np.int64, len(documents))
    begin = np.cumsum(lengths + 2) - lengths - 2
    words = np.full(int(lengths.sum()) + 2 * len(lengths), Vocabulary.EOS, np.int64)
    document = np.repeat(np.arange(len(lengths)), lengths + 2)
    words[begin] = Vocabulary.BOS
    inner = np.ones(len(words), np.bool_)
    inner[begin] = inner[begin + lengths + 1] = False
    words[inner] = np.concatenate([np.asarray(d, np.int64) for d in documents])
    return words, document


def _count(words: Ints, document: Ints, vocab_size: int, order: int) -> tuple[Ints, Ints, list[Ints], Ints]:
    """Keys and counts of all n-grams; for each length, the node that begins at each word; the levels."""
    nodes = [np.zeros(len(words), np.int64)]
    keys, counts, level = [], [np.zeros(1, np.int64)], [0, 1]
    for k in range(1, order + 1):
        places = max(0, len(words) - k + 1)  # none if the corpus is shorter than the n-gram
        inside = np.zeros(len(words), np.bool_)
        inside[:places] = document[:places] == document[k - 1 :]
        at = np.flatnonzero(inside)
        unique, place, count = np.unique(
            nodes[-1][at] * vocab_size + words[at + k - 1], return_inverse=True, return_counts=True
        )
        node = np.full(len(words), -1, np.int64)
        node[at] = place + level[-1]
        nodes.append(node)
        keys.append(unique)
        counts.append(count)
        level.append(level[-1] + len(unique))
    return np.concatenate(keys), np.concatenate(counts), nodes, np.array(level)
