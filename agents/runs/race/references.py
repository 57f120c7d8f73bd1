"""References of a race: the uniform policy, unigram frequencies, p*, beam search under p*, and the exact optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

from ....envs import World
from ....envs.bounds import beam_search
from ...baselines.unigram import Unigram
from ...evaluation.evaluate import play, reference_returns, score_text
from ...evaluation.scores import normalized_score
from .config import RaceConfig


def references(config: RaceConfig) -> dict[str, Any]:
    """Mean return, score and perplexity of each reference on the prompts of the race.

    Returns: {"rows": {name: {"return": nats, "score": …, "kl": nats per text, "perplexity": …}}}. The score is
    (return - random)/(optimum - random), as for the entries. "kl" and "perplexity" are missing for some references, and
    values are None if undefined.
    """
    world, env = World.of(config.env), dataclasses.replace(config.env, split="valid")
    known = reference_returns(world, env, config.episodes, 0)
    unigram = Unigram(config.env)
    written = play(unigram, world, env, config.episodes, 0)
    greedy = play(unigram, world, env, config.episodes, 0, temperature=0.0)
    score = score_text(unigram, "test", config.documents)
    rows: dict[str, dict[str, Any]] = {
        "random": {"return": known["random_return"]},
        "unigram, sampled": {
            "return": float(written.returns.mean()), "kl": float(written.kl.mean()), "perplexity": score.perplexity,
        },
        "p* sampled": {"return": known["target_return"], "kl": 0.0, "perplexity": score.target_perplexity},
        "most likely text": {"return": known["optimal_return"]},
    }  # fmt: skip
    if world.target.tracks_states and env.transition == "free" and env.pays_log_likelihood:
        for width in (1, config.beams):
            found = beam_search(world, env, greedy.prefixes, width)
            rows[f"beam search under p*, width {width}"] = {"return": float(found.log_probs.mean())}
    for row in rows.values():
        row["score"] = normalized_score(row["return"], known["random_return"], known["optimal_return"])
    return {"rows": rows}
