"""Output of all benchmarks: a Markdown table, and a JSON file with results and provenance."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tokenlm.envs.text import write_text_atomically

PACKAGES = ("tokenlm", "torch", "numpy", "gymnasium", "stable-baselines3", "sb3-contrib", "tianshou", "torchrl")


def hardware() -> dict[str, Any]:
    """CPU, cores, memory and GPU of this machine."""
    gpu = None
    if "torch" in sys.modules:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": memory and round(memory / 2**30, 1),
        "gpu": gpu,
        "system": platform.platform(terse=True),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit that is checked out, with "+" if files other than results differ from it."""
    here, code = Path(__file__).parent, [":/", ":(top,exclude)benchmarks/results"]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", *code], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


COMMIT = commit()  # at the start, because the script may change files under version control


def rows_before(path: Path) -> list[dict[str, Any]]:
    """Rows of the result that stands at `path`, none without one: those of what is not run again are kept."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return rows


def merged(path: Path, found: list[dict[str, Any]], world: str, learners: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of policies in worlds: `found`, and those of the result at `path` that they do not replace, world by world.

    Args:
        path: of the result.
        found: new rows, each with its "policy".
        world: name of the entry that tells worlds apart.
        learners: policies in the order in which they come, after all others.
    """
    known = {(row["policy"], row[world]): row for row in [*rows_before(path), *found]}
    last = list(learners)
    order = [*dict.fromkeys(name for name, _ in known if name not in last), *last]
    return sorted(known.values(), key=lambda row: (row[world], order.index(row["policy"])))


def write_result(path: Path | str, rows: list[dict[str, Any]], **settings: Any) -> None:
    """Write rows of results with command, commit, hardware, versions and settings, including seeds."""
    # Results do not contain local paths.
    words = [Path(sys.argv[0]).name, *("FOLDER" if Path(word).is_dir() else word for word in sys.argv[1:])]
    result = {
        "command": "python benchmarks/" + shlex.join(words),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": COMMIT,
        "hardware": hardware(),
        "versions": versions(),
        "settings": settings,
        "rows": rows,
    }
    write_text_atomically(Path(path), json.dumps(result, ensure_ascii=False, indent=2) + "\n")


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    names = list(rows[0])
    cells = [[_text(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    for line in (names, ["-" * w for w in widths], *cells):
        print("| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |")


def _text(value: Any) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, (int, float))
        else str(value)
    )
