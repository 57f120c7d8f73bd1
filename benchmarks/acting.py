"""Speed of acting: tokens per second against the length of the prefix, sampled actions per second against V.

    python benchmarks/acting.py [--json FILE] [--png FILE] [--quick] [--device cpu]

Compares incremental acting (`step`: LSTM state, key-value cache) with encoding the whole prefix for every token
(`encode`), on the same network and batch; and sampling with `choose_actions` with softmax and torch.multinomial. All
prefixes of a batch have the same length. Reports medians over repetitions; the spread is the interquartile range in per
cent of the median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tokenlm.agents.acting.choosing import choose_actions
from tokenlm.agents.networks import LSTMQNetwork, QNetwork, TransformerQNetwork
from tokenlm.envs import Vocabulary

from record import print_table, write_result

CLASSES = {"lstm": LSTMQNetwork, "transformer": TransformerQNetwork}
LENGTHS = (16, 64, 256, 1_024, 2_048)
BATCHES = (1, 32)
VOCAB_SIZE = 5_000
NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"embedding_size": 128, "hidden_size": 256},
    "transformer": {"hidden_size": 256, "num_layers": 4, "max_length": LENGTHS[-1] + 1},
}
DRAWS = [(v, b) for v in (200, 5_000, 50_000) for b in (32, 256, 1_024) if b * v < 20_000_000]
BUDGET_S = 3.0  # time limit of one measurement, after at least three repetitions


def timed(work: Callable[[], Any], device: torch.device, repetitions: int) -> tuple[float, float]:
    """Median seconds and spread in per cent."""
    work()
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < repetitions and sum(seconds) < BUDGET_S):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    low, median, high = statistics.quantiles(seconds, n=4)
    return median, 100 * (high - low) / median


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def measure_prefix(network: QNetwork, batch: int, length: int, repetitions: int) -> dict[str, Any]:
    """Tokens per second of one network after prefixes of `length` tokens."""
    device = network.head.weight.device
    tokens = torch.randint(Vocabulary.FIRST_WORD, VOCAB_SIZE, (batch, length), device=device)
    lengths = torch.full((batch,), length, device=device)
    _, state = network.encode(tokens, lengths)
    newest = tokens[:, -1].clone()
    # Every repetition steps from the same state and overwrites the same position of the cache.
    step, step_spread = timed(lambda: network.step(newest, state), device, repetitions)
    encode, encode_spread = timed(lambda: network.encode(tokens, lengths), device, repetitions)
    return {
        "batch": batch,
        "prefix": length,
        "tokens/s, incremental": batch / step,
        "spread %": step_spread,
        "tokens/s, re-encoding": batch / encode,
        "re-encoding spread %": encode_spread,
        "ratio": encode / step,
    }


@torch.no_grad()
def measure_draw(vocab_size: int, batch: int, device: torch.device, repetitions: int) -> dict[str, Any]:
    """Actions per second sampled from Boltzmann policies over `vocab_size` actions."""
    values = torch.randn(batch, vocab_size, device=device)
    own, own_spread = timed(lambda: choose_actions(values, 1.0), device, repetitions)
    plain, plain_spread = timed(lambda: torch.multinomial(torch.softmax(values, -1), 1), device, repetitions)
    return {
        "V": vocab_size,
        "batch": batch,
        "actions/s, choose_actions": batch / own,
        "spread %": own_spread,
        "actions/s, softmax + multinomial": batch / plain,
        "multinomial spread %": plain_spread,
        "ratio": plain / own,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot tokens per second against the length of the prefix, one panel per network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(NETWORKS), figsize=(10, 4), sharey=True, layout="constrained")
    for panel, name in zip(panels, NETWORKS, strict=True):
        for batch in sorted({row["batch"] for row in rows}):
            own = [row for row in rows if row["network"] == name and row["batch"] == batch]
            for kind, style in (("incremental", "-o"), ("re-encoding", "--x")):
                speed = [row[f"tokens/s, {kind}"] for row in own]
                panel.loglog([row["prefix"] for row in own], speed, style, label=f"{kind}, batch {batch}")
        panel.set(title=name, xlabel="prefix (tokens)", ylabel="tokens / s")
        panel.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure all networks, batches and lengths, then sampling."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "acting.json")
    parser.add_argument("--png", type=Path, help="where to draw tokens per second against the prefix")
    parser.add_argument("--quick", action="store_true", help="three repetitions, to see that it runs")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    device, repetitions = torch.device(chosen.device), 3 if chosen.quick else 50
    torch.manual_seed(0)
    prefixes, draws = [], []
    with tqdm(total=len(NETWORKS) * len(BATCHES) * len(LENGTHS) + len(DRAWS)) as progress:
        for name, settings in NETWORKS.items():
            network = CLASSES[name](VOCAB_SIZE, **settings).to(device).eval()
            for batch in BATCHES:
                for length in LENGTHS:
                    prefixes.append({"network": name, **measure_prefix(network, batch, length, repetitions)})
                    progress.update()
        for vocab_size, batch in DRAWS:
            draws.append(measure_draw(vocab_size, batch, device, repetitions))
            progress.update()
    write_result(
        chosen.json, prefixes + draws, seed=0, device=str(device), networks=NETWORKS, vocab_size=VOCAB_SIZE,
        repetitions=repetitions, budget_s=BUDGET_S, threads=torch.get_num_threads(),
    )  # fmt: skip
    print_table(prefixes)
    print()
    print_table(draws)
    if chosen.png:
        plot(prefixes, chosen.png)


if __name__ == "__main__":
    main()
