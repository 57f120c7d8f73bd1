"""Seconds spent in each part of training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MAX_EVENTS = 4096  # timed parts that a GPU may have waiting
PARTS = ("acting", "imagining", "replay", "forward", "backward", "optimizer", "evaluation")


class Stopwatch:
    """Seconds spent in each part of training.

    A GPU works asynchronously: there the parts are timed by events in its queue, and the host waits for it only when
    the figures are read, or once in `MAX_EVENTS` parts.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._on_gpu = torch.device(device).type == "cuda"
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Count what happens inside as `part`, one of `PARTS`."""
        if self._on_gpu:
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            yield
            ended.record()
            self._events.append((part, began, ended))
            if len(self._events) >= MAX_EVENTS:
                self._read_events()
        else:
            start = time.perf_counter()
            yield
            self._seconds[part] += time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Share of each part in the time counted since the last call, 0 to 1; zeros where nothing was counted."""
        self._read_events()
        total = sum(self._seconds.values()) or 1.0
        shares = {part: round(seconds / total, 4) for part, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(PARTS, 0.0)
        return shares

    def _read_events(self) -> None:
        if self._events:
            torch.cuda.synchronize()
            for part, began, ended in self._events:
                self._seconds[part] += began.elapsed_time(ended) / 1000.0
            self._events.clear()
