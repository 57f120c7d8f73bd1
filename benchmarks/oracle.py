"""Time and memory of the exact optimum.

    python benchmarks/oracle.py [--json FILE]

On random Markov chains with texts of exactly 16 tokens: the best text, soft values at τ = ½ and the exact return of the
uniform policy; then soft values at τ = ½ of texts that end with `<eos>` and have no limit, by soft value iteration.
Each size runs in its own process, for its peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from measuring import in_pool
from record import print_table, write_result

SIZES = ((200, 2), (200, 3), (2_000, 2), (10_000, 2))


def measure(size: tuple[int, int]) -> dict[str, Any]:
    """Measure seconds and peak memory of one size."""
    from tokenlm.envs import EnvConfig, Oracle, World

    vocab_size, order = size
    config = EnvConfig(
        target="markov", vocab_size=vocab_size, order=order, ending="fixed", max_new_tokens=16, context_length=17,
        prompt_length=(0, 0),
    )  # fmt: skip
    began = time.perf_counter()
    world = World(config)
    built, oracle, start = time.perf_counter(), Oracle(world, config), np.array([0] * 16 + [2])
    best = float(oracle.optimal_return(start))
    hard = time.perf_counter()
    soft = float(oracle.optimal_value(start, temperature=0.5))
    softened = time.perf_counter()
    random = float(oracle.expected_return("random", start))
    done = time.perf_counter()
    states = world.target.automaton.num_states
    ending = EnvConfig(
        target="markov", vocab_size=vocab_size, order=order, max_new_tokens=16, context_length=17, prompt_length=(0, 0)
    )
    del world, oracle  # so that peak memory does not include two worlds
    unlimited = Oracle(World(ending), ending)
    ready = time.perf_counter()
    unlimited.optimal_value(start, temperature=0.5)
    iterated = time.perf_counter()
    return {
        "V": vocab_size,
        "order": order,
        "states": states,
        "seconds to make p*": built - began,
        "best text": hard - built,
        "soft values": softened - hard,
        "random policy": done - softened,
        "soft values, unlimited eos": iterated - ready,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "optimal return": best,
        "V*, τ=½": soft,
        "random return": random,
    }


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "oracle.json")
    chosen = parser.parse_args()
    rows, others = in_pool(measure, SIZES, 1)
    write_result(chosen.json, rows, seed=0, others_cores=others)
    print_table(rows)


if __name__ == "__main__":
    main()
