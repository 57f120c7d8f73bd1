"""A pretrained network split over two processes trains as one that is whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_two_processes_that_split_a_network_train_it_as_one_does():
    """Weights, gradient norms, moments and checkpoints; each process keeps a part of the blocks."""
    script = Path(__file__).with_name("two_shards.py")
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:] == ["equal", "saved"]
