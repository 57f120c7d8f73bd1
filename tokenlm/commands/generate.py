"""`tokenlm generate`: let a trained agent write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, answer, make_parser, noted_warnings, options_of
from tokenlm.envs.text.reading import read_lines

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("generate", COMMAND.summary)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument("--prompt", type=str, default="", help="how the texts begin; the source of a pair")
    parser.add_argument("--prompts", type=str | None, default=None, help="a UTF-8 file of prompts, one a line")
    parser.add_argument("--count", type=int | None, default=None, help="texts for each prompt; 5, of --prompts 1")
    parser.add_argument(
        "--temperature", type=float | None, default=None, help="of the policy; its own if not given, 0 is greedy"
    )
    parser.add_argument("--top_k", type=int | None, default=None, help="sample among so many best tokens only")
    parser.add_argument("--top_p", type=float | None, default=None, help="sample among the best with this probability")
    parser.add_argument("--beams", type=int, default=1, help="width of a beam search; 1 samples")
    parser.add_argument("--length_penalty", type=float, default=0.0, help="above 0 beams favour longer texts")
    parser.add_argument("--stop", type=str, nargs="+", default=[], help="strings that a text ends before")
    parser.add_argument(
        "--max_new_tokens", type=int | None, default=None, help="longest continuation; the environment's if not given"
    )
    parser.add_argument("--stream", action="store_true", help="show texts while they are written, one after the other")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    if chosen.prompts and chosen.prompt:
        raise ValueError("give --prompt or --prompts, not both")
    if chosen.stream and chosen.beams > 1:
        raise ValueError("a beam search knows its texts at the end only; leave out --stream or --beams")
    prompts = lines_of(Path(chosen.prompts)) if chosen.prompts else [chosen.prompt]
    count = (1 if chosen.prompts else 5) if chosen.count is None else chosen.count
    from tokenlm.agents.runs.training import load_run

    agent, _ = load_run(chosen.run, chosen.device, with_env=False, trust=chosen.trust)
    names = ("temperature", "top_k", "top_p", "stop", "max_new_tokens")
    how = {name: getattr(chosen, name) for name in names}
    if not chosen.stream:
        search = {"beams": chosen.beams, "length_penalty": chosen.length_penalty}
        with noted_warnings():
            texts = agent.generate(prompts, count, **how, **search, seed=chosen.seed)
        answer("\n".join(texts))
        return
    for number, prompt in enumerate(p for p in prompts for _ in range(count)):
        with noted_warnings():
            pieces = agent.stream(prompt, **how, seed=chosen.seed + number)
        for piece in pieces:
            answer(piece, end="")
        answer("")


def lines_of(path: Path) -> list[str]:
    """The lines of a file of prompts; FileNotFoundError where there is none, ValueError where it has none."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}; give one with a prompt on each line")
    lines = list(read_lines(path))
    if not lines:
        raise ValueError(f"{path} is empty; write a prompt on each line")
    return lines


COMMAND = Command(
    usage="generate RUN [--prompt TEXT]",
    summary="let a trained agent write",
    run=_run,
    names=lambda: options_of(_parser()),
    needs_less="give a smaller --count, --beams or --max_new_tokens, or fewer prompts",
)
