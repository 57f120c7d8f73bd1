"""States of a run: written whole or not at all, checked when read, the newest two kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ...envs.text import write_atomically
from ...envs.text.digests import file_digest
from ...envs.text.files import sync

KEPT = 2
_NAME = re.compile(r"state-(\d{6})-([0-9a-f]{16})\.pt")


class Checkpoints:
    """The states in a folder. The name of each holds its number and its digest.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any]) -> None:
        """Write a `state_dict` of tensors, arrays, numbers, lists and dicts as the newest; keep the one before."""
        known = self._known()
        number = known[-1][0] + 1 if known else 0
        temporary = self.folder / ".state.pt"
        write_atomically(temporary, lambda path: torch.save(_plain(state), path))
        temporary.replace(self.folder / f"state-{number:06d}-{file_digest(temporary)[:16]}.pt")
        sync(self.folder)
        for _, path in self._known()[:-KEPT]:
            path.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest state that is whole, None without; and a sentence for each one that is damaged."""
        messages: list[str] = []
        for _, path in reversed(self._known()):
            name = _NAME.fullmatch(path.name)
            if name and file_digest(path).startswith(name[2]):
                try:
                    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
                    return state, messages
                except Exception as problem:  # whatever a file that torch cannot read raises
                    messages.append(
                        f"{path.name} cannot be read ({type(problem).__name__}); the checkpoint before is used"
                    )
                    continue
            messages.append(f"{path.name} is damaged; the checkpoint before is used")
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
        found = [(int(name[1]), path) for path in self.folder.iterdir() if (name := _NAME.fullmatch(path.name))]
        return sorted(found)


def _plain(value: Any) -> Any:
    """NumPy arrays as tensors: the safe unpickler knows no others."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return (
        torch.from_numpy(value)
        if type(value).__module__ == "numpy" and hasattr(value, "shape") and value.shape
        else value
    )
