"""Rates for the model of `cluster.py` from the committed results, each with where it comes from."""

from __future__ import annotations

from typing import Any

from cases import NETWORKS, Case, make_update
from cluster import Rates, Work, rows_of, together
from large import Device, Model, figures, rates_of, work_of
from result_tables import load

BANDWIDTH, LATENCY = 1.25e9, 50e-6  # assumed between machines: 10 Gbit/s Ethernet, a message through the kernel
TOTAL_BATCH = 65_536  # transitions of an update over all devices: 64 of the batches that were measured
RATIO = 8.0  # as in end_to_end.json
_TEXTS = 32  # of the measurement of acting
Found = tuple[Rates, Work, dict[str, str]]


def _of(name: str, figure: str, sources: dict[str, str] | None = None, **wanted: Any) -> float:
    rows = load(f"{name}.json")["rows"]
    row = next(row for row in rows if all(row.get(key) == value for key, value in wanted.items()))
    if sources is not None:
        sources[figure] = f"results/{name}.json, {', '.join(f'{key} {value}' for key, value in wanted.items())}"
    return float(row[figure])


def measured(network: str) -> Found:
    """Rates and work of one machine for the hard DQN at V = 5,000 and T = 32, and the source of each rate."""
    case, sources = Case(network), dict[str, str]()
    step = _of("acting", "tokens/s, incremental", sources, network=network, batch=_TEXTS, prefix=16)
    draw = _of("acting", "actions/s, choose_actions", sources, V=case.vocab_size)
    product = load("scaling.json")["settings"]["ceilings"]["float32"]
    sources["head"] = "results/scaling.json, ceilings: one product with the action head for each token"
    head = product / (2 * NETWORKS[network]["hidden_size"] * case.vocab_size)
    environment = _of(
        "environment", "steps/s", sources, world="n-gram, zh", environment="TokenLMDeviceEnv", num_envs=64
    )
    learning = _of(
        "scaling", "transitions/s", sources, network=network, update="dqn", V=case.vocab_size, T=case.length,
        batch=case.batch,
    )  # fmt: skip
    sources["bandwidth"] = sources["latency"] = "assumed: 10 Gbit/s Ethernet, 50 µs a message"
    learner, _ = make_update(case, loss="dqn")
    size = float(sum(4 * parameter.numel() for parameter in learner.network.parameters()))
    rates = Rates(1.0 / (1.0 / step + 1.0 / draw + 1.0 / head), environment, learning, BANDWIDTH, LATENCY)
    work = Work(
        size, size, batch=case.transitions, replay_ratio=RATIO, length=case.length, token_bytes=6.0,
        total_batch=TOTAL_BATCH,
    )  # fmt: skip
    return rates, work, sources


def by_data_sheet() -> Found:
    """A model of 7 B parameters on H100s: nothing of it was measured."""
    source = "arithmetic of benchmarks/large.py for an H100's data sheet at 40 % of its products"
    return rates_of(Model(), Device()), work_of(Model(), Device()), {"all": source}


def beside_measurements() -> list[dict[str, Any]]:
    """What the model says of one machine that acts and learns, beside what was measured (LSTM, hard DQN)."""
    rates, work, _ = measured("lstm")
    rows = []
    for asked in (200, 5_000, 50_000):
        learning = _of("learner", "transitions/s", network="lstm", T=32, V=asked, learner="ours, dqn")
        draw = _of("acting", "actions/s, choose_actions", V=asked)
        step = _of("acting", "tokens/s, incremental", network="lstm", batch=_TEXTS, prefix=16)
        head = 2 * NETWORKS["lstm"]["hidden_size"] * asked / load("scaling.json")["settings"]["ceilings"]["float32"]
        acting = 1.0 / (1.0 / step + 1.0 / draw + head)
        found = together(1, work, Rates(acting, rates.environment, learning, BANDWIDTH, LATENCY))["tokens/s"]
        real = _of("end_to_end", "env steps/s", learner="ours, 64 environments", **{"asked V": asked})
        rows.append({"V": asked, "model": found, "measured": real, "ratio": found / real})
    return rows


def simulated() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of all networks and layouts, and the settings that explain them."""
    rows: list[dict[str, Any]] = []
    settings: dict[str, Any] = {"rates": {}, "sources": {}, "work": {}}
    for name, found in {**{n: measured(n) for n in NETWORKS}, "7 B": by_data_sheet()}.items():
        rates, work, sources = found
        rows += rows_of(name, work, rates)
        settings["rates"][name], settings["work"][name] = vars(rates), vars(work)
        settings["sources"][name] = sources
    settings["beside measurements"], settings["large"] = beside_measurements(), figures()
    return rows, settings
