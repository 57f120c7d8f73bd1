"""`tokenlm doctor`: what is installed here, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from tokenlm.commands.command import Command, answer, make_parser, options_of
from tokenlm.envs.picture import font_for
from tokenlm.threads import OF_THE_USER

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_SHOWN = ("tokenlm", "torch", "gymnasium", "numpy", "jieba", "stable-baselines3")
_GIB = 1 << 30


def _parser() -> ArgumentParser:
    parser = make_parser("doctor", COMMAND.summary)
    parser.add_argument("--output", type=str, default="runs", help="folder of all runs")
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)

    found = [*_versions(), *_device(), *_terminal(), *_disk(Path(chosen.output)), *_extras()]
    width = max(len(name) for name, _ in found) + 2
    for name, value in found:
        answer(f"{name:<{width}}{value}")


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    for name in _SHOWN:
        yield name, _version(name) or "not installed"


def _device() -> Iterator[tuple[str, str]]:
    import torch

    from tokenlm.agents.devices import free_bytes, resolve_device

    device = resolve_device("auto")
    names = {"cuda": lambda: torch.cuda.get_device_name(device), "cpu": lambda: platform.processor() or "no name"}
    free = free_bytes(device)
    memory = f", {free / _GIB:.1f} GiB free" if free is not None else ""
    yield "device", f"{device.type}, {names.get(device.type, lambda: platform.machine())()}{memory}"
    waiting = ", ".join(f"{name}={os.environ[name]}" for name in OF_THE_USER if name in os.environ)
    yield (
        "threads",
        f"{torch.get_num_threads()} of {os.cpu_count()} processors; idle ones wait by {waiting or 'default'}",
    )


def _terminal() -> Iterator[tuple[str, str]]:
    encoding = sys.stdout.encoding or "unknown"
    try:
        "中文→τ".encode(encoding)
        yield "terminal", f"{encoding}, shows Chinese if its font does"
    except (UnicodeEncodeError, LookupError):
        yield "terminal", f"{encoding}, which has no Chinese: set PYTHONIOENCODING=utf-8"
    try:
        yield "Chinese font", f"{font_for(frozenset('今天气很好'))}"
    except ValueError:
        yield "Chinese font", "none: pictures show boxes; install one, such as Noto Sans CJK"


def _disk(runs: Path) -> Iterator[tuple[str, str]]:
    place = next(p for p in (runs.absolute(), *runs.absolute().parents) if p.exists())
    used = sum(path.stat().st_size for path in runs.rglob("*") if path.is_file()) if runs.is_dir() else 0
    free = shutil.disk_usage(place).free
    yield f"{runs}/", f"{used / _GIB:.2f} GiB used by runs, {free / _GIB:.1f} GiB free"


def _extras() -> Iterator[tuple[str, str]]:
    """Each extra, with what it lacks here."""
    wanted = [Requirement(text) for text in requires("tokenlm") or ()]
    for name in metadata("tokenlm").get_all("Provides-Extra") or ():
        own = [r for r in wanted if r.marker and r.marker.evaluate({"extra": name})]
        missing = [str(r).partition(";")[0].strip() for r in own if not _has(r)]
        text = f'lacks {", ".join(missing)}; pip install "tokenlm[{name}]"' if missing else "installed"
        yield f"extra [{name}]", text


def _has(requirement: Requirement) -> bool:
    found = _version(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


COMMAND = Command(
    usage="doctor",
    summary="what is installed here, and what is missing",
    run=_run,
    names=lambda: options_of(_parser()),
)
