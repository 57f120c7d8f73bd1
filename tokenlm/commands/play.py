"""`tokenlm play`: a page in the browser."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, make_parser, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

PORT = 7860
# The run of whoever has none.
_QUICK = ["quickstart", "--name=ten-seconds", "--max_seconds=10", "--evaluations=1", "--evaluation_documents=20",
          "--evaluation_episodes=16", "--baseline_seconds=0", "--agent.pretrain=30_000"]  # fmt: skip


def _parser() -> ArgumentParser:
    parser = make_parser("play", COMMAND.summary)
    parser.add_argument(
        "runs", type=str, nargs="*", default=[], help="folders of runs; without one, a run is trained in ten seconds"
    )
    parser.add_argument("--port", type=int, default=PORT, help="of 127.0.0.1; 0 for any that is free")
    parser.add_argument("--language", type=str, default="auto", help="of the page: auto, en or zh")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.web.page import app_of
    from tokenlm.agents.web.play import shown_runs
    from tokenlm.agents.web.server import address, listen, serve
    from tokenlm.agents.web.words import words_of

    language = words_of(chosen.language)
    with listen(chosen.port) as listening:  # a port that is taken is known before anything is loaded
        app = app_of(shown_runs(chosen.runs or [_quick_run()], chosen.device, chosen.trust), language)
        say(f"page: {address(listening)} (Ctrl-C ends)")
        if chosen.open:
            webbrowser.open(address(listening))
        serve(app, listening)


def _quick_run() -> str:
    """The folder of a run that was trained in ten seconds, now or before."""
    from tokenlm.agents.runs.continuing import finished_run_of
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.training import Run
    from tokenlm.parsing import parse_run

    config = parse_run(_QUICK)
    try:
        return str(finished_run_of(config))
    except FileNotFoundError:
        say("no run is given, so one learns for ten seconds now; `tokenlm play RUN` shows yours")
    run = Run(config)
    run.train()
    return str(run.folder)


COMMAND = Command(
    usage="play [RUN …]",
    summary="a page in the browser: every token beside the optimum",
    run=_run,
    names=lambda: options_of(_parser()),
)
