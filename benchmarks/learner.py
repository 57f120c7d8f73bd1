"""Transitions per second and memory of an update: ours against other libraries' DQN on the same network.

    python benchmarks/learner.py [--vocab-sizes 5000 50000] [--networks lstm] [--lengths 32] [--json FILE]
    python benchmarks/learner.py --device cuda

A transition is one (s, a, r, s') whose TD error is part of an update. Every learner samples from its own replay of the
same random texts of exactly T tokens: ours as texts, the others' as windows of up to T + 1 tokens (`peers.py`). Our
batch is 32 texts, so 32·T transitions. stable-baselines3 is measured with its default batch of 32 transitions and with
32·T, and both ratios are reported; the other libraries have 32·T. A batch that exceeds the limits of time or memory is
halved until it fits; the column "batch" has the size used.

Update memory is the peak during one update beyond replay, networks and optimiser state; it includes gradients. Every
case runs in its own process. Reports median and quartiles of five repetitions (fewer if an update takes seconds). The
other libraries: pip install 'tokenlm[compare]'.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from measuring import in_own_process, peak_memory, rates, spread, synchronize
from ours import OURS, SB3, Ours, PeerLearner, Task
from record import print_table, write_result

TEXTS = 32  # texts in our batch
SB3_BATCH = 32  # transitions, the library's default
RATE, MEMORY = "transitions/s", "update MiB"
MATERIALISED = "ours, materialised"
LEARNERS = (*OURS, SB3, "CleanRL's algorithm", "Tianshou", "TorchRL")


class Case(NamedTuple):
    """One row of the table: a learner, its task, its batch in transitions, and the limits."""

    peer: str
    task: Task
    batch: int
    seconds: float
    update_seconds: float
    update_gib: float
    threads: int


def measure(case: Case) -> dict[str, Any]:
    """Measure rate and memory of a case."""
    torch.set_num_threads(case.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # other libraries' own deprecations
    device = case.task.device
    torch.manual_seed(0)
    learner = make_learner(case)
    learner.update(learner.least)  # creates the optimiser state and tunes kernels
    batch = fitting_batch(learner, case)
    if not batch:
        return {"note": f"an update takes more than {case.update_seconds:g} s or {case.update_gib:g} GiB"}
    forget_gradients(learner)
    memory = peak_memory(lambda: learner.update(batch), device)
    found = rates(lambda: learner.update(batch), batch, case.seconds, device)
    return {"batch": batch, **spread(found, RATE), MEMORY: memory}


def make_learner(case: Case) -> PeerLearner:
    """The case's learner; ModuleNotFoundError where its library is not installed."""
    if case.peer in OURS:
        return OURS[case.peer](case.task, case.batch)
    from peers import PEERS

    return PEERS[case.peer](case.task, case.batch)


def fitting_batch(learner: PeerLearner, case: Case) -> int:
    """The case's batch, for learners on windows halved until an update is within the limits; 0 if none is.

    Time and memory of a large update are extrapolated linearly from two small ones.
    """
    least, part = learner.least, SB3_BATCH
    if isinstance(learner, Ours) or case.batch <= part:
        return case.batch
    small, large = (_cost(learner, size, case.task.device) for size in (least, part))
    batch = case.batch
    while batch >= part:
        scale = (batch - least) / (part - least)
        seconds, gib = (a + max(0.0, b - a) * scale for a, b in zip(small, large, strict=True))
        if seconds <= case.update_seconds and not gib > case.update_gib:
            return batch
        batch //= 2
    return 0


def _cost(learner: PeerLearner, transitions: int, device: str) -> tuple[float, float]:
    """Seconds and memory in GiB of an update."""
    forget_gradients(learner)
    gib = peak_memory(lambda: learner.update(transitions), device) / 1024
    return min(_update_seconds(learner, transitions, device) for _ in range(2)), gib


def _update_seconds(learner: PeerLearner, transitions: int, device: str) -> float:
    synchronize(device)
    began = time.perf_counter()
    learner.update(transitions)
    synchronize(device)
    return time.perf_counter() - began


def forget_gradients(learner: PeerLearner) -> None:
    """Free the gradients, so that they count as memory of the next update."""
    for parameter in learner.parameters():
        parameter.grad = None


def row_of(case: Case, result: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, without ratios."""
    return {
        "network": case.task.network, "T": case.task.length, "V": case.task.vocab_size, "learner": case.peer,
        "batch": result.get("batch", case.batch), RATE: result.get(RATE), "25 %": result.get("25 %"),
        "75 %": result.get("75 %"), "repetitions": result.get("repetitions"), MEMORY: result.get(MEMORY),
        "note": result.get("note"),
    }  # fmt: skip


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the ratios to stable-baselines3 with both batches and to the materialised form, on the same task."""
    default, large = f"× SB3, batch {SB3_BATCH}", "× SB3, largest batch"
    lines = []
    for row in rows:
        same = [r for r in rows if all(r[k] == row[k] for k in ("network", "T", "V"))]
        sb3 = [r for r in same if r["learner"] == SB3]
        full = next((r for r in same if r["learner"] == MATERIALISED), None)
        line = dict(row)
        note = line.pop("note")
        line[default] = _ratio(row, next((r for r in sb3 if r["batch"] == SB3_BATCH), None), RATE)
        line[large] = _ratio(row, max(sb3, key=lambda r: (bool(r[RATE]), r["batch"]), default=None), RATE)
        line["memory / materialised"] = _ratio(row, full, MEMORY) if full and full["batch"] == row["batch"] else None
        lines.append({**line, "note": note})
    return lines


def _ratio(row: dict[str, Any], other: dict[str, Any] | None, name: str) -> float | None:
    if other is None or not row[name] or not other[name] or math.isnan(row[name] + other[name]):
        return None
    ratio: float = row[name] / other[name]
    return ratio


def cases(chosen: argparse.Namespace) -> list[Case]:
    """All cases of the chosen arguments."""
    limits = (chosen.seconds, chosen.update_seconds, chosen.update_gib, chosen.threads)
    found = []
    for network in chosen.networks:
        for length in chosen.lengths:
            for vocab_size in chosen.vocab_sizes:
                task = Task(network, vocab_size, length, chosen.device)
                for peer in chosen.peers:
                    batches = [SB3_BATCH, TEXTS * length] if peer == SB3 else [TEXTS * length]
                    found += [Case(peer, task, batch, *limits) for batch in batches]
    return found


def package_versions() -> dict[str, str | None]:
    """Versions of the other libraries; None if one is not installed."""
    found: dict[str, str | None] = {}
    for name in ("stable-baselines3", "tianshou", "torchrl", "tensordict"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[200, 1_000, 5_000, 50_000])
    parser.add_argument("--networks", nargs="+", default=["lstm", "transformer"], choices=["lstm", "transformer"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--peers", nargs="+", default=list(LEARNERS), choices=LEARNERS, metavar="LEARNER")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measurement for each case")
    parser.add_argument("--update-seconds", type=float, default=2.5, help="an update that takes longer is made smaller")
    parser.add_argument("--update-gib", type=float, default=12.0, help="and one that takes more memory")
    parser.add_argument("--case-seconds", type=float, default=60.0, help="a case that takes longer is given up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "learner.json")
    chosen = parser.parse_args()
    began = time.perf_counter()
    rows = []
    progress = tqdm(cases(chosen))
    for case in progress:
        task = case.task
        progress.set_postfix_str(f"{case.peer}, {task.network}, T = {task.length}, V = {task.vocab_size:,}")
        rows.append(row_of(case, in_own_process(measure, case, chosen.case_seconds)))
    lines = with_ratios(rows)
    settings = {name: value for name, value in vars(chosen).items() if name != "json"}
    write_result(
        chosen.json, lines, **settings, seed=0, texts=TEXTS, peers_versions=package_versions(),
        minutes=round((time.perf_counter() - began) / 60, 1),
    )  # fmt: skip
    print_table([{name: "-" if value is None else value for name, value in line.items()} for line in lines])


if __name__ == "__main__":
    main()
