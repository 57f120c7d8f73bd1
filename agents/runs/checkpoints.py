"""States of a run: written whole or not at all, checked when read, the newest two kept."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...envs.text import write_atomically
from ...envs.text.digests import file_digest
from ...envs.text.files import sync

KEPT = 2
_NAME = re.compile(r"state-(\d{6,})-([0-9a-f]{16})\.pt")


class Checkpoints:
    """The states in a folder. The name of each holds its number and its digest.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: list[Path] = []

    def save(self, state: dict[str, Any]) -> None:
        """Write a `state_dict` of tensors, arrays, numbers, lists and dicts as the newest; keep the one before.

        Raises OSError where it cannot be written.
        """
        known = self._known()
        number = known[-1][0] + 1 if known else 0
        temporary = self.folder / ".state.pt"
        write_tensors(temporary, state)
        temporary.replace(self.folder / f"state-{number:06d}-{file_digest(temporary)[:16]}.pt")
        sync(self.folder)
        for path in self._damaged:  # they are no longer needed, and must not count among those that are kept
            path.unlink(missing_ok=True)
        self._damaged = []
        for _, path in self._known()[:-KEPT]:
            path.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest state that is whole, None without; and a sentence for each one that is damaged.

        Raises OSError where one cannot be read now, which does not mean that it is damaged.
        """
        known = self._known()
        messages = [f"{path} is not a regular file, so it is no checkpoint" for path in self._irregular()]
        for place, (_, path) in reversed(list(enumerate(known))):
            then = "the checkpoint before is used" if place else "there is none before it, so the run begins anew"
            name = _NAME.fullmatch(path.name)
            if name and file_digest(path).startswith(name[2]):
                try:
                    return read_tensors(path), messages
                except ValueError as problem:
                    messages.append(f"{problem}; {then}")
            else:
                messages.append(f"{path} is damaged; {then}")
            self._damaged.append(path)
        return None, messages

    def exist(self) -> bool:
        """Whether there is any."""
        return bool(self._known())

    def remove(self) -> None:
        """Remove all, oldest first."""
        for _, path in self._known():
            path.unlink(missing_ok=True)

    def _known(self) -> list[tuple[int, Path]]:
        """Number and path of each, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [
            (int(name[1]), path)
            for path in self.folder.iterdir()
            if (name := _NAME.fullmatch(path.name)) and path.is_file()
        ]
        return sorted(found)

    def _irregular(self) -> list[Path]:
        """What has the name of a checkpoint and is a folder, a pipe or a device."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and not path.is_file())


def read_tensors(path: Path) -> dict[str, Any]:
    """What `write_tensors` wrote of a dict; ValueError for another file.

    Raises OSError and MemoryError where it cannot be read now, which does not mean that it is damaged.
    """
    try:
        _check_stored(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, MemoryError):
        raise
    except Exception as problem:  # whatever a file that torch cannot read raises
        raise ValueError(f"{path} cannot be read ({type(problem).__name__})") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no state by name")
    return state


def _check_stored(path: Path) -> None:
    """ValueError for compressed parts, which torch never writes: a small file of them could fill the memory."""
    with zipfile.ZipFile(path) as parts:
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
            raise ValueError("it is compressed")


def write_tensors(path: Path, value: Any) -> None:
    """Write tensors, arrays, numbers, lists and dicts, atomically; OSError where they cannot be written."""
    try:
        write_atomically(path, lambda temporary: torch.save(_plain(value), temporary))
    except RuntimeError as problem:  # torch does not pass on why
        raise OSError(
            f"{path} could not be written ({str(problem).splitlines()[0]}); is the disk full? "
            "Make room; the same command goes on from the last checkpoint, if there is one"
        ) from None


def _plain(value: Any) -> Any:
    """NumPy's arrays as tensors and its numbers as Python's: the safe unpickler knows no others."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value.item() if isinstance(value, np.generic) else value
