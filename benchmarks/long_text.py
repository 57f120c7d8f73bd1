"""Memory and time of an update on long texts: LSTM with and without chunks, attention with and without a window.

    python benchmarks/long_text.py [--json FILE] [--png FILE] [--device cpu] [--lengths 256 1024 4096]

Measures updates of the soft DQN (both networks, forward, backward, optimiser) on episodes of T tokens. Every row runs
in its own process. Reports the peak memory of the second and third update beyond weights, optimiser and replay, and the
transitions per second of later updates.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cases import NETWORKS, Case, make_update
from measuring import in_own_process, peak_memory, rates, spread
from record import print_table, write_result

LENGTHS = (256, 512, 1_024, 2_048, 4_096)
BATCH = 4
VOCAB_SIZE = 5_000
CHUNK, WINDOW = 256, 256
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm": NETWORKS["lstm"],
    f"lstm, chunks of {CHUNK}": NETWORKS["lstm"] | {"chunk_length": CHUNK},
    "transformer": NETWORKS["transformer"],
    f"transformer, window {WINDOW}": NETWORKS["transformer"] | {"attention_window": WINDOW},
}
Work = tuple[str, int, int, str, int, float]


def measure(work: Work) -> dict[str, Any]:
    """Measure memory and rate of one variant at one length."""
    name, length, batch, device, threads, seconds = work
    torch.set_num_threads(threads)
    kind = str(VARIANTS[name]["name"])
    case = Case(kind, VOCAB_SIZE, length, batch)
    _, update = make_update(case, device, network=VARIANTS[name])
    update()  # allocates gradients and optimiser state
    peaks = [peak_memory(update, device) for _ in range(2)]
    return {
        "peak MiB": max(peaks),
        "KiB a token": 1024 * max(peaks) / (batch * (length + 1)),
        **spread(rates(update, case.transitions, seconds, device), "transitions/s"),
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot memory and rate against the length of the text."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in VARIANTS:
        line = [row for row in rows if row["network"] == name and row["peak MiB"] is not None]
        for axis, column in zip(axes, ("peak MiB", "transitions/s"), strict=True):
            axis.loglog([row["T"] for row in line], [row[column] for row in line], "o-", base=2, label=name)
    axes[0].set(xlabel="tokens of a text", ylabel="memory of an update (MiB)")
    axes[1].set(xlabel="tokens of a text", ylabel="transitions / s")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure all variants and lengths; print, plot and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring the rate of a row")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a row is given up")
    chosen = parser.parse_args()
    empty = dict.fromkeys(("peak MiB", "KiB a token", "transitions/s", "25 %", "75 %", "repetitions", "note"))
    rows = []
    for name, length in tqdm([(name, length) for name in VARIANTS for length in chosen.lengths], unit="row"):
        work: Work = (name, length, chosen.batch, chosen.device, chosen.threads, chosen.seconds)
        found = in_own_process(measure, work, chosen.limit)
        rows.append({"network": name, "T": length, "batch": chosen.batch} | empty | found)
    print_table(rows)
    if chosen.png:
        plot(rows, chosen.png)
    if chosen.json:
        write_result(
            chosen.json, rows, seed=0, device=chosen.device, threads=chosen.threads, vocab_size=VOCAB_SIZE,
            networks=VARIANTS, seconds=chosen.seconds,
        )  # fmt: skip


if __name__ == "__main__":
    main()
