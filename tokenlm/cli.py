"""The command line: finds the command, runs it, and words what went wrong in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from tokenlm.commands import NAMES, command
from tokenlm.commands.command import Command, answer, fail
from tokenlm.envs import nearest
from tokenlm.envs.text.limits import set_limits

_KINDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `tokenlm`; bad input ends with one line and exit code 2."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        fail("interrupted", 130)


def _run(given: Sequence[str]) -> None:
    try:
        words = _take_limits(given)
    except ValueError as problem:
        fail(str(problem))
    if not words or words[0] in ("-h", "--help", "help", "--version"):
        from tokenlm import __version__

        try:
            answer(__version__ if words and words[0] == "--version" else usage())
        except OSError as problem:
            fail(str(problem))
        sys.exit(0 if words else 2)
    if words[0] not in NAMES:
        fail(f"unknown command {words[0]!r}{nearest(words[0], NAMES)}; use one of {', '.join(NAMES)}")
    from jsonargparse import ArgumentError

    chosen = command(words[0])
    try:
        chosen.run(words[1:])
    except (ValueError, OSError, ImportError) as problem:
        fail(str(problem))
    except ArithmeticError as problem:
        fail(str(problem), 1)
    except (MemoryError, RuntimeError) as problem:
        from tokenlm.agents.devices import is_out_of_memory

        if not is_out_of_memory(problem):
            raise
        fail(f"there is not enough memory; {chosen.needs_less}")
    except ArgumentError as problem:
        fail(_readable(str(problem), words[0], chosen))


def _take_limits(words: Sequence[str]) -> list[str]:
    """The words without `--limits.NAME N`, whose limits are set: they belong to every command, and to no file."""
    rest: list[str] = []
    queue = list(words)
    while queue:
        option, equals, value = (word := queue.pop(0)).partition("=")
        if not option.startswith("--limits."):
            rest.append(word)
            continue
        if not equals and not queue:
            raise ValueError(f"{option} needs a value")
        value = value if equals else queue.pop(0)
        number: Any = int(value.replace("_", "")) if re.fullmatch("[0-9][0-9_]{0,24}", value) else value
        set_limits(**{option.removeprefix("--limits."): number})
    return rest


def usage() -> str:
    """The help of `tokenlm` alone."""
    commands = [command(name) for name in NAMES]
    width = max(len(each.usage) for each in commands) + 2
    return "\n".join(
        [
            "usage: tokenlm COMMAND …",
            "",
            *(f"  tokenlm {each.usage:<{width}}{each.summary}" for each in commands),
            "",
            "CONFIG is a name from configs/ or a YAML file, FILE a corpus, RUN the folder of a run.",
            "`tokenlm COMMAND --help` explains what a command takes.",
            "Every command takes --limits.NAME N, which lets a file be larger: docs/runs.md lists them.",
        ]
    )


def _readable(message: str, name: str, chosen: Command) -> str:
    """The parser's message in our words, with the nearest name for an unknown one."""
    unknown = re.search(r"unrecognized arguments: --([\w.]+)", message)
    inside = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
    top = re.search(r"[Kk]ey ['\"]([\w.]+)['\"] is not expected|does not accept option '([\w.]+)'", message)
    if found := unknown or inside or top:
        given = ".".join(part for part in found.groups() if part)
        close = nearest(given, chosen.names())
        page = "--help-all" if chosen.kind == "field" else "--help"
        return f"there is no {chosen.kind} {given!r}{close}; `tokenlm {name} {page}` lists them all"
    if wrong := re.search(
        r'"([\w.]+)":\s+Does not validate .*?Errors:(.*)Given value type: .*?Given value: (.*)', message, re.S
    ):
        kinds = [
            _KINDS[kind]
            for kind in re.findall(r"- expected (?:a )?(?:<class ')?(\w+)", wrong[2], re.I)
            if kind in _KINDS
        ]
        if kinds:
            return f"{wrong[1]} must be {' or '.join(kinds)}, not {wrong[3].strip()}"
    message = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", message.replace("Parser key ", ""))
    return message.replace("Expected a typing.Literal", "expected one of ").replace("Expected a ", "expected ")
