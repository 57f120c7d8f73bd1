"""The parts of `gpu.py`: each yields rows, made by the functions of the other benchmarks at sizes that fill a GPU."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
TESTS = ("tests/envs/test_device.py", "tests/agents/networks/test_fused_head.py", "tests/agents/test_gpu.py")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Chosen:
    """What a part is told.

    Args:
        device: "cuda" or "cpu".
        tiny: the smallest sizes, to see that everything runs.
        seconds: time of the part.
        ceilings: measured operations a second by dtype, and bytes a second of a "copy"; empty before they are.
    """

    device: str = "cuda"
    tiny: bool = False
    seconds: float = 60.0
    ceilings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of the whole.

    Args:
        rows: yields its rows.
        seconds: of eight minutes.
        title: what it is about, for the table.
    """

    rows: Callable[[Chosen], Iterator[Row]]
    seconds: float
    title: str


def row(figure: str, value: float | None, unit: str, **more: Any) -> Row:
    """A row: a figure, and where there is one the ceiling's share, the aim, and whether that was reached."""
    aim = more.get("aim")
    reached = more.pop("reached", None)
    if reached is None and aim is not None and value is not None:
        reached = value >= aim
    names = ("share", "ceiling", "aim", "note")
    known = {name: more.pop(name, None) for name in names}
    if known["share"] is not None and math.isnan(known["share"]):  # the ceilings were not measured
        known["share"] = None
    return {"figure": figure, "value": value, "unit": unit, **known, "reached": reached, "details": more}


def agreement(chosen: Chosen) -> Iterator[Row]:
    """One update of every rule on the CPU and on the device."""
    from tokenlm.agents.dqn.rules import RULES

    from agreement import TOLERANCE, difference

    cases = [(rule, "lstm") for rule in RULES] + [("soft_q", "transformer")]
    for rule, network in cases[-2:] if chosen.tiny else cases:
        found = difference(rule, chosen.device, network)
        yield row(
            f"{rule}, {network}: loss and gradients", found, "of the largest", aim=TOLERANCE, reached=found <= TOLERANCE
        )


def tests(chosen: Chosen) -> Iterator[Row]:
    """The tests that need a device; without one they are skipped."""
    import pytest

    class Counts:
        def __init__(self) -> None:
            self.passed = self.skipped = 0
            self.failed: list[str] = []

        def pytest_runtest_logreport(self, report: Any) -> None:
            self.passed += report.when == "call" and report.passed
            self.skipped += report.skipped
            if report.failed:
                self.failed.append(report.nodeid)

    counts = Counts()
    paths = [str(ROOT / path) for path in TESTS]
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", "gpu", "--rootdir", str(ROOT), *paths], plugins=[counts])
    note = ", ".join(counts.failed) or (f"pytest ended with code {int(code)}" if int(code) not in (0, 5) else None)
    ran = counts.passed > 0 or chosen.device == "cpu"
    yield row(
        "tests that need a device", float(counts.passed), "passed", note=note, reached=note is None and ran,
        failed=counts.failed, skipped=counts.skipped,
    )  # fmt: skip


def ceilings(chosen: Chosen) -> Iterator[Row]:
    """Operations a second of a large matrix product, bytes a second of a large copy."""
    from scaling import ceilings as measured

    for name, value in measured(torch.device(chosen.device), 256 if chosen.tiny else None).items():
        what = "a large copy, read and written" if name == "copy" else f"a large matrix product in {name}"
        yield row(what, value, "B/s" if name == "copy" else "FLOP/s", ceiling=name)


def learner(chosen: Chosen) -> Iterator[Row]:
    """The headline figures of the update, and the memory that the fused head saves."""
    import learner as benchmark
    from ours import Task

    yield from _updates(chosen, "dqn, auto", 5_000, aim=5e6)
    yield from _updates(chosen, "soft_q, auto", 50_000, share=0.4)
    size, texts = (200, 2) if chosen.tiny else (50_000, 256)
    for name in ("ours, soft Q (τ = 1)", benchmark.MATERIALISED):
        task = Task("lstm", size, 32, chosen.device, episodes=max(64, texts))
        case = benchmark.Case(name, task, texts * 32, 0.1 if chosen.tiny else 2.0, 10.0, 60.0, torch.get_num_threads())
        found = benchmark.measure(case)
        yield row(
            f"{name}: LSTM, V = {size:,}, T = 32, {texts:,} texts", found.get(benchmark.RATE), "transitions/s",
            note=found.get("note"), mebibytes=found.get(benchmark.MEMORY),
        )  # fmt: skip


def _updates(
    chosen: Chosen, update: str, vocab_size: int, aim: float | None = None, share: float | None = None
) -> Iterator[Row]:
    """An update at several batches; the best row has the aim.

    Args:
        chosen: what the part is told.
        update: one of `scaling.SETTINGS`.
        vocab_size: V.
        aim: transitions a second.
        share: of the matrix product in bfloat16.
    """
    from cases import Case
    from scaling import measure

    batches = (2,) if chosen.tiny else (256, 1_024, 4_096) if vocab_size < 50_000 else (64, 256, 1_024)
    ceiling = _known(chosen)
    product = "bfloat16" if "bfloat16" in ceiling else "float32"
    rows = []
    for batch in batches:
        case = Case("lstm", 200 if chosen.tiny else vocab_size, 32, batch)
        found = measure(case, update, torch.device(chosen.device), ceiling, 1 if chosen.tiny else 5)
        of_product = 1e9 * found["GFLOP/s"] / ceiling[product]
        rows.append(
            row(
                f"{update}: LSTM 128→256, V = {case.vocab_size:,}, T = 32, {batch:,} texts", found["transitions/s"],
                "transitions/s", share=of_product if share else found["of the roofline"],
                ceiling=f"{product} product" if share else "roofline", **found,
            )
        )  # fmt: skip
    best = max(rows, key=lambda r: (r["share"] if share else r["value"]) or 0.0)
    best["aim"] = share or aim
    found = best["share"] if share else best["value"]
    best["reached"] = None if found is None else found >= best["aim"]
    yield from rows


def _known(chosen: Chosen) -> dict[str, float]:
    """The ceilings; nan where they were not measured, so that shares are unknown and rates are kept."""
    return chosen.ceilings or {"float32": math.nan, "bfloat16": math.nan, "copy": math.nan}


def environment(chosen: Chosen) -> Iterator[Row]:
    """Steps a second of the device environment."""
    from tokenlm.envs import EnvConfig

    import environment as benchmark

    sizes = (64,) if chosen.tiny else (1 << 14, 1 << 17, 1 << 20)
    for world, (_, settings) in benchmark.WORLDS.items():
        length = 17 if "markov" in world else settings.get("context_length", EnvConfig.context_length)
        for num_envs in sizes:
            found = benchmark.measure(
                benchmark.DEVICE, world, num_envs, chosen.device, 0.1 if chosen.tiny else 1.5
            )["steps/s"]  # fmt: skip
            largest = num_envs == 1 << 20 and "markov" in world
            yield row(
                f"{world}: {num_envs:,} episodes", found, "steps/s", ceiling="copy of the observations",
                share=found * 2 * 8 * length / _known(chosen)["copy"], aim=1e8 if largest else None,
            )  # fmt: skip


def quickstart(chosen: Chosen) -> Iterator[Row]:
    """Seconds of learning until the quickstart is within 5 % of the perplexity of p*."""
    from tokenlm.agents.runs.training import Run
    from tokenlm.parsing import parse_run

    few = ["--total_steps", "640", "--evaluations", "1", "--evaluation_documents", "5", "--evaluation_episodes", "4"]
    wide = ["--agent.num_envs", "256", "--agent.batch_size", "128", "--total_steps", "128_000"]
    ways = {"as shipped": few if chosen.tiny else []} | ({} if chosen.tiny else {"batches four times as large": wide})
    for title, words in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            common = ["--device", chosen.device, "--output", folder, "--baseline_seconds", "0", "--samples", "1"]
            run = Run(parse_run(["quickstart", *common, *words]), quiet=True)
            run.train()
        near = [r for r in run.rows if r["perplexity"] <= 1.05 * r["target_perplexity"]]
        seconds = near[0]["wall_seconds"] if near else None
        last = run.rows[-1]
        yield row(
            f"quickstart, {title}: within 5 % of p*'s perplexity", seconds, "s", aim=20.0,
            reached=seconds is not None and seconds <= 20.0,
            note=None if near else f"{last['perplexity'] / last['target_perplexity']:.2f} × at the end",
            curve=[{k: r[k] for k in ("wall_seconds", "num_steps", "perplexity")} for r in run.rows],
        )  # fmt: skip


def acting(chosen: Chosen) -> Iterator[Row]:
    """Tokens a second of acting, and actions drawn a second."""
    import acting as benchmark

    device = torch.device(chosen.device)
    batches, lengths = ((2,), (16,)) if chosen.tiny else ((256, 4_096), (64, 256))
    repetitions = 3 if chosen.tiny else 20
    for name, settings in benchmark.NETWORKS.items():
        network = benchmark.CLASSES[name](benchmark.VOCAB_SIZE, **settings).to(device).eval()
        for batch in batches:
            for length in lengths:
                found = benchmark.measure_prefix(network, batch, length, repetitions)
                rate = found["tokens/s, incremental"]
                yield row(f"{name}: {batch:,} texts, prefix of {length} tokens", rate, "tokens/s", **found)
    for size, batch in ((200, 32),) if chosen.tiny else ((5_000, 4_096), (50_000, 4_096)):
        found = benchmark.measure_draw(size, batch, device, repetitions)
        rate = found["actions/s, choose_actions"]
        yield row(
            f"choose_actions: V = {size:,}, {batch:,} states", rate, "actions/s", ceiling="copy of the values",
            share=rate * 2 * 4 * size / _known(chosen)["copy"], **found,
        )  # fmt: skip


def scaling(chosen: Chosen) -> Iterator[Row]:
    """Updates beside the roofline over V and T."""
    from cases import Case
    from scaling import measure

    base = [Case(n, v, 32, 1_024) for n in ("lstm", "transformer") for v in (1_000, 5_000, 50_000)]
    cases = [Case(batch=2, vocab_size=100)] if chosen.tiny else [*base, Case(length=256, batch=256)]
    for case in cases:
        for update in ("dqn, sparse Adam",) if chosen.tiny else ("dqn", "dqn, sparse Adam", "soft_q, auto"):
            try:
                found = measure(case, update, torch.device(chosen.device), _known(chosen), 1 if chosen.tiny else 3)
            except torch.OutOfMemoryError:
                found = {}
            yield row(
                f"{update}: {case.network}, V = {case.vocab_size:,}, T = {case.length}, {case.batch:,} texts",
                found.get("transitions/s"), "transitions/s", share=found.get("of the roofline"), ceiling="roofline",
                note=None if found else "not enough memory", **found,
            )  # fmt: skip


def compiled(chosen: Chosen) -> Iterator[Row]:
    """The same update with the networks as they are, compiled, and compiled with CUDA graphs."""
    from cases import Case, make_update
    from scaling import seconds_each

    device = torch.device(chosen.device)
    ways: dict[str, dict[str, Any] | None] = {"as it is": None, "torch.compile": {}}
    if device.type == "cuda":
        ways["torch.compile, CUDA graphs"] = {"mode": "reduce-overhead"}
    else:
        ways["torch.compile"] = {"backend": "aot_eager"}  # needs no C++ compiler
    for network in ("lstm", "transformer"):
        case = Case(network, 50, 8, 2) if chosen.tiny else Case(network, batch=256)
        before = math.nan
        for title, how in ways.items():
            note, rate = None, None
            try:
                update_of, update = make_update(case, device, loss="dqn", precision="auto")
                if how is not None:
                    update_of.network.compile(**how)
                    update_of.target_network.compile(**how)
                times = seconds_each(update, device, 0.01 if chosen.tiny else 0.3, 2 if chosen.tiny else 5)
                rate = case.transitions / min(times)
            except Exception as error:  # a compiler has errors of many kinds, and the next way may work
                note = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
            before = rate if how is None and rate else before
            yield row(
                f"{network}, {title}: V = {case.vocab_size:,}, T = {case.length}, {case.batch:,} texts", rate,
                "transitions/s", note=note, times_as_it_is=rate and rate / before,
            )  # fmt: skip


def end_to_end(chosen: Chosen) -> Iterator[Row]:
    """Acting and learning together."""
    import end_to_end as benchmark

    names = ["ours, 64 environments"] if chosen.tiny else ["ours, 64 environments", benchmark.FOR_A_GPU]
    for name in names:
        for size in (200,) if chosen.tiny else (200, 5_000):
            seconds = 0.5 if chosen.tiny else 5.0
            case = benchmark.Case(name, "lstm", size, seconds, chosen.device, torch.get_num_threads())
            found = benchmark.measure(case)
            yield row(f"{name}: V = {found['V']:,}", found[benchmark.RATE], "env steps/s", **found)


def race(chosen: Chosen) -> Iterator[Row]:
    """Our entry of the race on Markov, for a time on the device: the score that it reaches."""
    from tokenlm.agents.runs.race.jobs import Job
    from tokenlm.parsing import parse_race

    config = parse_race(["race-markov", "--device", chosen.device])
    entry = config.entries["TokenLM soft DQN"]
    seconds = 1.0 if chosen.tiny else 25.0
    ways = {"as in the race": {}, "1,024 environments": {"num_envs": 1_024, "batch_size": 128}}
    for title, more in list(ways.items())[: 1 if chosen.tiny else 2]:
        with tempfile.TemporaryDirectory() as folder:
            job = Job(
                path=Path(folder) / "run.json", algorithm=entry.algorithm, settings={**entry.settings, **more},
                env=config.env, seed=0, device=chosen.device, threads=torch.get_num_threads(), total_steps=1 << 40,
                max_seconds=seconds, evaluations=2 if chosen.tiny else 10, episodes=config.episodes, documents=0,
                temperature=config.temperature,
            )  # fmt: skip
            began = time.perf_counter()
            job.run()
            found = job.result() or {"error": "no result", "rows": []}
        last = found["rows"][-1] if found["rows"] else {}
        yield row(
            f"race-markov, {title}: score after {seconds:g} s", last.get("score"), "of 1", note=found["error"],
            curve=found["rows"], wall_seconds=time.perf_counter() - began,
        )  # fmt: skip


PARTS = {
    "agreement": Part(agreement, 30, "CPU and device agree"),
    "tests": Part(tests, 75, "Tests"),
    "ceilings": Part(ceilings, 20, "What the device can do"),
    "learner": Part(learner, 70, "Learner"),
    "environment": Part(environment, 40, "Device environment"),
    "quickstart": Part(quickstart, 75, "Quickstart"),
    "acting": Part(acting, 25, "Acting"),
    "scaling": Part(scaling, 45, "Sizes"),
    "compiled": Part(compiled, 45, "Compiled"),
    "end_to_end": Part(end_to_end, 45, "Acting and learning together"),
    "race": Part(race, 60, "Race"),
}


def scaled(chosen: Chosen, part: str, minutes: float) -> Chosen:
    """`chosen` with the part's share of the time."""
    total = sum(each.seconds for each in PARTS.values())
    return dataclasses.replace(chosen, seconds=PARTS[part].seconds / total * 60 * minutes)
