"""`tokenlm evaluate`: measure a trained agent on held-out documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tokenlm.commands.command import Command, add_loading, answer, make_parser, options_of
from tokenlm.envs.text.files import finite

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("evaluate", COMMAND.summary)
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument(
        "--split", type=Literal["train", "valid", "test"], default="test", help="documents to measure on"
    )
    parser.add_argument("--documents", type=int | None, default=None, help="documents to score; all if not given")
    parser.add_argument("--episodes", type=int, default=256, help="episodes to play")
    parser.add_argument(
        "--temperature",
        type=float | None,
        default=None,
        help="τ of the objective that regret and score are measured by; the agent's own if not given",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the prompts and of the sampling")
    add_loading(parser)
    parser.add_argument("--bounds", action="store_true", help="bounds on the optimal return where it is too large")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.evaluation.evaluate import check_counts, evaluate
    from tokenlm.agents.runs.report import plot_labels, shown, text_lines
    from tokenlm.agents.runs.training import load_run

    check_counts(chosen.documents, chosen.episodes, chosen.seed)  # before any file is read
    agent, _ = load_run(chosen.run, chosen.device, trust=chosen.trust)
    names = ("split", "documents", "episodes", "temperature", "seed", "bounds")
    result = evaluate(agent, **{name: getattr(chosen, name) for name in names})
    if chosen.json:
        answer(json.dumps(finite(result)))
        plot_labels(result, Path(chosen.run))
        return
    texts = text_lines(result.pop("texts"))
    for name, value in result.items():
        if name != "confusion":
            answer(f"{name:28} {shown(value)}")
    for line in texts:
        answer(line)
    if picture := plot_labels(result, Path(chosen.run)):  # last: the folder may be one that cannot be written
        answer(f"{'confusion':28} {picture}")


COMMAND = Command(
    usage="evaluate RUN [--json]",
    summary="measure a trained agent on the test documents",
    run=_run,
    names=lambda: options_of(_parser()),
    needs_less="give fewer --episodes and --documents",
)
