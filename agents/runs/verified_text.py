"""What `tokenlm verify` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .table import table
from .verifying import FIGURES, Claim, Verified, half_width


def described(verified: Verified) -> str:
    """The row by world with its means, and which stored figures hold."""
    row = verified.row
    head: list[tuple[str, ...]] = [("world", "regret, nats", "KL, nats", "score", "env steps", "seconds")]
    lines: list[tuple[str, ...]] = [
        (str(world["world"]), *(_with_interval(world, name) for name in FIGURES), *map(_count, _stated(world)))
        for world in row["worlds"]
    ]
    means = [_mean(row["worlds"], name) for name in (*FIGURES, "env_steps", "seconds")]
    if len(lines) > 1:
        lines.append(("mean", *map(_number, means[:3]), *map(_count, means[3:])))
    count = len(row["worlds"])
    title = (
        f"{row['id'] or 'no registered id'}, temperature {row['temperature']:g}, {row['policy']} ({row['source']}): "
        f"{row['worlds'][0]['episodes']} texts of test prompts in {count} world{'s' if count > 1 else ''}"
    )
    return "\n".join([title, "", *table(head + lines, right=range(1, 6)), "", *_of_claims(verified.claims)])


def _of_claims(claims: Sequence[Claim]) -> list[str]:
    if not claims:
        return ["no figures are stored that these could be compared with"]
    held = sum(claim.holds for claim in claims)
    sources = " and ".join(dict.fromkeys(claim.source for claim in claims))
    compared = ", ".join(dict.fromkeys(claim.figure for claim in claims))
    lines = [f"{held} of {len(claims)} figures in {sources} hold ({compared}; no others were compared)"]
    for claim in claims:
        if not claim.holds:
            interval = f" ({_number(claim.found_ci[0])} to {_number(claim.found_ci[1])})" if claim.found_ci else ""
            lines.append(
                f"{claim.figure} of world {claim.world} does not: {_number(claim.stored)} in {claim.source}, "
                f"{_number(claim.found)}{interval} recomputed"
            )
    return lines


def _stated(world: Mapping[str, Any]) -> tuple[Any, Any]:
    return world["env_steps"], world["seconds"]


def _mean(worlds: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [world[name] for world in worlds]
    return None if None in values else sum(values) / len(values)


def _with_interval(world: Mapping[str, Any], name: str) -> str:
    half = half_width(world[f"{name}_ci"])
    return _number(world[name]) + (f" ± {half:.3f}" if half else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"  # no -0.000


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
