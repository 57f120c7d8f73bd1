"""`tokenlm report`: a page about runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, make_parser, note, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("report", COMMAND.summary)
    parser.add_argument("runs", type=str, nargs="+", help="folders of one run or more")
    parser.add_argument("--page", type=str | None, default=None, help="the HTML file to write; RUN/report.html")
    parser.add_argument("--documents", type=int, default=200, help="validation documents for calibration and credit")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.listing import read_runs, without_evaluations
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.page import write_page
    from tokenlm.envs.arguments import whole_number

    whole_number("documents", chosen.documents, 1)
    runs = read_runs(chosen.runs)
    for sentence in without_evaluations(runs):
        note(sentence)
    page = Path(chosen.page or runs[0].folder / "report.html")
    if not page.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {page.absolute().parent} for the page; make it, or give another --page")
    write_page(runs, page, chosen.documents, chosen.device, chosen.trust)
    say(f"page: {page}")


COMMAND = Command(
    usage="report RUN [RUN …]",
    summary="one HTML page: curves, calibration, credit, texts",
    run=_run,
    names=lambda: options_of(_parser()),
    needs_less="give fewer --documents",
)
