"""The table of docs/gpu.md, from what `gpu.py` measured."""

from __future__ import annotations

from typing import Any

from result_tables import load


def gpu_table() -> str:
    """All rows by part, with the share of what the device can do and whether an aim was reached."""
    return table_of(load("gpu/summary.json"))


def table_of(result: dict[str, Any]) -> str:
    """The rows of a summary.json as Markdown."""
    lines = ["| part | figure | measured | of what the device can do | aim |", "|---|---|---|---|---|"]
    rows, part = result["rows"], None
    for row in rows:
        if row["part"] == "agreement" and row["reached"]:
            continue  # one line for all of them, below
        name = "" if row["part"] == part else row["part"]
        part = row["part"]
        lines.append("| " + " | ".join([name, row["figure"], _measured(row), _share(row), _aim(row)]) + " |")
    agree = [row for row in rows if row["part"] == "agreement" and row["reached"]]
    if agree:
        worst = max(row["value"] for row in agree)
        lines.append(f"| agreement | {len(agree)} updates equal those of the CPU, to | {worst:.0e} | | reached |")
    hardware, settings = result["hardware"], result["settings"]
    device = hardware["gpu"] or f"{hardware['cores']} cores of {hardware['processor']}"
    return "\n".join(lines) + (
        f"\n\n{device}, torch {result['versions']['torch']}, {settings['minutes']} minutes (`{result['command']}`, "
        f"commit {result['commit']})."
    )


def _measured(row: dict[str, Any]) -> str:
    value = "-" if row["value"] is None else f"{number(row['value'])} {row['unit']}"
    return f"{value} ({row['note']})" if row["note"] else value


def number(value: float) -> str:
    """Three digits, with k, M, G or T."""
    for factor, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{name}"
    return f"{value:.3g}"


def _share(row: dict[str, Any]) -> str:
    return "" if row["share"] is None else f"{100 * row['share']:.3g} % of {row['ceiling']}"


def _aim(row: dict[str, Any]) -> str:
    if row["aim"] is None:
        return "" if row["reached"] is None or row["reached"] else "failed"
    aim = f"{100 * row['aim']:.0f} %" if row["aim"] < 1 and row["share"] is not None else f"{number(row['aim'])}"
    return f"{aim} {'reached' if row['reached'] else 'not reached'}"
