"""Reading and writing ARPA files, the text format of back-off n-gram models (KenLM, SRILM).

A file lists n-grams with the base-10 logarithms of their probabilities and, for contexts, of their back-off weights
(Katz 1987, "Estimation of probabilities from sparse data").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Ints
from ..text.files import write_text_atomically
from ..text.opening import shown, text_lines

LOG_ZERO = -99.0  # log10 of 0 in the format
_LN10 = float(np.log(10.0))
_COUNT = re.compile(r"ngram +([0-9]{1,4}) *= *([0-9]{1,15})")
_BLANKS = re.compile(r"[ \t]+")  # str.split would also split at the ideographic space, which can be a word


class Ngrams(NamedTuple):
    """The n-grams of one length k.

    Args:
        words: (N, k) int64, oldest word first.
        log_prob: (N,) log p(last word | the words before it), nats.
        log_backoff: (N,) log back-off weight, nats; 0 if the file has none.
        lines: (N,) int64, line numbers in the file, from 1.
    """

    words: Ints
    log_prob: Floats
    log_backoff: Floats
    lines: Ints

    def take(self, rows: npt.NDArray[Any]) -> Ngrams:
        """The n-grams of `rows`, indices or (N,) bool."""
        return Ngrams(self.words[rows], self.log_prob[rows], self.log_backoff[rows], self.lines[rows])


@dataclass(frozen=True)
class ArpaFile:
    """The contents of an ARPA file.

    Args:
        path: the file.
        words: the words of its unigrams; n-grams are indices into these.
        levels: the n-grams of length 1, 2, ….
    """

    path: Path
    words: list[str]
    levels: list[Ngrams]


def read_arpa(path: str | Path) -> ArpaFile:
    """Read a UTF-8 file; FileNotFoundError if it is missing, ValueError with the line of a mistake.

    A compressed file, and one of more than `arpa_bytes` (see `Limits`) are refused.
    """
    path = Path(path)
    handle = text_lines(path, kind="ARPA file", newline="\n", limit="arpa_bytes")
    try:
        lines = ((number, line.strip(" \t\r\n")) for number, line in enumerate(handle, 1))
        return _parse(path, iter((n, line) for n, line in lines if line))
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path} is not UTF-8: {problem}") from None


def _parse(path: Path, lines: Iterator[tuple[int, str]]) -> ArpaFile:
    if not any(line == "\\data\\" for _, line in lines):  # lines before it are comments
        raise ValueError(f"{path} is not an ARPA file: it has no line \\data\\")
    counts: list[int] = []
    number, line = _next(path, lines)
    while (match := _COUNT.fullmatch(line)) is not None:
        if int(match[1]) != len(counts) + 1:
            raise ValueError(
                f"{path}, line {number}: expected the count 'ngram {len(counts) + 1}=…', not {shown(line)}"
            )
        counts.append(int(match[2]))
        number, line = _next(path, lines)
    if not counts:
        raise ValueError(f"{path}, line {number}: expected the count 'ngram 1=…', not {shown(line)}")
    words: dict[str, int] = {}
    levels = []
    for k, count in enumerate(counts, 1):
        if line != f"\\{k}-grams:":
            raise ValueError(f"{path}, line {number}: expected the section \\{k}-grams:, not {shown(line)}")
        entries, where = [], []
        number, line = _next(path, lines)
        while not line.startswith("\\") or not (line == "\\end\\" or line.endswith("-grams:")):
            entries.append(_entry(f"{path}, line {number}", _BLANKS.split(line), k, k == len(counts), words))
            where.append(number)
            number, line = _next(path, lines)
        if len(entries) != count:
            raise ValueError(
                f"{path}, line {number}: the section \\{k}-grams: holds {len(entries)} n-grams, "
                f"not the {count} announced"
            )
        ids = np.array([e[0] for e in entries], np.int64).reshape(count, k)
        log_prob, log_backoff = np.array([e[1:] for e in entries], np.float64).reshape(count, 2).T
        levels.append(Ngrams(ids, log_prob, log_backoff, np.array(where, np.int64)))
    if line != "\\end\\":
        raise ValueError(f"{path}, line {number}: expected \\end\\ after {len(counts)} sections, not {shown(line)}")
    return ArpaFile(path, list(words), levels)


def _next(path: Path, lines: Iterator[tuple[int, str]]) -> tuple[int, str]:
    try:
        return next(lines)
    except StopIteration:
        raise ValueError(f"{path} is incomplete: it has no line \\end\\") from None


def _entry(
    where: str, fields: list[str], k: int, is_longest: bool, words: dict[str, int]
) -> tuple[list[int], float, float]:
    """Word indices, log-probability and log back-off weight, nats, of one line; k = 1 adds to `words`."""
    if not k + 1 <= len(fields) <= k + 2:
        raise ValueError(
            f"{where}: expected a number, {k} word(s) and optionally a number, not {shown(' '.join(fields))}"
        )
    gram = fields[1 : k + 1]
    if k == 1:
        if gram[0] in words:
            raise ValueError(f"{where}: the word {gram[0]!r} is listed twice")
        words[gram[0]] = len(words)
    unknown = [w for w in gram if w not in words]
    if unknown:
        raise ValueError(f"{where}: the word {shown(unknown[0])} is not among the unigrams")
    log_prob = _number(where, fields[0])
    log_backoff = _number(where, fields[k + 1]) if len(fields) == k + 2 and not is_longest else 0.0
    if gram[-1] == "<s>":  # never predicted; KenLM writes 0, SRILM -99
        log_prob = -np.inf
    if log_prob > 0.0:
        raise ValueError(f"{where}: a log-probability must not be above 0, not {fields[0]}")
    return [words[w] for w in gram], log_prob, log_backoff


def _number(where: str, text: str) -> float:
    """Nats from a base-10 logarithm; -inf for `LOG_ZERO` and below."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if np.isnan(value) or value == np.inf:
        raise ValueError(f"{where}: expected a base-10 logarithm, not {shown(text)}")
    return -np.inf if value <= LOG_ZERO else value * _LN10


def write_arpa(path: str | Path, words: Sequence[str], levels: Iterable[Ngrams]) -> None:
    """Write n-grams of length 1, 2, … (indices into `words`) in UTF-8; ValueError for a word with white space."""
    for word in words:
        if not word or set(word) & set(" \t\n\r\v\f\0"):
            raise ValueError(f"the token {word!r} is empty or has white space, which an ARPA file cannot hold")
    levels = list(levels)
    lines = ["\\data\\", *(f"ngram {k}={len(level.words)}" for k, level in enumerate(levels, 1)), ""]
    for k, level in enumerate(levels, 1):
        lines.append(f"\\{k}-grams:")
        for ids, log_prob, log_backoff in zip(level.words, level.log_prob, level.log_backoff, strict=True):
            gram = " ".join(words[i] for i in ids)
            weight = "" if k == len(levels) else f"\t{_text(log_backoff)}"
            lines.append(f"{_text(log_prob)}\t{gram}{weight}")
        lines.append("")
    write_text_atomically(Path(path), "\n".join([*lines, "\\end\\", ""]))


def _text(nats: float) -> str:
    return f"{max(nats / _LN10, LOG_ZERO):.12g}"
