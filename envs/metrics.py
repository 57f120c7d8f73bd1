"""Scores of a text against a reference: exact match, token F1, BLEU, chrF, accuracy.

BLEU and chrF are sacreBLEU's (Post 2018), BLEU with the tokenisation "zh" if the reference has Chinese characters, else
"13a". Scores of one text lie between 0 and 1, those of a corpus between 0 and 100, as in papers.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

# Tokens: single Chinese characters and Japanese kana, and runs of other letters, digits and accents.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_CHINESE = re.compile(rf"[{_CJK}]")
_ARTICLES = frozenset(("a", "an", "the"))


def answer_tokens(text: str) -> list[str]:
    """Tokens for F1 and exact match: lower case, no punctuation, no English articles, single Chinese characters.

    SQuAD's normalisation (Rajpurkar et al. 2016), except that punctuation within a word separates its parts. A text of
    articles alone keeps them.
    """
    tokens: list[str] = _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())
    return [t for t in tokens if t not in _ARTICLES] or tokens


def exact_match(hypothesis: str, reference: str) -> float:
    """1 if both have the same `answer_tokens`, else 0; texts of punctuation alone are compared as they are."""
    own, other = answer_tokens(hypothesis), answer_tokens(reference)
    return float(own == other) if own or other else accuracy(hypothesis, reference)


def token_f1(hypothesis: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the `answer_tokens`, counted with multiplicity, 0 to 1.

    Source: Rajpurkar et al. 2016, "SQuAD", sec. 6.1.
    """
    own, other = answer_tokens(hypothesis), answer_tokens(reference)
    if not own or not other:
        return exact_match(hypothesis, reference)
    shared = sum((Counter(own) & Counter(other)).values())
    return 2.0 * shared / (len(own) + len(other))


def accuracy(hypothesis: str, reference: str) -> float:
    """1 if the texts are equal after stripping white space, else 0; for labels."""
    return float(hypothesis.strip() == reference.strip())


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """BLEU of one sentence, 0 to 1, with exponential smoothing and effective order."""
    return _bounded(_bleu(_is_chinese(reference), True).sentence_score(hypothesis, [reference]).score)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """ChrF2 of one sentence, 0 to 1."""
    return _bounded(_chrf().sentence_score(hypothesis, [reference]).score)


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of a corpus, 0 to 100, with one reference each; ValueError for empty lists or unequal lengths."""
    _check(hypotheses, references)
    chinese = 2 * sum(map(_is_chinese, references)) > len(references)
    return float(_bleu(chinese, False).corpus_score(list(hypotheses), [list(references)]).score)


def corpus_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """ChrF2 of a corpus, 0 to 100; see `corpus_bleu`."""
    _check(hypotheses, references)
    return float(_chrf().corpus_score(list(hypotheses), [list(references)]).score)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if not references or len(hypotheses) != len(references):
        raise ValueError(
            f"there must be as many hypotheses as references, at least one; got {len(hypotheses)} and {len(references)}"
        )


def _bounded(percent: float) -> float:
    return min(1.0, max(0.0, float(percent) / 100.0))  # sacreBLEU may round a perfect score to 100.00000000000004


def _is_chinese(text: str) -> bool:
    return _CHINESE.search(text) is not None


@lru_cache(maxsize=4)
def _bleu(chinese: bool, sentence: bool) -> Any:
    from sacrebleu.metrics import BLEU  # slow to import, and most environments do not need it

    return BLEU(tokenize="zh" if chinese else "13a", effective_order=sentence)


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
