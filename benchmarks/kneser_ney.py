"""Interpolated modified Kneser-Ney on WikiText-2: perplexity, time to fit, memory, queries per second.

Conventions: words are separated by spaces as published; every line ends with <eos>, empty ones too; <bos> is context
only; `<unk>` in the text is an ordinary word; unigrams are interpolated with the uniform distribution over all words
and <eos>.

    python benchmarks/kneser_ney.py --data-dir DIR [--orders 3 5] [--json FILE]

DIR contains wikitext2/train.txt, valid.txt and test.txt.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from tokenlm.envs.targets import NGramTarget
from tokenlm.envs.text import Vocabulary

from record import print_table, write_result

PUBLISHED = {"train": 2_088_628, "valid": 217_646, "test": 245_569}


def read(path: Path) -> list[list[str]]:
    """The words of every line."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [line.split() for line in file]


def perplexity(target: NGramTarget, documents: list[np.ndarray]) -> float:
    """Perplexity of documents, <eos> included, computed for all of them in parallel."""
    by_length = sorted((np.append(d, Vocabulary.EOS) for d in documents), key=len, reverse=True)
    lengths = np.array([len(d) for d in by_length])
    table = np.full((len(by_length), lengths[0]), Vocabulary.PAD)
    for row, words in enumerate(by_length):
        table[row, : len(words)] = words
    states = target.state_of(np.full((len(by_length), 1), Vocabulary.BOS))
    total = 0.0
    for column in range(lengths[0]):
        alive = int(np.count_nonzero(lengths > column))
        words = table[:alive, column]
        total += float(target.state_log_prob(states[:alive], words).sum())
        states[:alive] = target.next_state(states[:alive], words)
    return math.exp(-total / int(lengths.sum()))


def queries_per_second(target: NGramTarget, documents: list[np.ndarray], batch: int = 1024) -> float:
    """Median rate of batched log-probabilities on held-out text."""
    text = np.concatenate(documents)[: batch * 64]
    width = target.order
    windows = np.lib.stride_tricks.sliding_window_view(text, width)[: batch * 32]
    states, words = target.state_of(windows[:, :-1]), np.ascontiguousarray(windows[:, -1])
    rates = []
    for start in range(0, len(states) - batch, batch):
        began = time.perf_counter()
        target.state_log_prob(states[start : start + batch], words[start : start + batch])
        rates.append(batch / (time.perf_counter() - began))
    return statistics.median(rates)


def main() -> None:
    """Fit all orders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--orders", type=int, nargs="+", default=[2, 3, 4, 5])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    raw = {name: read(chosen.data_dir / "wikitext2" / f"{name}.txt") for name in PUBLISHED}
    for name, count in PUBLISHED.items():
        found = sum(len(d) + 1 for d in raw[name])
        if found != count:
            raise SystemExit(f"{name} has {found:,} tokens, the published file has {count:,}")
    vocabulary = Vocabulary.build(raw["train"])
    ids = {name: [np.array(vocabulary.encode(d), np.int64) for d in documents] for name, documents in raw.items()}
    rows = []
    for order in chosen.orders:
        began = time.perf_counter()
        target = NGramTarget.fit(ids["train"], len(vocabulary), order)
        seconds = time.perf_counter() - began
        rows.append({
            "order": order,
            "valid perplexity": perplexity(target, ids["valid"]),
            "test perplexity": perplexity(target, ids["test"]),
            "seconds to fit": seconds,
            "peak memory GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "queries per second": queries_per_second(target, ids["test"]),
        })  # fmt: skip
    print_table(rows)
    if chosen.json:
        write_result(chosen.json, rows, vocabulary=len(vocabulary), batch=1024)


if __name__ == "__main__":
    main()
