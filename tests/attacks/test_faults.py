"""Crash at every step, in a small form: `benchmarks/faults.py` on some of the calls, kills and damaged files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not (shutil.which("cc") or shutil.which("gcc")),
    reason="calls to the file system are counted by a library made with a C compiler, on Linux",
)
def test_every_fault_is_survived(tmp_path):
    words = ["--every=7", "--kills=20", "--mutations=100", "--seed=1", f"--output={tmp_path / 'faults.json'}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "FAULTS_PLACE")}
    done = subprocess.run(
        [sys.executable, str(HARNESS), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["tried"] == row["survived"] > 0 for row in rows)
    kinds = {row["fault"] for row in rows}
    assert {"killed at a random moment", "damaged file, generate", "open killed before it"} < kinds
