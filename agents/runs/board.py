"""TensorBoard events of a run, written at once: what cannot be written is known where it happens."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from .share.trackers import numbers_of


class Board:
    """A file of events in a folder. Unlike torch's SummaryWriter it has no thread of its own that can fail.

    Args:
        folder: for the file; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"events.out.tfevents.{time.time_ns():019d}.{os.getpid()}"
        self._write([Event(wall_time=time.time(), file_version="brain.Event:2")])

    def add(self, values: Mapping[str, Any], step: int) -> None:
        """Add the numbers among `values`, by name, at `step`."""
        found = [Summary.Value(tag=f"tokenlm/{k}", simple_value=v) for k, v in numbers_of(values).items()]
        self._write([Event(wall_time=time.time(), step=step, summary=Summary(value=found))])

    def _write(self, events: list[Event]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)  # it may have been removed meanwhile
        with self._path.open("ab") as file:
            records = RecordWriter(file)
            for event in events:
                records.write(event.SerializeToString())
