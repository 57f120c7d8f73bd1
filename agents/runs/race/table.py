"""The table of a race in Markdown, with what may be said of it in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....envs.targets.registry import SAMPLES_DOCUMENTS
from .statistics import CERTAIN, FEWEST

LEVELS = (0.5, 0.9, 0.98)
CLASSES = {"rewards": "From rewards alone", "corpus": "With corpus episodes", "p*": "Knowing p*, without learning"}
_ROUNDING = 1e-9  # nats or score; less is rounding
_LEGS = ("seconds", "steps")  # in the order of columns; the first that was run orders the rows


def table(result: dict[str, Any]) -> str:
    """The race as Markdown: one table for each class of entries, and one for the references."""
    race, parts = result["race"], []
    legs = [leg for leg in _LEGS if leg in race.get("legs", _LEGS)]
    for title in CLASSES.values():
        rows = {name: row for name, row in result["rows"].items() if row["class"] == title}
        if not rows:
            continue
        order = sorted(rows, key=lambda name: -((rows[name][legs[0]]["score"] or [-np.inf])[0]))
        head = [
            "", *(f"score after {_budget(race, leg)}" for leg in legs), "regret (nats)", "KL", "perplexity",
            *(f"{'s' if leg == 'seconds' else leg} to {level:g}" for leg in legs for level in LEVELS), "trials",
        ]  # fmt: skip
        lines = [_line(head), _line(["---"] * len(head))]
        lines += [_line(_cells(name, rows[name], race, legs)) for name in order]
        parts.append(f"**{title}**\n\n" + "\n".join(lines) + _words(result, order, legs))
    lines = [_line(["reference", "score", "regret (nats)", "return (nats)", "perplexity"]), _line(["---"] * 5)]
    for name, row in result["references"].items():
        figures = (_figure(row.get(key)) for key in ("score", "regret", "return", "perplexity"))
        lines.append(_line([name, *figures]).replace("*", "\\*"))
    parts.append("\n".join(lines))
    parts.append(_notes(result, legs))
    return "\n\n".join(parts) + "\n"


def reached(runs: list[dict[str, Any]], level: float, unit: str) -> float | None:
    """Median over runs of the `unit` at which a run first reaches `level`; None if most runs do not."""
    found = [_first(run["rows"], level) for run in runs if run["rows"]]
    middle = float(np.median([np.inf if f is None else f[unit] for f in found])) if found else np.inf
    return middle if np.isfinite(middle) else None


def _first(rows: list[dict[str, Any]], level: float) -> dict[str, Any] | None:
    return next((row for row in rows if row["score"] is not None and row["score"] >= level), None)


def _cells(name: str, row: dict[str, Any], race: dict[str, Any], legs: list[str]) -> list[str]:
    scores = [_score(row[leg]) + (_short(row[leg], race["total_steps"]) if leg == "steps" else "") for leg in legs]
    if row["error"]:
        scores[0] += f" (failed: {row['error']})"
    shown = row[legs[0]]
    units = {"seconds": "seconds", "steps": "env_steps"}
    return [
        name, *scores, _figure((shown.get("regret") or [None])[0]), _figure(shown["kl"]), _figure(shown["perplexity"]),
        *(_figure(row[leg][f"{units[leg]} to {level}"]) for leg in legs for level in LEVELS), str(row["trials"] or "-"),
    ]  # fmt: skip


def _words(result: dict[str, Any], order: list[str], legs: list[str]) -> str:
    """Who is ahead of whom, as far as the p-values allow to say so."""
    sentences = []
    for leg in legs:
        compared = {(c["first"], c["second"]): c for c in result.get("comparisons", {}).get(leg, ())}
        if not compared:
            continue
        best = max(order, key=lambda name: (result["rows"][name][leg]["score"] or [-np.inf])[0])
        ahead: list[str] = []
        level: list[str] = []
        for name in order:
            found = compared.get((best, name)) or compared.get((name, best))
            if name == best or found is None:
                continue
            p = "p unknown" if found["p"] is None else f"p = {found['p']:.2g}"
            (ahead if found["ahead"] and found["first"] == best else level).append(f"{name} ({p})")
        sentences += [f"After {_budget(result['race'], leg)} {best} is ahead of {', '.join(ahead)}."] if ahead else []
        sentences += (
            [f"After {_budget(result['race'], leg)} not told apart from {best}: {', '.join(level)}."] if level else []
        )
    lead = _lead(result, order) if "seconds" in legs else ""
    return "".join(f"\n\n{text}" for text in [" ".join(sentences), lead] if text)


def _lead(result: dict[str, Any], order: list[str]) -> str:
    """One sentence where the first entry is ahead of the second: when it had the second's final score."""
    pairs = [(c["first"], c["second"]) for c in result.get("comparisons", {}).get("seconds", ()) if c["ahead"]]
    if tuple(order[:2]) not in pairs:
        return ""
    first, second = order[:2]
    level = result["rows"][second]["seconds"]["score"][0]
    runs, whole = result["runs"][first]["seconds"], result["race"]["max_seconds"]
    seconds, steps = (reached(runs, level, unit) for unit in ("seconds", "env_steps"))
    if not seconds or not steps:
        return ""
    taken = result["rows"][second]["seconds"]["env_steps"]
    share = f"1/{whole / seconds:.0f}" if whole >= 2.0 * seconds else f"{seconds / whole:.2g}"
    return (
        f"{first} first had the {level:.3f} that {second} ends with after {seconds:.3g} s, {share} of the time, and "
        f"{steps:,.0f} steps, where {second} took {taken:,.0f}."
    )


def _notes(result: dict[str, Any], legs: list[str]) -> str:
    """What the figures are, and under which conditions."""
    race = result["race"]
    worlds = max(1, len(race.get("worlds", ())))
    runs = worlds * race["seeds"]
    over = f"{worlds} world{'s' if worlds > 1 else ''} × {race['seeds']} seed{'s' if race['seeds'] > 1 else ''}"
    if runs < FEWEST:
        middle = f"Single runs, {over}: too few for a mean."
    else:
        middle = f"Interquartile mean over {over} with its 95 % bootstrap interval."
    parts = [
        _scale(race), middle,
        f"Ahead: p < {CERTAIN:g} in a paired t-test of regrets over the {'worlds' if worlds > 1 else 'seeds'}.",
        "Settings: the algorithms' defaults, nothing searched." if race.get("defaults") else "",
        f"Seconds are those of learning, on {race['threads']} thread(s), {race['processes']} runs side by side; "
        f"perplexity, KL and regret after {'equal time' if legs[0] == 'seconds' else 'equal steps'}.",
        _searched(race),
        "The machine was not idle before." if result.get("machine", {}).get("busy") else "",
    ]  # fmt: skip
    return " ".join(part for part in parts if part)


def _searched(race: dict[str, Any]) -> str:
    if not race.get("trials"):
        return ""
    where = f"target seeds {', '.join(map(str, race['tuning_worlds']))}"
    if race["env"]["target"] not in SAMPLES_DOCUMENTS:
        where = "the validation documents, with the p\\* that is raced"
    return f"Search: {race['trials']} trials for every entry that has a space, on {where}."


def _scale(race: dict[str, Any]) -> str:
    if "temperature" not in race:  # of an earlier version
        return "Score: (greedy return - random)/(optimum - random)."
    tau = race["temperature"]
    what = f"of the policy at temperature {tau:g}, E[return] + {tau:g}·entropy" if tau else "of the greedy text"
    return (
        f"Score {what}: 0 is the best trivial policy, which learns nothing, 1 the optimum. Regret: nats a text below "
        "the optimum."
    )


def _budget(race: dict[str, Any], leg: str) -> str:
    return f"{race['max_seconds']:g} s" if leg == "seconds" else f"{race['total_steps']:,} steps"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _score(leg: dict[str, Any]) -> str:
    """Mean and interval; of few runs each."""
    value, single = leg["score"], [score for score in leg.get("scores", ()) if score is not None]
    if value is None:
        return "-"
    if single and len(single) < FEWEST:
        return ", ".join(f"{score:.3f}" for score in single)
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def _short(leg: dict[str, Any], total: int) -> str:
    """A note with the steps of a run that ended by time before `total` steps."""
    took = leg["env_steps"]
    return f" (time ended at {took:,.0f})" if took and took < 0.95 * total else ""


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) < _ROUNDING:
        return "0"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
