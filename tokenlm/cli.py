"""The command line: train, evaluate, generate, race, config."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from tokenlm.envs import nearest
from tokenlm.envs.arguments import names_of
from tokenlm.envs.text.files import finite
from tokenlm.envs.text.reading import read_lines
from tokenlm.envs.text.yaml_files import dump_yaml
from tokenlm.parsing import field_names, parse_race, parse_run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

USAGE = """usage: tokenlm COMMAND …

  tokenlm train [CONFIG] [--FIELD VALUE …]   train, e.g. tokenlm train quickstart --agent.learning_rate 3e-4
  tokenlm evaluate RUN [--json]              measure a trained agent on the test documents
  tokenlm generate RUN [--prompt TEXT]       let a trained agent write; --help lists the ways to do so
  tokenlm race CONFIG [--FIELD VALUE …]      algorithms against each other, e.g. tokenlm race race-markov
  tokenlm config [CONFIG] [--FIELD VALUE …]  print the full resolved configuration

CONFIG is a name from configs/ or the path of a YAML file, RUN the folder of a run.
`tokenlm COMMAND --help` explains every field with its default."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `tokenlm`; bad input ends with one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if words else 2)
    from jsonargparse import ArgumentError

    commands = {"train": _train, "evaluate": _evaluate, "generate": _generate, "race": _race, "config": _config}
    if words[0] == "--version":
        from tokenlm import __version__

        print(__version__)
        return
    if words[0] not in commands:
        _fail(f"unknown command {words[0]!r}{nearest(words[0], commands)}; use one of {', '.join(commands)}")
    try:
        commands[words[0]](words[1:])
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, ImportError) as problem:
        _fail(str(problem))
    except ArithmeticError as problem:
        _fail(str(problem), 1)
    except MemoryError:
        _fail("the memory of this machine is not enough; use a smaller network, batch or replay_capacity")
    except ArgumentError as problem:
        _fail(_readable(str(problem), words[0]))


def _train(words: list[str]) -> None:
    config = parse_run(words)
    from tokenlm.agents.runs.interruption import Interrupted
    from tokenlm.agents.runs.training import Run

    try:
        Run(config).train()
    except Interrupted as ending:
        _fail(str(ending), ending.exit_code)


def _race(words: list[str]) -> None:
    config = parse_race(words)
    from tokenlm.agents.runs.race import Race

    Race(config).run()


def _config(words: list[str]) -> None:
    config = parse_run(words, "config")
    from tokenlm.agents.runs.config import plain
    from tokenlm.agents.runs.output import say

    say(dump_yaml(plain(config)).rstrip("\n"))


def _evaluate_parser() -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="tokenlm evaluate", exit_on_error=False)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument(
        "--split",
        type=Literal["train", "valid", "test"],
        default="test",
        help="documents to measure on",
    )
    parser.add_argument("--documents", type=int | None, default=None, help="documents to score; all if not given")
    parser.add_argument("--episodes", type=int, default=256, help="episodes to play")
    parser.add_argument("--seed", type=int, default=0, help="seed of the prompts and of the sampling")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--trust", action="store_true", help="import code that the run names, read changed files")
    parser.add_argument("--bounds", action="store_true", help="bounds on the optimal return where it is too large")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _evaluate(words: list[str]) -> None:
    chosen = _evaluate_parser().parse_args(words)
    from tokenlm.agents.evaluation.evaluate import evaluate
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.report import plot_labels, shown
    from tokenlm.agents.runs.training import load_run

    agent, _ = load_run(chosen.run, chosen.device, trust=chosen.trust)
    names = ("split", "documents", "episodes", "seed", "bounds")
    result = evaluate(agent, **{name: getattr(chosen, name) for name in names})
    picture = plot_labels(result, Path(chosen.run))
    if chosen.json:
        say(json.dumps(finite(result)))
        return
    for name, value in result.items():
        say(f"{name:28} {shown(value) if name != 'confusion' else picture}")


def _generate_parser() -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="tokenlm generate", exit_on_error=False)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument("--prompt", type=str, default="", help="how the texts begin; the source of a pair")
    parser.add_argument("--prompts", type=str | None, default=None, help="a UTF-8 file of prompts, one a line")
    parser.add_argument("--count", type=int | None, default=None, help="texts for each prompt; 5, of --prompts 1")
    parser.add_argument(
        "--temperature",
        type=float | None,
        default=None,
        help="of the policy; the agent's own if not given, 0 is greedy",
    )
    parser.add_argument("--top_k", type=int | None, default=None, help="sample among so many best tokens only")
    parser.add_argument("--top_p", type=float | None, default=None, help="sample among the best with this probability")
    parser.add_argument("--beams", type=int, default=1, help="width of a beam search; 1 samples")
    parser.add_argument("--length_penalty", type=float, default=0.0, help="above 0 beams favour longer texts")
    parser.add_argument("--stop", type=str, nargs="+", default=[], help="strings that a text ends before")
    parser.add_argument(
        "--max_new_tokens",
        type=int | None,
        default=None,
        help="longest continuation; the environment's if not given",
    )
    parser.add_argument("--stream", action="store_true", help="show texts while they are written, one after the other")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--trust", action="store_true", help="import code that the run names, read changed files")
    return parser


def _generate(words: list[str]) -> None:
    chosen = _generate_parser().parse_args(words)
    if chosen.prompts and chosen.prompt:
        raise ValueError("give --prompt or --prompts, not both")
    if chosen.stream and chosen.beams > 1:
        raise ValueError("a beam search knows its texts at the end only; leave out --stream or --beams")
    prompts = _lines(Path(chosen.prompts)) if chosen.prompts else [chosen.prompt]
    count = (1 if chosen.prompts else 5) if chosen.count is None else chosen.count
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.training import load_run

    agent, _ = load_run(chosen.run, chosen.device, with_env=False, trust=chosen.trust)
    names = ("temperature", "top_k", "top_p", "stop", "max_new_tokens")
    how = {name: getattr(chosen, name) for name in names}
    if not chosen.stream:
        search = {"beams": chosen.beams, "length_penalty": chosen.length_penalty}
        say("\n".join(agent.generate(prompts, count, **how, **search, seed=chosen.seed)))
        return
    for number, prompt in enumerate(p for p in prompts for _ in range(count)):
        for piece in agent.stream(prompt, **how, seed=chosen.seed + number):
            print(piece, end="", flush=True)
        print()


def _lines(path: Path) -> list[str]:
    """The lines of a file of prompts; FileNotFoundError where there is none, ValueError where it has none."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}; give one with a prompt on each line")
    lines = list(read_lines(path))
    if not lines:
        raise ValueError(f"{path} is empty; write a prompt on each line")
    return lines


def _readable(message: str, command: str) -> str:
    """The parser's message in our words, with the nearest name for an unknown one."""
    unknown = re.search(r"unrecognized arguments: --([\w.]+)", message)
    inside = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
    top = re.search(r"[Kk]ey ['\"]([\w.]+)['\"] is not expected|does not accept option '([\w.]+)'", message)
    if unknown or inside or top:
        found = unknown or inside or top
        name = ".".join(part for part in found.groups() if part) if found else ""
        kind = "option" if command in ("evaluate", "generate") else "field"
        return f"there is no {kind} {name!r}{nearest(name, _known(command))}; `tokenlm {command} --help` lists them all"
    message = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", message.replace("Parser key ", ""))
    return message.replace("Expected a typing.Literal", "expected one of ").replace("Expected a ", "expected ")


def _known(command: str) -> list[str]:
    """The options of a command, or the fields that it takes."""
    if command in ("evaluate", "generate"):
        parser = _evaluate_parser() if command == "evaluate" else _generate_parser()
        return [action.dest for action in parser._actions]
    from tokenlm.agents import RunConfig
    from tokenlm.agents.runs.race import RaceConfig

    return names_of(RaceConfig) if command == "race" else field_names(RunConfig())


def _fail(message: str, exit_code: int = 2) -> NoReturn:
    text = f"tokenlm: {' '.join(message.split())}"
    try:
        encoding = sys.stderr.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding), file=sys.stderr)
    except (AttributeError, OSError, ValueError):  # no standard error, or a closed one
        pass
    sys.exit(exit_code)
