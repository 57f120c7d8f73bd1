"""How idle threads wait. Read by the OpenMP libraries when torch loads them, so it is set before."""

from __future__ import annotations

import os

# Idle threads of libgomp, which PyTorch's Linux wheels bring, spin for 300,000 rounds before they sleep: two trainings
# on one machine then take the processor from each other. By `benchmarks/side_by_side.py` 1,000 spins cost 10 % of the
# speed of a training that runs alone (500 cost 15 %); two at once run at 0.62 of it each, not at 0.05, and three at
# 0.44, not 0.21.
SPINS = "1000"
BLOCK_MILLISECONDS = "1"  # the same for the OpenMP of LLVM and Intel (macOS, Windows)
OF_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY")


def settle_threads() -> None:
    """Let idle threads sleep soon, unless the user has set how they wait."""
    if not any(name in os.environ for name in OF_THE_USER):
        os.environ["GOMP_SPINCOUNT"] = SPINS
        os.environ["KMP_BLOCKTIME"] = BLOCK_MILLISECONDS
