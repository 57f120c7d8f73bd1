"""`tokenlm train`: train an agent into a folder."""

from __future__ import annotations

import os

from tokenlm.commands.command import Command, fail, note
from tokenlm.help_pages import field_names
from tokenlm.parsing import parse_run


def _run(words: list[str]) -> None:
    config = parse_run(words)
    from tokenlm.agents.runs.interruption import Interrupted
    from tokenlm.agents.runs.training import train

    try:
        train(config)
    except Interrupted as ending:
        if ending.at_once:
            note(str(ending))
            os._exit(ending.exit_code)  # the interpreter's own end takes seconds
        fail(str(ending), ending.exit_code)


COMMAND = Command(
    usage="train [CONFIG|FILE] [--FIELD VALUE …]",
    summary="train: tokenlm train quickstart, tokenlm train poems.txt",
    run=_run,
    names=lambda: field_names("train"),
    kind="field",
)
