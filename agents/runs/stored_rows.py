"""Figures that are stored of a submission: a row, or the model card of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...envs.text.files import read_json
from ...envs.text.opening import check_file
from ...envs.text.yaml_files import parse_yaml
from .share.card import figure_rows

_HEADER = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_OF_A_CARD = {"regret": "regret", "kl_to_target": "kl"}  # types of metrics, and what a row calls them


def read_row(path: Path, world: int) -> dict[str, Any]:
    """A stored row: "worlds", a list of figures with "world", and what else it says.

    Args:
        path: of a JSON file, as `tokenlm verify --json` prints it, or of a model card (.md).
        world: that a card is about.

    Raises ValueError for a file that is neither.
    """
    if path.suffix.lower() == ".md":
        return {"worlds": [{"world": world, **_figures_of_card(path)}]}
    row = read_json(path)
    worlds = row.get("worlds") if isinstance(row, dict) else None
    if not isinstance(worlds, list) or not all(isinstance(w, dict) and isinstance(w.get("world"), int) for w in worlds):
        raise ValueError(f'{path} is no row: it needs "worlds", a list of figures by world, as `tokenlm verify` prints')
    return {**row, "worlds": worlds}


def _figures_of_card(path: Path) -> dict[str, Any]:
    """Figures by name in the metadata of a model card; ValueError where its table tells others."""
    check_file(path, "model card", "json_bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; export the run again") from None
    header = _HEADER.match(text)
    try:
        (model,) = parse_yaml(header[1] if header else "", str(path))["model-index"]
        (result,) = model["results"]
        metrics = {metric["type"]: metric["value"] for metric in result["metrics"]}
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(
            f"{path} has no figures: its header needs one model with metrics, as `tokenlm export` writes it"
        ) from None
    for row in figure_rows(metrics):
        if row not in text.splitlines():
            raise ValueError(f"the table of {path} has other figures than its header, which has {row}; export again")
    return {name: metrics[kind] for kind, name in _OF_A_CARD.items() if kind in metrics}
