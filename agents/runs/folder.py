"""The folder of a run: which one, whether it is continued, who has it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...envs.text import write_text_atomically
from ...envs.text.digests import DIGESTS, FIGURES, file_digest, write_digests
from ...envs.text.files import read_json
from ...envs.text.opening import check_regular
from ...envs.text.yaml_files import dump_yaml, read_mapping
from .checkpoints import Checkpoints
from .config import RunConfig, plain

SUMMARY, CONFIG, RESULTS, AGENT = "summary.json", "config.yaml", "results.jsonl", "agent.json"
_LOCK, _OWNER = ".lock", ".owner"
# Names that `write_atomically` and safetensors give for a while.
_LEFT_OVER = re.compile(r"\.state\.pt|\..+(\.\w+)\.[a-z0-9_]{8}\1|\.tmp[A-Za-z0-9]{6}")
_NOT_TRAINED = ("output", "name", "checkpoint_seconds", "track")  # settings that change nothing of what is learned


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
        self.finished = begun and _is_finished(self.path)
        self.continues = begun and not self.finished and self.checkpoints.exist()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; ValueError where another one has it. Its left-over files are removed."""
        self._take()
        try:
            for path in self.path.rglob(".*"):
                if path.is_file() and _LEFT_OVER.fullmatch(path.name):  # of a process that was killed
                    path.unlink(missing_ok=True)
            yield
        finally:
            if self._held.is_locked:
                with contextlib.suppress(OSError):
                    (self.path / _OWNER).unlink(missing_ok=True)
            self._held.release()  # its file stays: another process may be waiting for it

    @cached_property
    def config_text(self) -> str:
        """The content of config.yaml."""
        return dump_yaml(plain(self.config))

    def write_config(self) -> None:
        """Write config.yaml and its digest; figures of an earlier run in the folder no longer count."""
        write_text_atomically(self.path / CONFIG, self.config_text)
        write_digests(self.path, texts={CONFIG: self.config_text}, forget=FIGURES)

    def keep(self) -> None:
        """Make the folder and its config.yaml again where they were removed or changed: both say what is trained.

        ValueError where another process has taken the folder since.
        """
        if _number(self.path / _LOCK) != self._number:
            self._held.release()
            self._take()
        path = self.path / CONFIG
        if not path.is_file() or path.read_bytes() != self.config_text.encode("utf-8"):
            self.write_config()

    def _take(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / _LOCK).exists():
            check_regular(self.path / _LOCK)
        self._held = FileLock(self.path / _LOCK)
        try:
            self._held.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"{self.path} belongs to a running process ({self._owner()}); wait for it, or choose another --name"
            ) from None
        self._number = _number(self.path / _LOCK)
        if _choose(self.config)[0] != self.path:
            self._held.release()
            raise ValueError(f"another process has used {self.path} meanwhile; give the command again")
        with contextlib.suppress(OSError):  # the lock counts, not its owner's name
            (self.path / _OWNER).unlink(missing_ok=True)  # a pipe of that name would be waited for
            (self.path / _OWNER).write_text(str(os.getpid()), encoding="ascii")

    def _owner(self) -> str:
        try:
            check_regular(self.path / _OWNER)
            return (self.path / _OWNER).read_text(encoding="ascii", errors="replace")[:20] or "unknown"
        except (OSError, ValueError):
            return "unknown"


def _number(path: Path) -> int | None:
    """The file system's number of a file, which a file made anew does not share; None where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _choose(config: RunConfig) -> tuple[Path, bool]:
    base = Path(config.output) / config.name
    for number in range(1, 10_000):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not folder.exists() or all(_is_passing(path.name) for path in folder.iterdir()):
            return folder, False
        # A saved agent without checkpoints is a finished one, even if its summary was removed.
        saved = (folder / SUMMARY).exists() or (folder / AGENT).exists()
        if _is_same(folder, config) and (not saved or Checkpoints(folder).exist()):
            return folder, True
    raise ValueError(f"{base} and 10,000 numbered folders beside it are taken; choose another --name")


def _is_passing(name: str) -> bool:
    """Whether a file says nothing of a run: a lock, or what a killed process left over."""
    return name in (_LOCK, _OWNER) or bool(_LEFT_OVER.fullmatch(name))


def _is_finished(folder: Path) -> bool:
    try:
        return isinstance(read_json(folder / SUMMARY), dict)
    except (OSError, ValueError):
        return False


def _is_same(folder: Path, config: RunConfig) -> bool:
    """Whether the folder's run trains the same. How its place was spelled does not matter.

    Raises ValueError for an unfinished run whose config.yaml is missing or damaged: nobody can say what it trains.
    """
    unfinished = not (folder / SUMMARY).exists() and Checkpoints(folder).exist()
    try:
        if _trained(read_mapping(folder / CONFIG)) == _trained(plain(config)):
            return True
        if unfinished and _was_changed(folder):
            raise ValueError(f"{CONFIG} was changed since it was saved")
    except (OSError, ValueError) as problem:
        if unfinished:
            raise ValueError(
                f"{folder} holds the checkpoints of an unfinished run, but not what it trains ({problem}); restore its "
                f"{CONFIG}, choose another --name, or remove the folder to begin anew"
            ) from None
    return False


def _was_changed(folder: Path) -> bool:
    try:
        known = read_json(folder / DIGESTS)
    except (OSError, ValueError):
        return False
    digest = known.get(CONFIG) if isinstance(known, dict) else None
    return digest is not None and digest != file_digest(folder / CONFIG)


def _trained(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _NOT_TRAINED}
