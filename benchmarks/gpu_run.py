"""Runs the parts of `gpu.py`, each in a process of its own and in its time; a part that fails is a row."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpu_parts import PARTS, Chosen, Row, row, scaled
from measuring import in_own_process
from record import write_result

START_SECONDS = 20.0  # of a process: imports, and the device's own start
SUMMARY = "summary.json"


class Case(NamedTuple):
    """A part, what it is told, and where its rows go."""

    part: str
    chosen: Chosen
    path: Path


def run(case: Case) -> dict[str, Any]:
    """Write every row of a part as soon as there is one; no new one is begun when its time is over."""
    torch.manual_seed(0)
    rows: list[Row] = []
    began = time.perf_counter()
    for found in PARTS[case.part].rows(case.chosen):
        rows.append(found)
        write_rows(case, rows, time.perf_counter() - began)
        if time.perf_counter() - began > case.chosen.seconds:
            break
    return {}


def write_rows(case: Case, rows: list[Row], seconds: float) -> None:
    """Write the rows of a part with command, commit, hardware and versions."""
    chosen = case.chosen
    write_result(
        case.path, rows, device=chosen.device, tiny=chosen.tiny, seed=0, ceilings=chosen.ceilings,
        seconds=round(seconds, 1),
    )  # fmt: skip


def run_all(device: str, tiny: bool, minutes: float, folder: Path, only: list[str]) -> list[Row]:
    """Run the parts in their order.

    Args:
        device: "cuda" or "cpu".
        tiny: smallest sizes.
        minutes: time for everything; no part begins after it.
        folder: where the results go, one JSON file a part and summary.json.
        only: names of the parts to run.

    Returns: all rows, each with its "part".
    """
    folder.mkdir(parents=True, exist_ok=True)
    began, rows, chosen = time.perf_counter(), [], Chosen(device, tiny)
    for name in only:
        case = Case(name, scaled(chosen, name, minutes), folder / f"{name}.json")
        left = 60.0 * minutes - (time.perf_counter() - began)
        found = outcome(case, min(case.chosen.seconds + START_SECONDS, left)) if left > 0 else [_failed("no time left")]
        rows += [{"part": name, **each} for each in found]
        if name == "ceilings":
            values = {each["ceiling"]: each["value"] for each in found if each["value"]}
            chosen = Chosen(device, tiny, ceilings=values)
        minutes_used = (time.perf_counter() - began) / 60
        write_result(folder / SUMMARY, rows, device=device, tiny=tiny, seed=0, minutes=round(minutes_used, 1))
        for each in found:
            print(f"{name}: {text_of(each)}", flush=True)
    return rows


def outcome(case: Case, seconds: float) -> list[Row]:
    """The rows of a part: those that it wrote, and one on why it ended early."""
    case.path.unlink(missing_ok=True)
    ended = in_own_process(run, case, seconds)
    rows: list[Row] = json.loads(case.path.read_text(encoding="utf-8"))["rows"] if case.path.exists() else []
    note = ended.get("note")
    if note and not str(note).startswith("disturbed"):
        rows.append(_failed(str(note)))
        write_rows(case, rows, seconds)
    return rows or [_failed("no row")]


def _failed(note: str) -> Row:
    return row("failed", None, "", note=note, reached=False)


def text_of(each: Row) -> str:
    """A row in one line."""
    value = "-" if each["value"] is None else f"{each['value']:,.4g} {each['unit']}"
    share = f", {100 * each['share']:.0f} % of the {each['ceiling']}" if each["share"] is not None else ""
    note = f" ({each['note']})" if each["note"] else ""
    return f"{each['figure']}: {value}{share}{note}"
