"""What a best text looks like, beside what an agent writes after the same prompt."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ...envs import EnvConfig, Oracle, Vocabulary, World
from ...envs.starts import shown_prompt
from .playing import Play

MOST = 3  # prompts


def texts_beside(world: World, config: EnvConfig, greedy: Play, sampled: Play) -> list[dict[str, Any]] | None:
    """The best text after each of the first few prompts, and those of the agent.

    Args:
        world: of the environment.
        config: the environment's arguments.
        greedy: greedy episodes of the agent.
        sampled: sampled ones, after the same prompts.

    Returns: a row for each of up to three prompts, texts with their prompt before them. "prompt"; "best", the text of
    the highest return at τ = 0; "best_return", nats; "best_truncated", whether `max_new_tokens` cuts it; "greedy" and
    "greedy_return"; "sampled", the most frequent of the sampled texts, which came "sampled_times" times among
    "sampled_of". None where the best text is unknown.
    """
    oracle = Oracle.of(world, config)
    if not oracle.is_exact or config.transition != "free":
        return None
    _, first, place = np.unique(greedy.prefixes, axis=0, return_index=True, return_inverse=True)
    chosen = np.sort(first)[:MOST]
    windows = greedy.prefixes[chosen]
    rows = []
    for row, best, value in zip(
        chosen.tolist(), oracle.best_texts(windows), oracle.optimal_return(windows), strict=True
    ):
        same = np.flatnonzero(place.reshape(-1) == place.reshape(-1)[row])
        [(frequent, count)] = Counter(sampled.texts[i] for i in same).most_common(1)
        rows.append(
            {
                "prompt": world.tokenizer.decode(shown_prompt(greedy.prefixes[row])),
                "best": best.text,
                "best_return": float(value),
                "best_truncated": config.ending == "eos" and best.tokens[-1] != Vocabulary.EOS,
                "greedy": greedy.texts[row],
                "greedy_return": float(greedy.returns[row]),
                "sampled": frequent,
                "sampled_times": count,
                "sampled_of": len(same),
            }
        )
    return rows
