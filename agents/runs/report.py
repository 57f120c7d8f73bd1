"""The report of a run: a plot of its learning curves, and a text summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ...envs.text import write_atomically
from ..evaluation.confusion import Confusion, plot_confusion
from .plotting import STYLE

# Titles and keys of metrics that only some tasks have.
_OF_THE_TASK = (
    ("accuracy", "accuracy"),
    ("macro-F1", "macro_f1"),
    ("exact match", "exact_match"),
    ("token F1", "token_f1"),
    ("BLEU", "bleu"),
    ("chrF", "chrf"),
    ("distinct-1", "distinct_1"),
    ("distinct-2", "distinct_2"),
    ("distinct-3", "distinct_3"),
    ("self-BLEU", "self_bleu"),
    ("repeated 4-grams", "repetition"),
)


def plot_curves(
    rows: list[dict[str, Any]],
    baseline: list[dict[str, Any]],
    references: dict[str, float | None],
    path: Path,
) -> None:
    """Plot returns, regret and perplexity over wall-clock seconds, with reference lines.

    Args:
        rows: evaluations of the run.
        baseline: evaluations of the maximum-likelihood baseline; may be empty.
        references: constant_return, target_return, optimal_return and trivial_regret, nats.
        path: the PNG file to write.
    """
    seconds = [row["wall_seconds"] for row in rows]
    with matplotlib.rc_context(STYLE):
        known = any(row.get("regret") is not None for row in rows)
        figure = Figure(figsize=(16 if known else 11, 4.2), layout="constrained")
        returns, *middle, perplexity = figure.subplots(1, 3 if known else 2)
        greedy, sampled, regret = (
            np.array([row.get(name) for row in rows], float)  # None, which is what JSON has for nan, as nan
            for name in ("greedy_return", "sampled_return", "regret")
        )
        if middle:
            _draw_regret(middle[0], seconds, regret, references.get("trivial_regret"))
        returns.plot(seconds, greedy, "C0", label="agent, greedy")
        returns.plot(seconds, sampled, "C2", label="agent, sampled")
        lines = (
            ("optimal_return", "C3", "optimum"),
            ("target_return", "C1", "p* sampled"),
            ("constant_return", "0.5", "best constant text"),
        )
        for name, colour, label in lines:
            if (value := references.get(name)) is not None:
                returns.axhline(value, color=colour, linestyle="--", linewidth=1, label=label)
        returns.set(
            xlabel="seconds of training",
            ylabel="return of an episode (nats)",
            title="Return on held-out prompts",
        )
        # The first evaluations are far below the others, and the interesting range is near the optimum.
        returns.set_yscale("symlog", linthresh=10)
        highest = [value for value in (*greedy, *sampled) if np.isfinite(value)]
        returns.set_ylim(top=max([0.0, *highest]))  # sequence rewards can be above 0
        returns.yaxis.set_major_formatter(ScalarFormatter())
        returns.legend(frameon=False)

        measured = [(s, row["perplexity"]) for s, row in zip(seconds, rows, strict=True) if row["perplexity"]]
        if measured:
            perplexity.plot(*zip(*measured, strict=True), color="C0", label="agent")
        if baseline:
            points = [(row["wall_seconds"], row["perplexity"]) for row in baseline]
            perplexity.plot(*zip(*points, strict=True), color="C1", label="maximum likelihood, same network")
        if rows and (best := rows[-1]["target_perplexity"]) is not None:
            perplexity.axhline(best, color="C3", linestyle="--", linewidth=1, label="p* itself")
            perplexity.set_yscale("log")
            perplexity.set_ylim(0.9 * best, 10 * best)
            perplexity.yaxis.set_major_formatter(ScalarFormatter())
            perplexity.yaxis.set_minor_formatter(ScalarFormatter())
        perplexity.set(xlabel="seconds of training", ylabel="perplexity", title="Held-out perplexity")
        perplexity.legend(frameon=False)
        write_atomically(path, lambda p: figure.savefig(p, dpi=130, format="png"))


def _draw_regret(axes: Any, seconds: list[float], regret: Any, trivial: float | None) -> None:
    """Regret over seconds; the best trivial policy has the score 0, a regret of 0 the score 1."""
    axes.plot(seconds, regret, "C0", label="agent")
    if trivial is not None:
        axes.axhline(trivial, color="0.5", linestyle="--", linewidth=1, label="best trivial policy: score 0")
    axes.axhline(0.0, color="C3", linestyle="--", linewidth=1, label="optimum: score 1")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=min(0.0, *regret[np.isfinite(regret)]))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="seconds of training", ylabel="regret of an episode (nats)", title="Regret on held-out prompts")
    axes.legend(frameon=False)


def figures_of(summary: dict[str, Any]) -> list[tuple[str, Any]]:
    """Title and value of the figures shown of a run, those below another indented; None for what is not known.

    Args:
        summary: what `evaluate` gives, or an evaluation of the run while it is not finished.
    """
    baseline = summary.get("baseline") or {}
    task = [(title, name) for title, name in _OF_THE_TASK if name in summary]
    return [
        ("held-out perplexity", summary.get("perplexity")),
        ("  of p* itself", summary.get("target_perplexity")),
        *_beside(baseline, "perplexity"),
        ("bits per character", summary.get("bits_per_character")),
        *(row for title, name in task for row in ((title, summary[name]), *_beside(baseline, name))),
        ("KL(agent || p*), nats per text", summary.get("kl_to_target")),
        ("return, greedy", summary.get("greedy_return")),
        ("return, sampled", summary.get("sampled_return")),
        ("  of p* itself", summary.get("target_return")),
        ("  of the best text", summary.get("optimal_return")),
        ("  of the best constant text", summary.get("constant_return")),
        ("regret, nats per text", summary.get("regret")),
        ("  of the best trivial policy", summary.get("trivial_regret")),
        ("  of the greedy text", summary.get("greedy_regret")),
        ("normalized score", summary.get("normalized_score")),
        ("environment steps", summary.get("env_steps")),
        ("transitions trained", summary.get("transitions_trained")),
        ("seconds of training", summary.get("wall_seconds")),
        *_beside(baseline, "wall_seconds"),
    ]


def summary_text(summary: dict[str, Any], samples: dict[str, list[str]], folder: Path) -> str:
    """The table and the samples printed at the end of a run."""
    table = figures_of(summary)
    width = max(len(name) for name, _ in table)
    lines = [f"{name:<{width}}  {shown(value):>14}" for name, value in table]
    beside = text_lines(summary.get("texts"))
    texts = [line for title, group in samples.items() for line in (f"{title}:", *(f"  {t}" for t in group), "")]
    return "\n".join(
        [
            "",
            *lines,
            "",
            *_of_the_weights(summary),
            f"what this setting supports: {summary['supports']}",
            "",
            *([*beside, ""] if beside else []),
            *texts,
            f"plots, samples, weights and log: {folder}",
        ]
    )


def text_lines(texts: list[dict[str, Any]] | None) -> list[str]:
    """Lines for the `texts` of an evaluation: after each prompt the best text, the greedy and the most frequent one."""
    lines = []
    for row in texts or ():
        cut = ", cut by max_new_tokens" if row["best_truncated"] else ""
        lines += [
            f"after {row['prompt']!r}:" if row["prompt"] else "without a prompt:",
            f"  the best text, {shown(row['best_return'])} nats{cut}: {row['best']}",
            f"  the agent's greedy text, {shown(row['greedy_return'])} nats: {row['greedy']}",
            f"  its most frequent text, {row['sampled_times']} of {row['sampled_of']} sampled: {row['sampled']}",
        ]
    return lines


def _of_the_weights(summary: dict[str, Any]) -> list[str]:
    step, last = summary.get("weights_of_step"), summary.get("last_step")
    if step == last:
        return []
    return [
        f"the weights are those of step {step:,} of {last:,}, the best on the validation documents: after it the agent "
        "overfits or wavers, and fewer total_steps would do",
        "",
    ]


def _beside(baseline: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    return [("  of maximum likelihood", baseline[name])] if name in baseline else []


def plot_labels(result: dict[str, Any], folder: Path) -> Path | None:
    """Plot the confusion matrix of an evaluation to confusion.png in `folder`; its path, or None without a matrix."""
    found = result.get("confusion")
    if not found:
        return None
    path = folder / "confusion.png"
    plot_confusion(Confusion(found["labels"], np.array(found["counts"])), path)
    return path


def shown(value: Any) -> str:
    """Format a value, or a dict or list of values, for a table."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " to ".join(shown(part) for part in value)
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 1e7 else f"{value:.3g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
