"""Measurement of benchmark cases: own processes, peak memory, repetitions."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPETITIONS = 5
DISTURBED = 0.1  # cores used by other processes, above which a row has a note


def in_own_process(function: Callable[[Any], dict[str, Any]], case: Any, seconds: float) -> dict[str, Any]:
    """Run `function(case)` in its own process, so that its memory can be measured and its time limited.

    Args:
        function: at the top level of a module; its result must be picklable.
        case: its argument.
        seconds: time limit, after which the process is killed.

    Returns: the result of the function, or {"note": reason} if it exceeds the limit, fails, or needs a missing package.
        The note also reports CPU use by other processes. Such a row is unreliable: threads synchronise after every
        small product, so they lose far more time than the others use.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "stable_baselines3", "tokenlm.agents"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, case))
    process.start()
    sender.close()
    try:
        answered = receiver.poll(seconds)
        result: dict[str, Any] = receiver.recv() if answered else {"note": f"more than {seconds:.0f} s"}
    except EOFError:  # killed by the system, usually because of its memory
        process.join()
        result = {"note": f"ended with exit code {process.exitcode}"}
    process.join(10 if answered else 0)
    process.kill()
    process.join()
    return result


def _answer(sender: Connection, function: Callable[[Any], dict[str, Any]], case: Any) -> None:
    try:
        before = others_seconds()
        began = time.perf_counter()
        result = function(case)
        cores = (others_seconds() - before) / (time.perf_counter() - began)
        notes = [result["note"]] if result.get("note") else []
        if cores > DISTURBED:
            notes.append(f"disturbed: others used {cores:.1f} cores")
        sender.send({**result, "note": "; ".join(notes) or None})
    except ModuleNotFoundError as error:
        sender.send({"note": f"{error.name} is not installed: pip install 'tokenlm[compare]'"})
    except (RuntimeError, MemoryError, ValueError, TypeError, AttributeError, ImportError) as error:
        sender.send({"note": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"})


def others_seconds() -> float:
    """CPU seconds used by all other processes, summed over cores; 0 if unknown."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    ticks = [int(field) for field in fields]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and I/O wait
    return busy - sum(os.times()[:2])


def in_pool(function: Callable[[Any], Any], jobs: Sequence[Any], processes: int) -> tuple[list[Any], float]:
    """Run `function` on every job in own processes, `processes` at a time, and watch for other programs.

    Args:
        function: at the top level of a module.
        jobs: its arguments.
        processes: that run at the same time.

    Returns: the results in the order of the jobs, and the cores that other programs used meanwhile, as a mean.
    """
    began, others, own = time.perf_counter(), others_seconds(), sum(os.times()[2:4])
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        results = pool.map(function, jobs, chunksize=1)
        pool.close()
        pool.join()  # times of children count once they have ended
    used = others_seconds() - others - (sum(os.times()[2:4]) - own)
    return results, round(max(0.0, used / (time.perf_counter() - began)), 2)


def synchronize(device: str) -> None:
    """Synchronise a GPU, for time measurements."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_memory(work: Callable[[], None], device: str) -> float:
    """Peak memory while `work` runs beyond the memory before it, in MiB; nan if unknown."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory kept by the allocator would hide allocations of `work`
        # Linux: resets the peak, which otherwise includes everything before (and the parent process).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        work()
        return float("nan")
    before = _resident("VmRSS")
    work()
    return (_resident("VmHWM") - before) / 2**10


def _resident(field: str) -> int:
    """A field of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def rates(work: Callable[[], None], units: int, seconds: float, device: str) -> list[float]:
    """Units of `work` per second, in five repetitions that take `seconds` in total.

    If a single call takes longer than a fifth of that, there are as many repetitions as fit into 3·`seconds`, at least
    one.
    """
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    once = time.perf_counter() - began
    count = max(1, round(seconds / REPETITIONS / once))
    found: list[float] = []
    began = time.perf_counter()
    while len(found) < REPETITIONS and (not found or time.perf_counter() - began + count * once < 3 * seconds):
        start = time.perf_counter()
        for _ in range(count):
            work()
        synchronize(device)
        found.append(count * units / (time.perf_counter() - start))
    return found


def spread(found: list[float], name: str) -> dict[str, float | int]:
    """Median and quartiles, as columns of a row."""
    low, middle, high = np.percentile(found, [25, 50, 75])
    return {name: float(middle), "25 %": float(low), "75 %": float(high), "repetitions": len(found)}
