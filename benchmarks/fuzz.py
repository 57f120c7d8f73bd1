"""Fuzzing of every parser of files: how many inputs were tried, and what crashed.

    python benchmarks/fuzz.py [--seconds N] [--jobs N] [--parsers NAME …] [--output FILE]

atheris looks for inputs that reach new code, each parser in a process of its own for N seconds, `--jobs` of them at a
time (`tests/attacks/fuzz.py`). A crash is anything but a value, ValueError or OSError, more than 10 seconds or 4 GiB;
it ends the parser's time, and its input is kept in build/fuzz/. Parsers that are not named keep their rows. The file
is written after each parser.

Needs atheris (`make fuzz` installs it).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from record import print_table, rows_before, write_result

SCRIPT = Path(__file__).parents[1] / "tests" / "attacks" / "fuzz.py"
LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1")
_STATISTIC = re.compile(r"^stat::(\w+): +(\d+)$", re.MULTILINE)


def names() -> list[str]:
    """Names of the parsers."""
    words = [sys.executable, str(SCRIPT)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def fuzzed(name: str, seconds: int) -> tuple[dict[str, Any], str]:
    """The row of a parser, and the end of what was said of a crash."""
    words = [sys.executable, str(SCRIPT), name, f"-max_total_time={seconds}", *LIMITS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    said = done.stderr.decode("utf-8", "replace")
    found = {name: int(value) for name, value in _STATISTIC.findall(said)}
    if "number_of_executed_units" not in found:
        raise RuntimeError(f"{name} could not be fuzzed: {said[-2000:]}")
    crashed = done.returncode != 0
    row = {"parser": name, "seconds": seconds, "inputs": found["number_of_executed_units"], "crashes": int(crashed)}
    return row, said[-3000:] + done.stdout.decode("utf-8", "replace")[-2000:] if crashed else ""


def main() -> None:
    """Fuzz, print the table and write the result; exit code 1 after a crash."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = names()
    parser.add_argument("--seconds", type=int, default=600, help="for each parser")
    parser.add_argument("--jobs", type=int, default=1, help="parsers at a time")
    parser.add_argument("--parsers", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "fuzz.json")
    chosen = parser.parse_args()
    rows = {row["parser"]: row for row in rows_before(chosen.output) if row["parser"] in known}
    crashed = False
    with ThreadPoolExecutor(chosen.jobs) as pool:
        started = {pool.submit(fuzzed, name, chosen.seconds): name for name in chosen.parsers}
        for done in tqdm(as_completed(started), total=len(started), unit="parser"):
            name = started[done]
            rows[name], said = done.result()
            if said:
                crashed = True
                tqdm.write(f"{name}: {said}", file=sys.stderr)
            ordered = [rows[name] for name in known if name in rows]
            write_result(chosen.output, ordered, atheris=version("atheris"), limits=list(LIMITS))
    print_table(ordered)
    if crashed:
        sys.exit(1)


if __name__ == "__main__":
    main()
