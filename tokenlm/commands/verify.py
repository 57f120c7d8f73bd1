"""`tokenlm verify`: recompute the figures of a submitted policy."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, answer, make_parser, options_of
from tokenlm.envs.text.files import finite

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("verify", COMMAND.summary)
    parser.add_argument("folder", type=str, help="a run, or a folder with one for each world, or with submission.yaml")
    parser.add_argument("--row", type=str | None, default=None, help="a row or a model card; FOLDER/row.json")
    parser.add_argument(
        "--temperature", type=float | None, default=None, help="τ of the objective; that of the stored figures"
    )
    parser.add_argument("--episodes", type=int | None, default=None, help="texts in each world; as stored, else 256")
    parser.add_argument("--seed", type=int | None, default=None, help="seed of the prompts; as stored, else 0")
    add_loading(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, which is the row to store")
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.runs.verified_text import described
    from tokenlm.agents.runs.verifying import verify

    names = ("row", "temperature", "episodes", "seed", "device", "trust")
    found = verify(chosen.folder, **{name: getattr(chosen, name) for name in names})
    answer(json.dumps(finite(found.plain()), indent=1) if chosen.json else described(found))
    if not found.holds:
        sys.exit(1)


COMMAND = Command(
    usage="verify FOLDER [--json]",
    summary="recompute the figures of a submitted policy; do the stored ones hold?",
    run=_run,
    names=lambda: options_of(_parser()),
    needs_less="give fewer --episodes",
)
