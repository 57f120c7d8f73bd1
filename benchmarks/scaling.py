"""Cost of a transition against vocabulary size, length and batch size, compared with a roofline model.

    python benchmarks/scaling.py [--json FILE] [--png FILE] [--device cuda]
    python benchmarks/scaling.py --simulate [--json benchmarks/results/cluster.json]

The roofline is a lower bound of the time of an update: its floating-point operations at the measured rate of a large
matrix product, plus the bytes that optimiser and target network move at the measured rate of a large copy. Operations
that are recomputed to save memory are not counted.

`--simulate` measures nothing: it puts rates of the committed results into the model of `cluster.py`, of many devices.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tokenlm.agents.networks.precision import DTYPES, resolve_precision

from cases import NETWORKS, Case, make_update
from measured_rates import simulated
from record import print_table, write_result

VOCAB_SIZES = (200, 1_000, 5_000, 20_000, 50_000)
LENGTHS = (16, 32, 64, 128, 256)
BATCHES = (8, 32, 128)
SETTINGS: dict[str, dict[str, Any]] = {
    "dqn": {"loss": "dqn"},
    "dqn, sparse Adam": {"loss": "dqn", "precision": "auto", "optimizer": "sparse_adam"},
    "soft_q": {"loss": "soft_q"},
    "dqn, auto": {"loss": "dqn", "precision": "auto"},
    "soft_q, auto": {"loss": "soft_q", "precision": "auto"},
}
UPDATES = ["dqn", "dqn, sparse Adam", "soft_q"]


def flops(case: Case, loss: str) -> float:
    """Floating-point operations of one update; a multiply-add counts as two."""
    size, positions = NETWORKS[case.network], case.batch * (case.length + 1)
    width = size["hidden_size"]
    if case.network == "lstm":
        body = 2 * 4 * width * (size["embedding_size"] + width)
    else:  # 12 D² weights per block, and causal attention: queries with keys, weights with values
        body = size["num_layers"] * (2 * 12 * width**2 + 2 * 2 * width * (case.length + 1) / 2)
    # Forward and backward of the online network cost three passes, the target network one.
    head = 2 * width * case.vocab_size * case.transitions
    # Over all V: one pass for dqn (maximum of the target), three for soft_q (online log-sum-exp and its gradient).
    return 4 * body * positions + (head if loss == "dqn" else 3 * head)


def bytes_moved(case: Case, settings: dict[str, Any], sizes: dict[str, int]) -> float:
    """Bytes that one update moves outside of matrix products: gradients, clipping, Adam, target network.

    Args:
        case: sizes of the update.
        settings: of the learner.
        sizes: number of entries of each parameter, by name.
    """
    total = 0.0
    for name, size in sizes.items():
        touched = size
        if settings.get("optimizer") == "sparse_adam" and name in ("embedding.weight", "head.weight"):
            touched = size * min(1.0, case.transitions / case.vocab_size)
        # The gradient is written, read for its norm, and scaled; Adam reads four arrays and writes three.
        total += 4 * touched * (1 + 1 + 2 + 7)
        total += 4 * size * 3  # the update of the target network reads two arrays and writes one
    return total


def seconds_each(run: Callable[[], Any], device: torch.device, least: float, repetitions: int) -> list[float]:
    """Seconds per call, measured `repetitions` times over at least `least` seconds of calls."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        run()
    wait()
    found = []
    for _ in range(repetitions):
        count, began = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - began < least:
            run()
            count += 1
        wait()
        found.append((time.perf_counter() - began) / count)
    return found


def ceilings(device: torch.device, side: int | None = None) -> dict[str, float]:
    """Measured operations per second of a large matrix product, and bytes per second of a large copy.

    Args:
        device: where to measure.
        side: rows and columns of the matrices; None for a size that fills the device. The copy of a small side is
            small too.
    """
    side = side or (8_192 if device.type == "cuda" else 2_048)
    found = {}
    for name, dtype in DTYPES.items():
        if device.type == "cpu" and dtype not in (torch.float32, resolve_precision("auto", device)):
            continue  # an emulated product takes half a minute, and no update uses it
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        times = seconds_each(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device, 0.3, 5)
        found[name] = 2 * side**3 / min(times)
    source = torch.randn(side * side if side < 2_048 else 1 << 26, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.numel() * 4 / min(seconds_each(lambda: target.copy_(source), device, 0.3, 5))
    return found


def measure(case: Case, name: str, device: torch.device, ceiling: dict[str, float], repetitions: int) -> dict[str, Any]:
    """Measure one row of the table."""
    settings = SETTINGS[name]
    learner, update = make_update(case, device, **settings)
    times = seconds_each(update, device, 0.5, repetitions)
    seconds = float(np.median(times))
    work = flops(case, settings["loss"])
    sizes = {n: p.numel() for n, p in learner.network.named_parameters()}
    products = str(resolve_precision(settings.get("precision", "float32"), device)).removeprefix("torch.")
    least = work / ceiling.get(products, ceiling["float32"]) + bytes_moved(case, settings, sizes) / ceiling["copy"]
    return {
        "network": case.network,
        "update": name,
        "V": case.vocab_size,
        "T": case.length,
        "batch": case.batch,
        "µs a transition": 1e6 * seconds / case.transitions,
        "spread": float(np.subtract(*np.percentile(times, [75, 25]))) / seconds,
        "transitions/s": round(case.transitions / seconds),
        "MFLOP a transition": work / case.transitions / 1e6,
        "GFLOP/s": work / seconds / 1e9,
        "of the roofline": least / seconds,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the cost of a transition against each of the three sizes, measured and by the roofline."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", sharey=True)
    base = Case()
    for axis, (name, default) in zip(
        axes, (("V", base.vocab_size), ("T", base.length), ("batch", base.batch)), strict=True
    ):
        others = {"V": base.vocab_size, "T": base.length, "batch": base.batch}
        del others[name]
        for number, (network, update) in enumerate(sorted({(r["network"], r["update"]) for r in rows})):
            line = sorted(
                (r[name], r["µs a transition"], r["of the roofline"]) for r in rows
                if (r["network"], r["update"]) == (network, update) and all(r[n] == v for n, v in others.items())
            )  # fmt: skip
            if not line:
                continue
            x, cost, share = map(np.array, zip(*line, strict=True))
            axis.loglog(x, cost, "o-", color=f"C{number}", label=f"{network}, {update}")
            axis.loglog(x, cost * share, ":", color=f"C{number}")
        axis.set_xlabel({"V": "vocabulary", "T": "tokens of an episode", "batch": "episodes of a batch"}[name])
        axis.axvline(default, color="0.8", zorder=0)
    axes[0].set_ylabel("µs a transition (dotted: roofline)")
    axes[2].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure all cases; print, plot and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--updates", nargs="+", default=UPDATES, choices=list(SETTINGS))
    parser.add_argument("--simulate", action="store_true", help="a model of many devices, from committed results")
    chosen = parser.parse_args()
    if chosen.simulate:
        rows, settings = simulated()
        columns = ("network", "layout", "devices", "learners", "tokens/s", "of lone devices", "limit")
        print_table([{name: row[name] for name in columns} for row in rows])
        print_table(settings["beside measurements"])
        if chosen.json:
            write_result(chosen.json, rows, **settings)
        return
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    ceiling = ceilings(device)
    print({name: f"{value / 1e9:,.0f} G{'B' if name == 'copy' else 'FLOP'}/s" for name, value in ceiling.items()})
    base = Case()
    sizes = {Case(network, v) for network in NETWORKS for v in VOCAB_SIZES}
    sizes |= {Case(network, base.vocab_size, t) for network in NETWORKS for t in LENGTHS}
    sizes |= {Case(network, base.vocab_size, base.length, b) for network in NETWORKS for b in BATCHES}
    work = [
        (case, name)
        for case in sorted(sizes, key=lambda c: (c.network, c.vocab_size, c.length, c.batch))
        for name in chosen.updates
    ]
    rows = [
        measure(case, name, device, ceiling, chosen.repetitions) for case, name in tqdm(work, unit="case")
    ]  # fmt: skip
    print_table(rows)
    if chosen.png:
        plot(rows, chosen.png)
    if chosen.json:
        write_result(chosen.json, rows, ceilings=ceiling, device=str(device), threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
