"""Writes the README's tables from the committed results, so that no figure stands there without its source.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
import re
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


def main() -> None:
    """Fill the text between the markers."""
    text = README.read_text(encoding="utf-8")
    filled = re.sub(
        r"(<!-- results:begin -->\n).*?(<!-- results:end -->)",
        lambda m: f"{m.group(1)}{quickstart_table()}\n{m.group(2)}",
        text,
        flags=re.DOTALL,
    )
    write_text_atomically(README, filled)


if __name__ == "__main__":
    main()
