"""How idle threads wait. Read by the OpenMP libraries when torch loads them, so it is set before."""

from __future__ import annotations

import os

# Idle threads of libgomp, which PyTorch's Linux wheels bring, spin for 300,000 rounds before they sleep: two trainings
# on one machine then take the processor from each other. `benchmarks/side_by_side.py` measures what this costs.
SPINS = "1000"
BLOCK_MILLISECONDS = "1"  # the same for the OpenMP of LLVM and Intel (macOS, Windows)
_OF_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY")


def settle_threads() -> None:
    """Let idle threads sleep soon, unless the user has set how they wait."""
    if not any(name in os.environ for name in _OF_THE_USER):
        os.environ["GOMP_SPINCOUNT"] = SPINS
        os.environ["KMP_BLOCKTIME"] = BLOCK_MILLISECONDS
