"""Writes the README's tables from the committed results, so that no figure stands there without its source.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenlm.envs.text import write_text_atomically

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def load(name: str) -> dict[str, Any]:
    """A committed result."""
    result: dict[str, Any] = json.loads((HERE / "results" / name).read_text(encoding="utf-8"))
    return result


def quickstart_table() -> str:
    """What the quickstart run ended with."""
    result = load("quickstart/result.json")
    summary, hardware = result["rows"][0], result["hardware"]
    lines = [
        "| | agent | p\\* | maximum likelihood | random | best text |",
        "|---|---|---|---|---|---|",
        f"| held-out perplexity | {summary['perplexity']:.2f} | {summary['target_perplexity']:.2f} "
        f"| {summary['baseline_perplexity']:.2f} | | |",
        f"| return of an episode, sampled (nats) | {summary['sampled_return']:.1f} | {summary['target_return']:.1f} "
        f"| | {summary['random_return']:.1f} | |",
        f"| return of an episode, greedy (nats) | {summary['greedy_return']:.2f} "
        f"| | | | {summary['optimal_return']:.2f} |",
    ]
    share = summary["perplexity"] / summary["target_perplexity"]
    return "\n".join(lines) + (
        f"\n\nPerplexity {share:.2f} × that of p\\*, KL(π ‖ p\\*) {summary['kl_to_target']:.2f} nats a text, greedy "
        f"normalized score {summary['normalized_score']:.3f}, after {summary['env_steps']:,} environment steps and "
        f"{summary['wall_seconds']:.0f} seconds of training on {hardware['cores']} cores of {hardware['processor']} "
        f"(`{result['command']}`, seed {result['settings']['seed']})."
    )


def rules_table() -> str:
    """Rule, what it is, and how far from its fixed point it ended."""
    result = load("rules.json")
    names = [name for name in result["rows"][0] if name != "rule"]
    lines = ["| rule | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in result["rows"]:
        cells = ["-" if row[n] is None else f"{row[n]:.0e}" for n in names]
        lines.append(f"| {row['rule']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n(`{result['command']}`; a dash where the rule is not defined.)"


def markov_table() -> str:
    """The two classes of the race against the clock, each in a table of its own, and the ablations."""
    result = load("markov.json")
    names = ["seeds", "score, median", "lowest", "seconds", "env steps", "distinct tokens"]
    groups = {
        "With the corpus (half of every batch are texts sampled from p\\*):": [],
        "From rewards alone:": [],
        "From rewards alone, dense, with one thing changed:": [],
    }  # fmt: skip
    with_corpus, alone, changed = groups.values()
    for row in result["rows"]:
        group = changed if row["changed"] != "-" else with_corpus if "with the corpus" in row["class"] else alone
        label = row["changed"] if group is changed else row["class"].split(",")[0]
        cells = [f"{row[n]:.3f}" if isinstance(row[n], float) and n != "seconds" else f"{row[n]:,.0f}" for n in names]
        group.append(f"| {label} | " + " | ".join(cells) + " |")
    head = "| reward | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|"
    tables = "\n\n".join("\n".join([title, "", head, *lines]) for title, lines in groups.items() if lines)
    hardware, settings = result["hardware"], result["settings"]
    return tables + (
        f"\n\nScore: (greedy - random)/(optimal - random), exact; a collapse would show as one distinct token of 16. "
        f"One thread a run, {settings['processes']} side by side on {hardware['cores']} cores of "
        f"{hardware['processor']}, some of them while other work ran there: seconds are "
        f"upper bounds, and changes compare by their environment steps (`python benchmarks/markov.py`)."
    )


def language_modelling_table() -> str:
    """Perplexities of every rule after equal time."""
    result = load("language_modelling.json")
    lines = ["| rule | test perplexity | × maximum likelihood | transitions |", "|---|---|---|---|"]
    for row in result["rows"]:
        lines.append(
            f"| {row['rule']} | {row['test_perplexity']:.1f} | {row['ratio_to_maximum_likelihood']:.2f} "
            f"| {row['transitions_trained']:,} |"
        )
    settings = result["settings"]
    return "\n".join(lines) + (
        f"\n\np\\* itself: {result['rows'][0]['target_perplexity']:.1f}. {settings['seconds']:.0f} seconds each, one "
        f"thread, {settings['processes']} side by side (`{result['command']}`)."
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "quickstart": quickstart_table,
    "rules": rules_table,
    "markov": markov_table,
    "language_modelling": language_modelling_table,
}


def main() -> None:
    """Fill the text between the markers."""
    text = README.read_text(encoding="utf-8")
    for name, table in SECTIONS.items():
        filled = f"<!-- {name}:begin -->\n{table()}\n<!-- {name}:end -->"
        text = re.sub(f"<!-- {name}:begin -->.*?<!-- {name}:end -->", lambda _, f=filled: f, text, flags=re.DOTALL)
    write_text_atomically(README, text)


if __name__ == "__main__":
    main()
