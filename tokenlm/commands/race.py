"""`tokenlm race`: algorithms against each other."""

from __future__ import annotations

from tokenlm.commands.command import Command
from tokenlm.help_pages import field_names
from tokenlm.parsing import parse_race


def _run(words: list[str]) -> None:
    config = parse_race(words)
    from tokenlm.agents.runs.race import Race

    Race(config).run()


COMMAND = Command(
    usage="race CONFIG [--FIELD VALUE …]",
    summary="algorithms against each other: tokenlm race race-markov",
    run=_run,
    names=lambda: field_names("race"),
    kind="field",
)
