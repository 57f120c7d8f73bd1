"""Two processes that train one network, beside one: transitions a second, and learning curves against samples.

    python benchmarks/ranks.py [--seconds 2] [--rounds 5] [--seeds 3] [--json FILE]

Rates: two processes of one thread each (Gloo), an update on 32 texts of 32 tokens in each of them (V = 5,000). In turns
one process makes updates alone while the other waits, and both make them together; medians over the rounds. Curves: the
same run with 16 environments and batches of 16 texts in one process, and with half of both in each of two;
KL(π ‖ p*) of sampled texts against environment steps. Run it on an otherwise idle machine with two cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from tokenlm.agents import DQN
from tokenlm.agents.dqn.ranks import ranks
from tokenlm.agents.evaluation import play
from tokenlm.envs import EnvConfig, World

from cases import Case, make_update
from record import print_table, write_result

LOSSES = ("dqn", "soft_q")
NETWORKS = ("lstm", "transformer")
AIM = 1.6
CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=40, ending="fixed", max_new_tokens=8, context_length=9, prompt_length=(0, 0)
)
RUN: dict[str, Any] = {
    "network": {"hidden_size": 64, "embedding_size": 32},
    "learning_rate": 3e-3,
    "learning_starts": 256,
    "corpus_share": 0.0,
}
_WAYS = {"one": "alone", "two": "together"}
TEXTS, STEPS, CHECKS, PLAYED = 16, 8_192, 8, 512


def together(function: Any, size: int, *arguments: Any) -> Any:
    """What `function(*arguments)` returns in the first of `size` processes of one thread that have joined."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        running = [
            context.Process(target=_work, args=(function, rank, size, Path(folder), *arguments)) for rank in range(size)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
        return torch.load(Path(folder) / "result", weights_only=True)


def _work(function: Any, rank: int, size: int, folder: Path, *arguments: Any) -> None:
    torch.set_num_threads(1)
    if size > 1:
        store = dist.FileStore(str(folder / "store"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    result = function(*arguments)
    if rank == 0:
        torch.save(result, folder / "result")
    if size > 1:
        dist.destroy_process_group()


def rates(case: Case, loss: str, seconds: float, rounds: int) -> dict[str, Any]:
    """In each of two processes: rates of updates alone and together, and the time of averaging."""
    group = ranks()
    if group is None:
        raise RuntimeError("the processes have not joined")
    _, by_one = make_update(case, loss=loss)
    learner, by_two = make_update(case, loss=loss, ranks=group)
    by_one()
    by_two()
    count = int(group.first(max(1.0, round(seconds / _seconds(by_two, 3)))))
    found: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(rounds):
        if group.rank == 0:
            found["alone"].append(case.transitions / _seconds(by_one, count))
        dist.barrier()
        found["together"].append(group.size * case.transitions / _seconds(by_two, count))
        dist.barrier()
    trained = [parameter for parameter in learner.optimizer.parameters if parameter.grad is not None]
    averaging = _seconds(lambda: group.average(trained, 1.0, 1), count)
    return {**found, "averaging": averaging, "bytes": sum(4 * parameter.numel() for parameter in trained)}


def _seconds(work: Any, count: int) -> float:
    """Mean seconds of `count` calls."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count


def curve(seed: int, steps: int) -> list[list[float]]:
    """In each of one or two processes: environment steps of all, and KL(π ‖ p*) there, nats a text."""
    group = ranks()
    share = TEXTS // (group.size if group else 1)
    agent = DQN(CHAIN, seed=seed, device="cpu", num_envs=share, batch_size=share, **RUN)
    world, found = World.of(CHAIN), list[list[float]]()

    def check(agent: DQN) -> bool:
        if agent.num_steps >= (len(found) + 1) * steps // CHECKS:
            first = group is None or group.rank == 0
            kl = float(play(agent, world, CHAIN, PLAYED, 0, 1.0, 1.0).kl.mean()) if first else 0.0
            found.append([agent.num_steps, kl])
        return True

    agent.learn(steps, check)
    return found


def rows_of_rates(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each network and loss."""
    rows = []
    for network in tqdm(NETWORKS, unit="network"):
        for loss in LOSSES:
            case = Case(network)
            found = together(rates, 2, case, loss, seconds, rounds)
            ratios = np.divide(found["together"], found["alone"])
            low, middle, high = np.percentile(ratios, [25, 50, 75])
            row = {"network": network, "loss": loss, "V": case.vocab_size, "T": case.length, "rounds": rounds}
            row |= {f"{name}, transitions/s": float(np.median(found[way])) for name, way in _WAYS.items()}
            row |= {"two / one": float(middle), "25 %": float(low), "75 %": float(high)}
            row |= {"averaging, ms": 1e3 * found["averaging"], "gradients, MB": found["bytes"] / 1e6, "aim": AIM}
            rows.append(row)
    return rows


def curves(seeds: int, steps: int) -> list[dict[str, Any]]:
    """KL(π ‖ p*) of every seed, at each number of environment steps."""
    runs = {size: [together(curve, size, seed, steps) for seed in range(seeds)] for size in (1, 2)}
    return [
        {
            "env steps": int(runs[1][0][check][0]),
            **{f"KL, {name}": [run[check][1] for run in runs[size]] for size, name in ((1, "one"), (2, "two"))},
        }
        for check in range(CHECKS)
    ]


def main() -> None:
    """Measure rates and curves; print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each rate")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each curve")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    began = time.perf_counter()

    def write(found: list[dict[str, Any]]) -> None:
        if chosen.json:
            minutes = round((time.perf_counter() - began) / 60, 1)
            more = {"seeds": chosen.seeds, "steps": chosen.steps, "threads": 1, "minutes": minutes}
            write_result(chosen.json, rows, curves=found, **more)

    rows = rows_of_rates(chosen.seconds, chosen.rounds)
    print_table(rows)
    write([])
    found = curves(chosen.seeds, chosen.steps)
    print_table([{name: _shown(value) for name, value in row.items()} for row in found])
    write(found)


def _shown(value: Any) -> Any:
    return " ".join(f"{each:.3f}" for each in value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
