"""The commands of `tokenlm`, one file each with a `COMMAND`; `NAMES` is their order in the help."""

from __future__ import annotations

from importlib import import_module

from .command import Command

NAMES = (
    "train", "evaluate", "generate", "chat", "play", "serve", "runs", "compare", "report", "export", "dataset", "tune",
    "race", "verify", "config", "doctor", "grade",
)  # fmt: skip


def command(name: str) -> Command:
    """The command of one of `NAMES`, imported when it is asked for."""
    found: Command = import_module(f"{__name__}.{name}").COMMAND
    return found
