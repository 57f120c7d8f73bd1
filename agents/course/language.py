"""Exercises of chapters 1 and 2: language models, and from text to tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs import Vocabulary
from .exercise import Exercise, compared, overlap, same_numbers, same_words

LogProbs = Sequence[float]
Words = Sequence[str]


def perplexity(log_probs: LogProbs) -> float:
    """Perplexity of a text of which every token has this log-probability, nats."""
    return math.exp(-sum(log_probs) / len(log_probs))


def softmax(logits: Sequence[float] | npt.NDArray[np.float64], temperature: float) -> Any:
    """(V,) probabilities ∝ exp(logit/τ); at τ = 0 the first of the largest has all."""
    values = np.asarray(logits, np.float64)
    if temperature == 0.0:
        return (np.arange(len(values)) == values.argmax()).astype(np.float64)
    weights = np.exp((values - values.max()) / temperature)
    return weights / weights.sum()


def next_words(sentences: Sequence[Words], word: str, end: tuple[str, ...] = ("<eos>",)) -> dict[str, float]:
    """Relative frequency of what follows `word`; a sentence ends with <eos>."""
    pairs = [p for words in sentences for p in zip(words, [*words[1:], *end], strict=False) if p[0] == word]
    return {after: count / len(pairs) for after, count in Counter(after for _, after in pairs).items()}


def segment(text: str, words: set[str]) -> list[str]:
    """Forward maximum matching: always the longest known word, a single character where none is known."""
    return _matched(text, words, max)


def _matched(text: str, words: set[str], prefer: Callable[..., int]) -> list[str]:
    cut = []
    while text:
        known = [n for n in range(1, len(text) + 1) if text[:n] in words] or [1]
        cut.append(text[: prefer(known)])
        text = text[len(cut[-1]) :]
    return cut


def _from_behind(text: str, words: set[str]) -> list[str]:
    return [w[::-1] for w in _matched(text[::-1], {w[::-1] for w in words}, max)][::-1]


def vocabulary(documents: Sequence[Words], max_size: int) -> list[str]:
    """The special tokens, then words by falling frequency, ties in the order of the characters."""
    return [*Vocabulary.SPECIAL_TOKENS, *Vocabulary.build(documents, max_size).words]


def bits_per_character(log_probs: LogProbs, text: str) -> float:
    """Bits for each character; the log-probabilities (nats) are those of the tokens and of <eos>, one character."""
    return -sum(log_probs) / math.log(2) / (len(text) + 1)


_TEXTS = ([-1.0], [-2.3, -0.1, -4.0], [math.log(0.5)] * 7, [-0.7, -1.9, -3.1, -0.2])
_LOGITS = ((1.0, 2.0, 3.0), (0.0, -1.0, 4.0, 4.0), (1000.0, 999.0, 998.0))
_SENTENCES = (
    ("你", "好"), ("你", "好", "吗"), ("你", "好", "吗"), ("好", "吗"), ("我", "很", "好"), ("很", "好", "很", "好"),
)  # fmt: skip
_DICTIONARY = {
    "研究", "研究生", "生命", "起源", "今天", "天气", "天气预报", "很", "好", "北京", "大学", "大学生", "北京大学",
}  # fmt: skip
_SEGMENTED = ("研究生命起源", "今天天气很好", "北京大学生", "天气预报说今天很好", "好", "")
_DOCUMENTS = (
    ("春", "风", "春", "雨"), ("风", "雨", "雪"), ("春", "花", "秋", "月"), ("月", "花", "月"), ("江", "月"),
)  # fmt: skip
_CUT = (([-3.0, -2.0, -0.5], "今天很好"), ([-1.0, -0.1], "好"), ([-4.0, -4.0, -1.0, -2.0, -0.3], "床前明月光"))

LANGUAGE = (
    Exercise(
        "chapter1.1",
        "perplexity(log_probs)",
        compared(
            [(text,) for text in _TEXTS],
            perplexity,
            same_numbers,
            "困惑度 = exp(−平均对数概率)",
            (
                (lambda lp: math.exp(-sum(lp)), "要先除以词数：困惑度与文本长短无关"),
                (lambda lp: 2.0 ** (-sum(lp) / len(lp)), "这里的对数以 e 为底，不是 2"),
                (lambda lp: sum(math.exp(-x) for x in lp) / len(lp), "先平均对数概率，再取指数，次序不能颠倒"),
            ),
        ),
    ),
    Exercise(
        "chapter1.2",
        "softmax(logits, temperature)",
        compared(
            [(list(logits), tau) for logits in _LOGITS for tau in (1.0, 0.5, 0.0, 3.0)],
            softmax,
            overlap,
            "τ = 0 时概率全归最大者（并列取第一个）；取指数之前先减去最大值，否则会溢出",
            (
                (lambda logits, tau: softmax(logits, 1.0), "没有用到温度 τ"),
                (lambda logits, tau: softmax(logits, 1.0 / tau if tau else 0.0), "应当除以 τ，而不是乘以 τ"),
            ),
        ),
    ),
    Exercise(
        "chapter1.3",
        "next_words(sentences, word)",
        compared(
            [(_SENTENCES, word) for word in ("你", "好", "吗", "很")],
            next_words,
            overlap,
            "数一数 word 每次出现之后是什么，再除以总次数",
            ((lambda sentences, word: next_words(sentences, word, ()), "句子也会结束：句末的词后面是 <eos>"),),
        ),
    ),
    Exercise(
        "chapter2.1",
        "segment(text, words)",
        compared(
            [(text, _DICTIONARY) for text in _SEGMENTED],
            segment,
            same_words,
            "从左往右，每次取词典里最长的词；没有就取一个字",
            (
                (_from_behind, "这是逆向最大匹配，题目要的是正向"),
                (lambda text, words: _matched(text, words, min), "要取最长的词，不是最短的"),
                (lambda text, words: list(text), "没有查词典：这是按字切分"),
            ),
        ),
    ),
    Exercise(
        "chapter2.2",
        "vocabulary(documents, max_size)",
        compared(
            [(_DOCUMENTS, size) for size in (8, 10, 40)],
            vocabulary,
            same_words,
            "五个特殊词元在前，其余按词频从高到低，词频相同按字符编码",
            (
                (lambda docs, size: vocabulary(docs, size + 5), "max_size 把五个特殊词元也算在内"),
                (lambda docs, size: vocabulary(docs, size + 5)[5:], "缺少 <pad> <unk> <bos> <eos> <sep>"),
                (lambda docs, size: vocabulary(docs, size)[5:], "缺少 <pad> <unk> <bos> <eos> <sep>"),
            ),
        ),
    ),
    Exercise(
        "chapter2.3",
        "bits_per_character(log_probs, text)",
        compared(
            _CUT,
            bits_per_character,
            same_numbers,
            "总比特数除以字数；log_probs 以 nat 计，除以 ln 2 才是比特",
            (
                (lambda lp, text: -sum(lp) / math.log(2) / len(text), "<eos> 也算一个字：分母是字数加一"),
                (lambda lp, text: -sum(lp) / (len(text) + 1), "单位是 nat，要除以 ln 2 换成比特"),
                (lambda lp, text: -sum(lp) / math.log(2) / len(lp), "分母是字数，不是词数"),
            ),
        ),
    ),
)
