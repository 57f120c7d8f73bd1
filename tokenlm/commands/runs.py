"""`tokenlm runs`: a table of the runs below a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, answer, make_parser, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("runs", COMMAND.summary)
    parser.add_argument("folder", type=str, nargs="?", default="runs", help="where to look for runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.listing import differing, find_runs, plain_run, runs_table

    runs = find_runs(chosen.folder)
    if chosen.json:
        names = differing(runs)
        lines = [json.dumps(plain_run(run, names), ensure_ascii=False) for run in runs]
    else:
        lines = runs_table(runs, Path(chosen.folder))
    answer("\n".join(lines))


COMMAND = Command(
    usage="runs [FOLDER]",
    summary="a table of all runs: figures, and what differs",
    run=_run,
    names=lambda: options_of(_parser()),
)
