"""The folder of a run: which one, whether it is continued, who has it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ...envs.text import write_text_atomically
from ...envs.text.yaml_files import read_mapping
from .checkpoints import Checkpoints
from .config import RunConfig, plain

SUMMARY = "summary.json"
_LOCK, _OWNER = ".lock", ".owner"
_LEFT_OVER = re.compile(r"\.(?!lock$|owner$).+")


class RunFolder:
    """Where a run goes: never over a finished run or one with other settings.

    Args:
        config: of the run.

    Attributes:
        path: the folder.
        continues: whether it holds a checkpoint of this run.
        finished: whether the run was finished, and only its checkpoints were left to remove.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.path, begun = _choose(config)
        self.checkpoints = Checkpoints(self.path)
        self.finished = begun and (self.path / SUMMARY).exists()
        self.continues = begun and not self.finished and self.checkpoints.exist()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; ValueError where another one has it. Its left-over files are removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = self.path / _OWNER
            pid = owner.read_text(encoding="ascii") if owner.exists() else "unknown"
            raise ValueError(
                f"{self.path} belongs to a running process ({pid}); wait for it, or choose another --name"
            ) from None
        try:
            (self.path / _OWNER).write_text(str(os.getpid()), encoding="ascii")
            for path in self.path.iterdir():
                if path.is_file() and _LEFT_OVER.fullmatch(path.name):  # temporary files of a process that was killed
                    path.unlink(missing_ok=True)
            yield
        finally:
            (self.path / _OWNER).unlink(missing_ok=True)
            lock.release()  # its file stays: another process may be waiting for it

    def write_config(self) -> None:
        """Write config.yaml."""
        text = yaml.safe_dump(plain(self.config), allow_unicode=True, sort_keys=False)
        write_text_atomically(self.path / "config.yaml", text)


def _choose(config: RunConfig) -> tuple[Path, bool]:
    base = Path(config.output) / config.name
    for number in range(1, 10_000):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not folder.exists() or not any(path.name not in (_LOCK, _OWNER) for path in folder.iterdir()):
            return folder, False
        if _is_same(folder, config) and (not (folder / SUMMARY).exists() or Checkpoints(folder).exist()):
            return folder, True
    raise ValueError(f"{base} and 10,000 numbered folders beside it are taken; choose another --name")


def _is_same(folder: Path, config: RunConfig) -> bool:
    """Whether the folder's run trains the same. How its place was spelled does not matter."""
    try:
        saved = read_mapping(folder / "config.yaml")
    except (OSError, ValueError):
        return False
    return _without_place(saved) == _without_place(plain(config))


def _without_place(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "output"}
