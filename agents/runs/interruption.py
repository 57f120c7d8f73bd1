"""SIGTERM and Ctrl-C: the update under way is finished and a checkpoint written; a second signal stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal ended the run.

    Args:
        number: of the signal; the exit code is 128 + number.
        message: what to do now.
        at_once: whether it was the second one, which waits for nothing.
    """

    def __init__(self, number: int, message: str, at_once: bool = False) -> None:
        super().__init__(message)
        self.exit_code = 128 + number
        self.at_once = at_once


class Interruption:
    """Whether a signal has come.

    Attributes:
        number: of the signal; None while none has come.
    """

    number: int | None = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise Interrupted(number, "stopped at once; the same command goes on from the last checkpoint", True)
        self.number = number
        with contextlib.suppress(OSError):  # not by print: the signal may have come in the middle of one
            os.write(2, b"\nstopping when what is under way is done; a second signal stops at once\n")


@contextmanager
def watched() -> Iterator[Interruption]:
    """Receive the signals inside; elsewhere than in the main thread they are left alone."""
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.signal(number, found._receive) for number in _SIGNALS}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
