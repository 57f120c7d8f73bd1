"""Everything that needs a GPU, in one command: tests, agreement with the CPU, speed beside what the device can do.

    python benchmarks/gpu.py --minutes 8                # `make gpu`
    python benchmarks/gpu.py --device cpu --tiny        # whether everything runs, without a GPU

It runs from a checkout in which nothing is installed (see `checkout.py`) and without a network. Every part has a
process and a time of its own and writes benchmarks/results/gpu/PART.json row by row; a part that fails is a row. The
table of all of them is in docs/gpu.md (`python benchmarks/tables.py` writes it).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import checkout


def main() -> None:
    """Run the parts; exit code 1 where a test failed or CPU and device disagree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, to see that everything runs")
    parser.add_argument("--parts", nargs="+", help="some parts alone, in the order given")
    parser.add_argument(
        "--output", type=Path, help="folder of the results; benchmarks/results/gpu, or build/gpu if tiny"
    )
    chosen = parser.parse_args()
    if missing := checkout.prepare():
        sys.exit(missing)
    import torch

    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("torch finds no GPU here; --device cpu --tiny shows whether everything runs")
    from gpu_parts import PARTS
    from gpu_run import run_all

    names = chosen.parts or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"--parts {' '.join(unknown)} is unknown; the parts are {', '.join(PARTS)}")
    default = checkout.BUILD / "gpu" if chosen.tiny else Path(__file__).parent / "results" / "gpu"
    rows = run_all(chosen.device, chosen.tiny, chosen.minutes, chosen.output or default, names)
    right = [each["reached"] is not False for each in rows if each["part"] in ("agreement", "tests")]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
