"""References of a race: trivial policies, p*, beam search under p*, and the exact optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

from ....envs import EnvConfig, Oracle, World
from ....envs.bounds import beam_search
from ...baselines.unigram import Unigram
from ...evaluation.evaluate import score_text
from ...evaluation.playing import started
from ...evaluation.scores import Scale
from .config import RaceConfig

TITLES = {
    "random": "random",
    "constant": "best constant token",
    "constant_eos": "best constant token and <eos>",
    "unigram_sampled": "unigram, sampled",
    "unigram_greedy": "unigram, greedy",
    "same_text": "same text for every prompt",
}


def references(config: RaceConfig) -> dict[str, Any]:
    """Exact mean return, regret and score of each reference on the prompts of the race, means over its worlds.

    Returns: {"rows": {name: {"return": nats, "regret": nats, "score": …, "perplexity": …}}}, soft returns where the
    race has a temperature. "perplexity" is there for unigram frequencies and p* alone; values are None if unknown.
    """
    found = [_of_world(config, dataclasses.replace(config.env, target_seed=seed)) for seed in config.raced_worlds]
    names = dict.fromkeys(name for rows in found for name in rows)
    return {"rows": {name: _mean([rows.get(name, {}) for rows in found]) for name in names}}


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Means of the figures of several worlds; None where one of them lacks it."""
    means: dict[str, float | None] = {}
    for figure in dict.fromkeys(figure for row in rows for figure in row):
        values = [row.get(figure) for row in rows]
        known = [value for value in values if value is not None]
        means[figure] = sum(known) / len(known) if len(known) == len(values) else None
    return means


def _of_world(config: RaceConfig, environment: EnvConfig) -> dict[str, dict[str, float | None]]:
    world, env, tau = World.of(environment), dataclasses.replace(environment, split="test"), config.temperature
    prefixes = started(world, env, config.episodes, 0).observe()
    scale, oracle = Scale.of(world, env, prefixes, tau), Oracle.of(world, env)
    perplexity = score_text(Unigram(environment), "test", config.documents)
    found: dict[str, float | None] = {TITLES[name]: value for name, value in scale.trivial.items()}
    if oracle.is_exact and env.transition == "free":
        found["p* sampled"] = float(oracle.expected_return("target", prefixes, tau).mean())
    elif scale.optimal is not None and tau == env.log_prob_weight:
        found["p* sampled"] = 0.0
    if oracle.why_no_states is None and env.transition == "free" and env.pays_log_likelihood:
        for width in (1, config.beams):
            texts = beam_search(world, env, prefixes, width)
            found[f"beam search under p*, width {width}"] = float(texts.log_probs.mean())
    found["optimum"] = scale.optimal
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in found.items():
        regret = scale.regret(value)
        rows[name] = {"return": value, "regret": regret, "score": scale.score(regret)}
    for name, shown in (
        ("unigram, sampled", perplexity.perplexity),
        ("p* sampled", perplexity.target_perplexity),
    ):
        rows.setdefault(name, {"return": None, "regret": None, "score": None})["perplexity"] = shown
    return rows
