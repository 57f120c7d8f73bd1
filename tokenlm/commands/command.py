"""What a command is, and what several of them share."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TextIO

from tokenlm.envs.text.cleaning import for_terminal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Command:
    """A command of `tokenlm`.

    Args:
        usage: how it is called, without `tokenlm`: "evaluate RUN [--json]".
        summary: what it does, in a line.
        run: does it, with the words after its name.
        names: its options, or the fields that it takes, for "did you mean".
        kind: what it calls them.
        needs_less: what to do where the memory is not enough.
    """

    usage: str
    summary: str
    run: Callable[[list[str]], None]
    names: Callable[[], list[str]]
    kind: str = "option"
    needs_less: str = "use a smaller network, batch or replay_capacity"


def make_parser(name: str, summary: str) -> ArgumentParser:
    """An empty parser for the command `name`; `cli` words its errors."""
    from jsonargparse import ArgumentParser

    return ArgumentParser(prog=f"tokenlm {name}", description=summary, exit_on_error=False, allow_abbrev=False)


def options_of(parser: ArgumentParser) -> list[str]:
    """Names of the options of a parser."""
    return [action.dest for action in parser._actions]


def add_loading(parser: ArgumentParser) -> None:
    """The options of all commands that load an agent."""
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--trust", action="store_true", help="import code that the run names, read changed files")


def answer(text: str, end: str = "\n") -> None:
    """Print what was asked for on the standard output; OSError where it cannot be written: the caller must know."""
    out = sys.stdout
    try:
        if out is None:
            raise OSError("it is closed")
        out.write(_encodable(for_terminal(text) if out.isatty() else text, out) + end)
        out.flush()
    except (OSError, ValueError) as problem:
        from tokenlm.agents.runs.output import silence

        silence(out)
        if not isinstance(problem, BrokenPipeError):  # else whoever reads it has enough
            reason = f"the standard output cannot be written ({problem}); make room, or give another one"
            raise OSError(reason) from None


def _encodable(text: str, stream: TextIO) -> str:
    """`text` with ? for what the encoding of `stream` lacks."""
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def note(message: str) -> None:
    """Say `message` in one line on the standard error, whatever that is."""
    text = for_terminal(f"tokenlm: {' '.join(message.split())}")
    with suppress(AttributeError, OSError, ValueError):  # no standard error, or a closed one
        print(_encodable(text, sys.stderr), file=sys.stderr)


@contextmanager
def noted_warnings() -> Iterator[None]:
    """Say the warnings inside as notes: words of a prompt that are unknown."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(each.message) for each in found):
        note(message)


def fail(message: str, exit_code: int = 2) -> NoReturn:
    """Say `message` in one line on the standard error, and end."""
    note(message)
    sys.exit(exit_code)
