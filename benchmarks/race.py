"""Records a race: runs `tokenlm race` and copies table, plot, single runs (CSV) and results to the other results.

python benchmarks/race.py race-markov [--FIELD VALUE …]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tokenlm.agents.runs.race import Race
from tokenlm.parsing import parse_race

from record import write_result

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the race, then write its result and copy its plot."""
    config = parse_race(sys.argv[1:])
    race = Race(config)
    result = race.run()
    rows = [{"entry": name, **row} for name, row in result["rows"].items()]
    write_result(
        RESULTS / f"{race.folder.name}.json", rows, references=result["references"], chosen=result["chosen"],
        comparisons=result["comparisons"], machine=result["machine"],
        table=(race.folder / "table.md").read_text(encoding="utf-8"), worlds=config.raced_worlds, seeds=config.seeds,
        trials=config.trials, tuning_worlds=config.tuning_worlds, threads=config.threads, processes=config.processes,
        total_steps=config.total_steps, max_seconds=config.max_seconds, legs=config.legs,
        temperature=config.temperature,
    )  # fmt: skip
    shutil.copyfile(race.folder / "curves.png", RESULTS / f"{race.folder.name}.png")
    shutil.copyfile(race.folder / "runs.csv", RESULTS / f"{race.folder.name}.csv")


if __name__ == "__main__":
    main()
