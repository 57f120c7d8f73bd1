"""Writes the generated parts of README.md and docs/, so that every figure has a source and stands in one place.

    python benchmarks/tables.py [--check]

A part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Tables of results come from the JSON files in
results/, descriptions of environments, rules and configurations from the code. `--check` writes nothing and fails where
a part is not up to date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenlm.envs.text import write_text_atomically

from board_table import BOARD
from chinese_tables import CHINESE
from cluster_table import CLUSTER
from code_tables import CODE
from gpu_table import gpu_table
from race_tables import RACE
from result_tables import RESULTS

ROOT = Path(__file__).parents[1]
PARTS: dict[str, Callable[[], str]] = {**RESULTS, **RACE, **CODE, **CHINESE, **CLUSTER, **BOARD, "gpu": gpu_table}
_PART = re.compile(r"(<!-- (?P<name>[\w-]+):begin -->\n).*?(<!-- (?P=name):end -->)", re.DOTALL)


def pages() -> Iterator[Path]:
    """All pages that may have generated parts."""
    yield from sorted(ROOT.glob("README*.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def filled(text: str) -> str:
    """`text` with its generated parts made anew; KeyError for a part that nobody makes.

    A part whose result was not measured yet stays as it is.
    """

    def fill(found: re.Match[str]) -> str:
        try:
            made = PARTS[found["name"]]()
        except FileNotFoundError:
            return found[0]
        return f"{found[1]}{made.strip()}\n{found[3]}"

    return _PART.sub(fill, text)


def main() -> None:
    """Write every page whose parts changed, or say which they are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a page is not up to date"
    )
    check = parser.parse_args().check
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                write_text_atomically(page, new)
    if stale:
        print(("not up to date: " if check else "written: ") + ", ".join(stale))
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
