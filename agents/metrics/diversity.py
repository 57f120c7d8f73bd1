"""How varied generated texts are, on tokens: distinct-n, self-BLEU, repetition. No text to compare with is needed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

Tokens = Sequence[Hashable]

SELF_BLEU_TEXTS = 100  # self-BLEU compares every text with every other: more cost much and say no more


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


def self_bleu(texts: Sequence[Tokens], seed: int = 0, most: int = SELF_BLEU_TEXTS) -> float | None:
    """Self-BLEU: BLEU-4 of each text with all the others as references, mean, 0 to 1; 1 where all are the same.

    sacreBLEU's sentence BLEU with exponential smoothing; a text shorter than four tokens is scored by the n-grams it
    has. Of more than `most` texts so many are drawn. Empty texts are left out; None where fewer than two are left.
    sacreBLEU tokenises nothing here: a token is a token.

    Source: Zhu et al. 2018, "Texygen", sec. 3.
    """
    written = [text for text in texts if len(text)]
    if len(written) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(written), most, replace=False))
        written = [written[i] for i in chosen]
    if len(written) < 2:
        return None
    from sacrebleu.metrics import BLEU  # takes a while to import

    score = BLEU(tokenize="none", effective_order=True).sentence_score
    numbers: dict[Hashable, str] = {}  # words of any spelling as words that no library cuts
    lines = [" ".join(numbers.setdefault(token, f"w{len(numbers)}") for token in text) for text in written]
    others = (lines[:i] + lines[i + 1 :] for i in range(len(lines)))
    return min(1.0, float(np.mean([score(line, rest).score for line, rest in zip(lines, others, strict=True)])) / 100.0)
