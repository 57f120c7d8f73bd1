"""What else the machine was doing when a race began."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ....envs.text import write_json
from ....envs.text.files import read_json

BUSY = 0.5  # processes that run or wait on average, in the minute before
_WAITING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def note_start(path: Path) -> dict[str, Any]:
    """Note the machine's load at this start beside those of earlier starts.

    Args:
        path: the JSON file.

    Returns: "cores", "loads" (processes that ran or waited in the minute before each start; None where the system does
    not say), "busy" (whether one of them was above `BUSY`; a race that goes on right after a stop counts itself), and
    "waiting", the variables that say how idle threads wait.
    """
    before: list[float | None] = read_json(path)["loads"] if path.exists() else []
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    loads = [*before, load]
    found = {
        "cores": os.cpu_count(), "loads": loads, "busy": any(each is not None and each > BUSY for each in loads),
        "waiting": {name: os.environ[name] for name in _WAITING if name in os.environ},
    }  # fmt: skip
    write_json(path, found)
    return found
