"""Regret, KL and score of a submitted policy, recomputed from the policy alone, and whether what is stored holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.evaluate import evaluate
from ..evaluation.scores import normalized_score
from .folder import SUMMARY
from .stored_rows import read_row
from .submission import Submitted, id_of, read_submission

ROW = "row.json"
FIGURES = ("regret", "kl", "score")
_STORED = {"regret": "regret", "score": "normalized_score"}  # in a summary, at its own temperature
_GREEDY = {"regret": "greedy_regret", "score": "greedy_score"}  # at temperature 0
_KL = {"kl": "kl_to_target"}  # of the policy as it acts
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Claim:
    """A stored figure beside the recomputed one.

    Args:
        source: the file that holds it.
        world: target seed.
        figure: "regret", "kl" or "score".
        stored: as it stands there.
        found: recomputed; None where that is not possible.
        found_ci: 95 % interval of `found`; None where that is unknown.
        holds: whether the two 95 % intervals overlap; a stored figure without one is taken to have one as wide.
    """

    source: str
    world: int
    figure: str
    stored: float
    found: float | None
    found_ci: list[float] | None
    holds: bool


@dataclass(frozen=True)
class Verified:
    """What was recomputed of a submission.

    Args:
        row: as of row.json: id, temperature, source, policy, and for each world its figures.
        claims: the stored figures.
    """

    row: dict[str, Any]
    claims: list[Claim]

    @property
    def holds(self) -> bool:
        """Whether all stored figures hold."""
        return all(claim.holds for claim in self.claims)

    def plain(self) -> dict[str, Any]:
        """The row as JSON values, with the claims."""
        return {**self.row, "claims": [dataclasses.asdict(claim) for claim in self.claims]}


def verify(
    folder: str | Path,
    *,
    temperature: float | None = None,
    episodes: int | None = None,
    seed: int | None = None,
    row: str | Path | None = None,
    device: str = "auto",
    trust: bool = False,
) -> Verified:
    """Recompute the figures of a submission on the test prompts of its worlds.

    Args:
        folder: see `read_submission`.
        temperature: τ of the objective; None for that of the stored row, else of the summaries, else the policy's own.
        episodes: texts in each world; None for as many as the stored figures come from.
        seed: of the prompts; None for that of the stored figures, so that they must come out again.
        row: a file with the stored row, see `read_row`; None for row.json in the folder, if there is one.
        device: "auto", "cpu", "cuda" or "mps".
        trust: see `read_submission`.

    Raises ValueError and FileNotFoundError as `read_submission`, and for a row that is none.
    """
    submitted = read_submission(folder, device, trust)
    path = Path(row) if row else Path(folder) / ROW
    # An empty one: the shell has made it for `tokenlm verify FOLDER --json > FOLDER/row.json`.
    there = row or (path.exists() and path.stat().st_size > 0)
    stored = read_row(path, submitted[0].world) if there else {}
    lines = {line["world"]: line for line in stored.get("worlds", ())}
    tau = _first(temperature, stored.get("temperature"), submitted[0].summary.get("temperature"))
    found: dict[int, dict[str, Any]] = {}
    claims = []
    for each in submitted:
        line = lines.get(each.world, {})
        count, prompts = (
            _first(episodes, line.get("episodes"), each.episodes),
            _first(seed, line.get("seed"), each.seed),
        )
        tau, found[each.world] = _figures(each, tau, count, prompts)
        claims += _claims(SUMMARY, found[each.world], _of_summary(each.summary, tau))
    same = stored.get("temperature") in (None, tau)
    for world, line in lines.items():
        figures = {name: (line.get(name), line.get(f"{name}_ci")) for name in (FIGURES if same else _KL)}
        claims += _claims(path.name, found.get(world, {"world": world}), figures)
    first = submitted[0]
    of = {"id": id_of(first.env), "temperature": tau, "source": first.source, **first.policy}
    return Verified({**of, "worlds": list(found.values())}, claims)


def _first(*values: Any) -> Any:
    """The first value that is given."""
    return next((value for value in values if value is not None), None)


def _figures(submitted: Submitted, temperature: float | None, episodes: int, seed: int) -> tuple[float, dict[str, Any]]:
    """τ of the objective, and one world's figures."""
    # Documents say how likely a text is, which is not asked here: one of them is enough.
    found = evaluate(
        submitted.load(), env=submitted.env, split="test", documents=1, episodes=episodes, seed=seed,
        temperature=temperature,
    )  # fmt: skip
    seconds = submitted.summary.get("wall_seconds")
    return found["temperature"], {
        "world": submitted.world,
        "episodes": episodes,
        "seed": seed,
        "regret": found["regret"],
        "regret_ci": found["regret_ci"],
        "kl": found["kl_to_target"],
        "kl_ci": found["kl_to_target_ci"],
        "score": found["normalized_score"],
        "score_ci": score_interval(found["regret_ci"], found["trivial_regret"]),
        "env_steps": found["env_steps"],
        "seconds": found["wall_seconds"] if seconds is None else seconds,
    }


def score_interval(regret_ci: Sequence[float] | None, trivial_regret: float | None) -> list[float] | None:
    """The interval of a score, from that of the regret; None where one is unknown."""
    if regret_ci is None or trivial_regret is None:
        return None
    ends = [normalized_score(-end, -trivial_regret, 0.0) for end in reversed(regret_ci)]
    return None if None in ends else [end for end in ends if end is not None]


def _of_summary(summary: Mapping[str, Any], temperature: float) -> dict[str, tuple[Any, Any]]:
    """Stored figures and their intervals, as far as the summary has them at this temperature."""
    if not summary:
        return {}
    names = _STORED if summary.get("temperature") == temperature else _GREEDY if temperature == 0.0 else {}
    return {figure: (summary.get(name), summary.get(f"{name}_ci")) for figure, name in {**names, **_KL}.items()}


def _claims(source: str, found: Mapping[str, Any], stored: Mapping[str, tuple[Any, Any]]) -> list[Claim]:
    claims = []
    for figure, (value, interval) in stored.items():
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValueError(f"{figure} in {source} must be a number, not {value!r}")
        own, own_ci = found.get(figure), found.get(f"{figure}_ci")
        holds = own is not None and _overlap(value, interval, own, own_ci)
        claims.append(Claim(source, found["world"], figure, float(value), own, own_ci, holds))
    return claims


def _overlap(stored: float, stored_ci: Any, found: float, found_ci: Any) -> bool:
    widths = [width for width in (half_width(stored_ci), half_width(found_ci)) if width is not None]
    wide = sum(widths) * (2 if len(widths) == 1 else 1)
    return abs(stored - found) <= wide + _ROUNDING * max(1.0, abs(found))


def half_width(interval: Any) -> float | None:
    """Half the width of an interval; None without one."""
    known = isinstance(interval, (list, tuple)) and len(interval) == 2
    if not known or not all(isinstance(end, (int, float)) and math.isfinite(end) for end in interval):
        return None
    return abs(interval[1] - interval[0]) / 2
