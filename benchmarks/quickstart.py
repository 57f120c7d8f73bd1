"""Records the run of `make train`: results, plot and samples for the README.

    python benchmarks/quickstart.py [--output FOLDER]

Runs `tokenlm train quickstart` as shipped and keeps its summary, curve and samples.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path

from tokenlm.agents.runs.training import Run
from tokenlm.parsing import parse_run

from record import print_table, write_result


def main() -> None:
    """Train, then copy the files that the README shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quickstart")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        run = Run(dataclasses.replace(parse_run(["quickstart"]), output=runs))
        summary = run.train()
        chosen.output.mkdir(parents=True, exist_ok=True)
        for name in ("curves.png", "samples.txt"):
            shutil.copy(run.folder / name, chosen.output / name)
    write_result(chosen.output / "result.json", [summary], seed=run.config.seed, curve=run.rows, baseline=run.baseline)
    print_table([{"figure": name, "value": value} for name, value in summary.items() if value is not None])


if __name__ == "__main__":
    main()
