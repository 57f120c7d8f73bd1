"""`tokenlm tune`: search the settings of a configuration."""

from __future__ import annotations

from tokenlm.commands.command import Command
from tokenlm.help_pages import field_names
from tokenlm.parsing import parse_tune


def _run(words: list[str]) -> None:
    config = parse_tune(words)
    from tokenlm.agents.runs.search.tune import Tune

    Tune(config).run()


COMMAND = Command(
    usage="tune [CONFIG|FILE] [--trials N] [--FIELD VALUE …]",
    summary="search good settings: tokenlm tune quickstart --trials 50",
    run=_run,
    names=lambda: field_names("tune"),
    kind="field",
)
