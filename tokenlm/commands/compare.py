"""`tokenlm compare`: runs beside each other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, answer, make_parser, note, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("compare", COMMAND.summary)
    parser.add_argument("runs", type=str, nargs="+", help="folders of two runs or more")
    parser.add_argument("--picture", type=str | None, default=None, help="the PNG file of the curves")
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    if len(chosen.runs) < 2:
        raise ValueError("compare needs two runs or more, `tokenlm compare runs/A runs/B`; `tokenlm runs` lists them")
    from tokenlm.agents.runs.comparing import comparison, names_of_runs, plot_runs
    from tokenlm.agents.runs.listing import read_runs, without_evaluations

    runs = read_runs(chosen.runs)
    for sentence in without_evaluations(runs):
        note(sentence)
    names = "-".join(name.replace("/", "-").replace("\\", "-") for name in names_of_runs(runs))
    picture = Path(chosen.picture or runs[0].folder.parent / f"compare-{names}.png")
    plot_runs(runs, picture)
    answer(comparison(runs, shutil.get_terminal_size((120, 24)).columns))
    answer(f"\ncurves: {picture}")


COMMAND = Command(
    usage="compare RUN RUN …",
    summary="runs side by side: settings, figures, curves, texts",
    run=_run,
    names=lambda: options_of(_parser()),
)
