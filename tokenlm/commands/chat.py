"""`tokenlm chat`: a conversation with a trained agent in the terminal."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, make_parser, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("chat", COMMAND.summary)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument("--temperature", type=float | None, default=None, help="of the policy, as /τ")
    parser.add_argument("--top_k", type=int | None, default=None, help="sample among so many best tokens, as /k")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first text, as /seed")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.chat import Chat
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.training import load_run

    agent, _ = load_run(chosen.run, chosen.device, with_env=False, trust=chosen.trust)
    settings = {"temperature": chosen.temperature, "top_k": chosen.top_k}
    chat = Chat(agent, lambda text: say(text, end=""), settings, chosen.seed)
    with contextlib.suppress(AttributeError, ValueError):  # bytes that are no text become a character nobody knows
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # arrow keys; Windows' terminal has its own
            import readline  # noqa: F401
        say(chat.greeting)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            break
        try:
            if not chat.answer(line):
                break
        except KeyboardInterrupt:  # ends the text, not the conversation
            say("")


COMMAND = Command(
    usage="chat RUN",
    summary="talk to it: a question answered, or a text continued",
    run=_run,
    names=lambda: options_of(_parser()),
)
