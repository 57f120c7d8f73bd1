"""`tokenlm export`: a run's policy for other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, make_parser, note, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("export", COMMAND.summary)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument("folder", type=str, help="where the model goes; new or empty")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.share.export import export_run

    made = export_run(chosen.run, chosen.folder, chosen.device, chosen.trust)
    for sentence in made.notes:
        note(sentence)
    say(f"{made.kind} in {chosen.folder}: {', '.join(made.files)}")


COMMAND = Command(
    usage="export RUN FOLDER",
    summary="the policy as a Hugging Face model; an LSTM as ONNX",
    run=_run,
    names=lambda: options_of(_parser()),
    needs_less="export a run with a smaller network",
)
