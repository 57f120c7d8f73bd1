"""What a run prints. Nothing that prints can fail a run."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO

from tqdm.auto import tqdm

from ...envs.text.cleaning import for_terminal


class _Quiet:
    """A stream whose errors are ignored: closed, full, or of an encoding that lacks a character."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            if self._stream is not None:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    encoding = self._stream.encoding or "ascii"
                    self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def _give_up(self) -> None:
        silence(self._stream)
        self._stream = None

    @property
    def encoding(self) -> str:
        """Of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """Of the stream; OSError without one."""
        if self._stream is None:
            raise OSError("the stream is closed")
        return self._stream.fileno()


def silence(stream: TextIO | None) -> None:
    """Let a stream that failed write nowhere: Python writes what is left in its buffer when it ends, and would fail."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def say(text: str, end: str = "\n") -> None:
    """Print a line or several; with another `end`, a piece of one."""
    out = _Quiet(sys.stdout)
    out.write((for_terminal(text) if out.isatty() else text) + end)
    out.flush()


def note(text: str) -> None:
    """Print a line on the standard error, beside what a program may read."""
    out = _Quiet(sys.stderr)
    out.write(for_terminal(text) + "\n")
    out.flush()


def progress_line(quiet: bool, **settings: Any) -> tqdm[Any]:
    """A progress line on the standard error, with rate and estimate."""
    settings = {"unit_scale": True, **settings}
    return tqdm(file=_Quiet(sys.stderr), disable=quiet, dynamic_ncols=True, mininterval=0.5, **settings)


def fill_standard_streams() -> None:
    """Let nothing take the numbers of standard streams that are closed: libraries would print into that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
