"""`tokenlm config`: print a configuration with all defaults."""

from __future__ import annotations

from tokenlm.commands.command import Command, answer
from tokenlm.envs.text.yaml_files import dump_yaml
from tokenlm.help_pages import field_names
from tokenlm.parsing import parse_run


def _run(words: list[str]) -> None:
    config = parse_run(words, "config")
    from tokenlm.agents.runs.config import plain

    answer(dump_yaml(plain(config)).rstrip("\n"))


COMMAND = Command(
    usage="config [CONFIG] [--FIELD VALUE …]",
    summary="print every field with its value",
    run=_run,
    names=lambda: field_names("config"),
    kind="field",
)
