"""`tokenlm grade`: the score of a solution of the course's exercises."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, make_parser, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("grade", COMMAND.summary)
    parser.add_argument("exercise", type=str, help="chapter3.1 for one exercise, chapter3 for all three of a chapter")
    parser.add_argument("solution", type=str, help="your Python file, which is imported; docs/zh says what to define")
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.course import grade
    from tokenlm.agents.runs.output import say

    results = grade(chosen.exercise, chosen.solution)
    several = len(results) > 1
    for result in results:
        say(f"{result.exercise.name}  {result}" if several else str(result))
    passed = sum(result.passed for result in results)
    if several:
        say(f"{passed} of {len(results)} passed")
    if passed < len(results):
        sys.exit(1)


COMMAND = Command(
    usage="grade CHAPTER SOLUTION",
    summary="grade exercises of docs/zh: tokenlm grade chapter3 my_solution.py",
    run=_run,
    names=lambda: options_of(_parser()),
)
