"""How varied generated texts are, on tokens: distinct-n, self-BLEU, repetition. No text to compare with is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

Tokens = Sequence[Hashable]

_ORDER = 4  # of BLEU


def ngrams(tokens: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    """The n-grams of one text in their order; none where it is shorter."""
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[Tokens], n: int) -> float | None:
    """Distinct-n: different n-grams over all n-grams of all texts, 0 to 1; None where there is no n-gram.

    It falls as texts become more, so only equal amounts of text compare.

    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models", sec. 5.
    """
    found = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(found)) / len(found) if found else None


def repetition(texts: Sequence[Tokens], n: int = 4) -> float | None:
    """Seq-rep-n: the share of a text's n-grams that it had before, 0 to 1, mean over the texts that have n-grams.

    None where no text is long enough. Source: Welleck et al. 2020, "Neural text generation with unlikelihood
    training", eq. 9.
    """
    shares = [1.0 - len(set(found)) / len(found) for text in texts if (found := ngrams(text, n))]
    return float(np.mean(shares)) if shares else None


def self_bleu(texts: Sequence[Tokens]) -> float | None:
    """Self-BLEU: BLEU-4 of each text with all the others as references, mean, 0 to 1; 1 where all are the same.

    sacreBLEU's sentence BLEU with exponential smoothing, a token being a token; a text shorter than four tokens is
    scored by the n-grams it has. Counting is done here, once for all references together: a text's n-gram is clipped
    by the most that any other text has of it, so two numbers for each n-gram are enough, and n texts cost n and not n²
    comparisons. Empty texts are left out; None where fewer than two are left.

    Source: Zhu et al. 2018, "Texygen", sec. 3; Papineni et al. 2002, sec. 2.
    """
    from sacrebleu.metrics import BLEU  # takes a while to import

    counts = [_counts(text) for text in texts if len(text)]
    lengths = np.array([len(text) for text in texts if len(text)])
    if len(counts) < 2:
        return None
    most: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}  # largest count, whose it is, the next largest
    for number, own in enumerate(counts):
        for gram, count in own.items():
            first, owner, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, number, first) if count > first else (first, owner, max(second, count))
    scores = []
    for number, own in enumerate(counts):
        correct, total = [0] * _ORDER, [max(0, int(lengths[number]) - n) for n in range(_ORDER)]
        for gram, count in own.items():
            first, owner, second = most[gram]
            correct[len(gram) - 1] += min(count, second if owner == number else first)
        others = np.delete(lengths, number)
        away = np.abs(others - lengths[number])
        closest = int(others[away == away.min()].min())  # of two as close the shorter one, as sacreBLEU does
        bleu = BLEU.compute_bleu(
            correct, total, int(lengths[number]), closest, smooth_method="exp", effective_order=True
        )
        scores.append(bleu.score)
    return min(1.0, float(np.mean(scores)) / 100.0)


def _counts(text: Tokens) -> Counter[tuple[Hashable, ...]]:
    """How often each n-gram, n = 1 to 4, occurs in a text."""
    return Counter(gram for n in range(1, _ORDER + 1) for gram in ngrams(text, n))
