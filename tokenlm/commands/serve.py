"""`tokenlm serve`: an agent behind an HTTP interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, make_parser, options_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

PORT = 8000


def _parser() -> ArgumentParser:
    parser = make_parser("serve", COMMAND.summary)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument("--port", type=int, default=PORT, help="of 127.0.0.1; 0 for any that is free")
    parser.add_argument("--max_tokens", type=int, default=512, help="longest continuation that a request may ask for")
    parser.add_argument("--texts", type=int, default=16, help="texts that a request may ask for")
    parser.add_argument("--characters", type=int, default=10_000, help="of a prompt")
    parser.add_argument("--body", type=int, default=1 << 18, help="bytes of a request")
    parser.add_argument("--at_once", type=int, default=2, help="requests that are answered at the same time")
    parser.add_argument("--waiting", type=int, default=16, help="requests that wait for their turn; more are refused")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.training import load_run
    from tokenlm.agents.web.admission import Room
    from tokenlm.agents.web.completions import Completer, Limits
    from tokenlm.agents.web.interface import app_of
    from tokenlm.agents.web.server import address, listen, serve

    limits = Limits(chosen.max_tokens, chosen.texts, chosen.characters)
    room = Room(chosen.body, chosen.at_once, chosen.waiting)
    with listen(chosen.port) as listening:  # a port that is taken is known before anything is loaded
        agent, _ = load_run(chosen.run, chosen.device, with_env=False, trust=chosen.trust)
        name = Path(chosen.run).resolve().name
        say(f"model {name}: {address(listening)}/v1 (Ctrl-C ends)")
        serve(app_of(Completer(agent, name, limits), room), listening)


COMMAND = Command(
    usage="serve RUN",
    summary="a run behind HTTP, as OpenAI's completions",
    run=_run,
    names=lambda: options_of(_parser()),
)
