"""Diversity of generated texts, on tokens and without references: distinct-n, self-BLEU, repetition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

Tokens = Sequence[Hashable]

_ORDER = 4  # of BLEU


def ngrams(tokens: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    """The n-grams of one text, in order; empty if the text is shorter than n."""
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[Tokens], n: int) -> float | None:
    """Distinct-n: number of different n-grams / number of n-grams in all texts, 0 to 1; None without n-grams.

    It decreases with the amount of text, so only equal amounts of text are comparable.

    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models", sec. 5.
    """
    found = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(found)) / len(found) if found else None


def repetition(texts: Sequence[Tokens], n: int = 4) -> float | None:
    """Seq-rep-n: the fraction of a text's n-grams that repeat earlier ones, 0 to 1, averaged over texts with n-grams.

    None if no text is long enough. Source: Welleck et al. 2020, "Neural text generation with unlikelihood training",
    eq. 9.
    """
    shares = [1.0 - len(set(found)) / len(found) for text in texts if (found := ngrams(text, n))]
    return float(np.mean(shares)) if shares else None


def self_bleu(texts: Sequence[Tokens]) -> float | None:
    """Self-BLEU: mean BLEU-4 of each text with all others as references, 0 to 1; 1 if all texts are equal.

    This is sacreBLEU's sentence BLEU with exponential smoothing, on the given tokens; a text shorter than four tokens
    is scored by the n-grams it has. Counts of n-grams are clipped by their largest count in any other text. The two
    largest counts of each n-gram suffice for that, so the cost is linear in the number of texts. Empty texts are left
    out; None if fewer than two texts remain.

    Source: Zhu et al. 2018, "Texygen", sec. 3; Papineni et al. 2002, sec. 2.
    """
    from sacrebleu.metrics import BLEU  # slow to import

    counts = [_counts(text) for text in texts if len(text)]
    lengths = np.array([len(text) for text in texts if len(text)])
    if len(counts) < 2:
        return None
    most: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}  # largest count, its text, second largest count
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
        closest = int(others[away == away.min()].min())  # the shorter one of a tie, as in sacreBLEU
        bleu = BLEU.compute_bleu(
            correct, total, int(lengths[number]), closest, smooth_method="exp", effective_order=True
        )
        scores.append(bleu.score)
    return min(1.0, float(np.mean(scores)) / 100.0)


def _counts(text: Tokens) -> Counter[tuple[Hashable, ...]]:
    """Counts of the n-grams of a text, n = 1 to 4."""
    return Counter(gram for n in range(1, _ORDER + 1) for gram in ngrams(text, n))
