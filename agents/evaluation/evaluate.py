"""Evaluation of a policy: perplexity on held-out text, and returns of its episodes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, Oracle, Split, Vocabulary, World, force
from ...envs.arguments import whole_number
from ..acting.choosing import checked_temperature
from ..protocol import Agent, BaseAgent, complete
from .best_texts import texts_beside
from .claims import supported_claims
from .exact import MAX_TEXTS, exact_score
from .playing import Play, play, short_of_optimum, started
from .policies import log_likelihood, world_of
from .scores import Scale, interval, normalized_score, why_unknown
from .tasks import task_figures

_BLOCK = 256  # texts per batch


@dataclass(frozen=True)
class TextScore:
    """Scores on held-out text.

    Args:
        perplexity: exp of the mean of -log π(token); None at temperature 0, where π is deterministic.
        target_perplexity: the same for p*, on the same tokens.
        bits_per_character: sum of -log2 π divided by the number of characters; `<eos>` counts as one.
        target_bits_per_character: the same for p*.
        tokens: tokens scored, `<eos>` included.
        unknown_share: fraction of `<unk>`, which no action writes; these tokens are not scored.
    """

    perplexity: float | None
    target_perplexity: float
    bits_per_character: float | None
    target_bits_per_character: float
    tokens: int
    unknown_share: float


def score_text(
    agent: Agent,
    split: Split = "test",
    limit: int | None = None,
    temperature: float | None = None,
    env: EnvConfig | None = None,
) -> TextScore:
    """Perplexity of the agent's policy and of p* on the documents of `split` (the first `limit`).

    Every token of every document is scored. Tokens beyond `max_new_tokens` are scored in an episode that starts later
    in the document, with the environment's window as context. For tasks of pairs only targets are scored, up to
    `max_new_tokens`, because later windows would not contain the source. `temperature` is that of the policy, the
    agent's own if None. `env` is required for an agent that does not know its environment.
    """
    agent = complete(agent, env)
    world, config = world_of(agent, env)
    tau = agent.temperature if temperature is None else checked_temperature(temperature)
    documents = world.documents[split]
    count = len(documents) if limit is None else min(whole_number("documents", limit, 1), len(documents))
    step = config.max_new_tokens
    if config.has_pairs or config.form:  # the policy never writes these prompts; those of others are scored too
        pieces = list(enumerate(documents.shortest_prompt[:count].tolist()))
    else:
        pieces = [(d, s) for d in range(count) for s in range(0, int(documents.lengths[d]) + 1, step)]
    order = sorted(
        pieces,
        key=lambda piece: min(int(documents.lengths[piece[0]]) - piece[1], step) + min(piece[1], config.context_length),
    )
    own, target, scored, unknown, characters = 0.0, 0.0, 0, 0, 0
    for first in range(0, len(order), _BLOCK):
        rows, starts = np.array(order[first : first + _BLOCK], np.int64).T
        forced = force(world, config, split, rows, starts, skip_invalid=True)
        target += float(forced.log_probs.sum())
        scored += int(forced.scored.sum())
        unknown += int((forced.actions == Vocabulary.UNK).sum())
        characters += sum(
            len(world.tokenizer.decode(a[s].tolist())) for a, s in zip(forced.actions, forced.scored, strict=True)
        )
        characters += int(forced.terminated.sum())
        if tau > 0:
            own += log_likelihood(agent, config, forced, tau)
    if not scored:
        raise ValueError(
            f"the {unknown} tokens of the {split} documents are all outside the vocabulary; use more training "
            "documents, a smaller min_count or a larger max_vocab_size"
        )
    possible = tau > 0 and own > -math.inf
    return TextScore(
        perplexity=math.exp(min(-own / scored, 700.0)) if possible else None,
        target_perplexity=math.exp(-target / scored),
        bits_per_character=-own / math.log(2) / characters if possible else None,
        target_bits_per_character=-target / math.log(2) / characters,
        tokens=scored,
        unknown_share=unknown / (scored + unknown),
    )


def check_counts(documents: int | None, episodes: int, seed: int) -> None:
    """ValueError for numbers that `evaluate` cannot work with."""
    if documents is not None:
        whole_number("documents", documents, 1)
    whole_number("episodes", episodes, 1)
    whole_number("seed", seed, 0)


def evaluate(
    agent: Agent,
    *,
    env: EnvConfig | None = None,
    split: Split = "test",
    documents: int | None = None,
    episodes: int = 256,
    seed: int = 0,
    temperature: float | None = None,
    bounds: bool = False,
) -> dict[str, Any]:
    """Evaluate an agent; returns all results as one JSON object.

    Args:
        agent: of any algorithm.
        env: the environment's arguments, required for an agent that does not know its environment.
        split: of the prompts and documents.
        documents: score only this many documents, the first ones; None for all.
        episodes: number of sampled and of greedy episodes.
        seed: of the prompts and of the sampling.
        temperature: τ of the objective E[Σ r] + τ·entropy; None for the agent's own, 0 for an agent that has none.
        bounds: compute bounds of the optimal return if it is not known exactly; minutes on a large corpus.

    Keys: perplexity, target_perplexity, bits_per_character, target_bits_per_character, unknown_share; temperature, that
    of the objective. `regret`, nats a text: at τ = 0 the return of the best text minus that of the greedy one; at τ > 0
    the soft regret τ·KL(π ‖ π*) over whole texts, estimated from sampled ones, exact where all texts can be listed.
    `trivial_regret` is that of the best trivial policy, `trivial` its name, and `normalized_score` is
    1 - regret/trivial_regret. `greedy_regret` and `greedy_score` are the same figures at τ = 0. All are null where the
    optimum is unknown, and `no_optimum` says why it is at τ. `trivial_regret_ci` is null where that is exact.

    kl_to_target (KL(π ‖ p*), nats a text), sampled_return, greedy_return, target_return (of samples of p*),
    random_return, constant_return (the best constant token, with or without `<eos>` after it), trivial_returns (see
    `trivial_returns`; here on the prompts that are played), optimal_return (null if it cannot be computed),
    optimal_return_bounds (lower and upper, with `bounds`) and greedy_score_bounds (the score within these), env_steps,
    transitions_trained, wall_seconds, decisions and tokens_written (means of the greedy episodes), supports (which
    claims this setting supports). Estimates from sampled texts have a 95 % confidence interval under the key …_ci.
    `exact` is an `ExactScore` if all texts can be enumerated, else null. `texts` has the best text after the first few
    prompts, the agent's greedy one and its most frequent one, see `texts_beside`; null where the best is unknown.

    The metrics of the task are those of `task_figures`: distinct_1, distinct_2, distinct_3, self_bleu and repetition of
    sampled texts; or of greedy texts with the targets of `split` as references exact_match and token_f1 (answers), bleu
    and chrf (translations), accuracy, macro_f1 and confusion (labels).
    """
    temperature = None if temperature is None else checked_temperature(temperature)
    check_counts(documents, episodes, seed)
    agent = complete(agent, env)
    world, config = world_of(agent, env)
    config = dataclasses.replace(config, split=split)
    acting = agent.temperature
    tau = temperature if temperature is not None else acting if agent.has_temperature else 0.0
    score = score_text(agent, split, documents, env=env)
    scale = Scale.of(world, config, started(world, config, episodes, seed).observe())
    references = reference_returns(world, config, episodes, seed, scale)
    sampled = play(agent, world, config, episodes, seed, acting, tau)
    greedy = play(agent, world, config, episodes, seed, 0.0)
    has_kl = acting > 0 and bool(np.isfinite(sampled.kl).all())
    figures = task_figures(agent, world, config, split, documents, seed, sampled.written)
    exact = _exact(agent, world, config, tau)
    best = scale.optimal
    result = {
        **dataclasses.asdict(score),
        **figures,
        "temperature": tau,
        **_regrets(world, config, sampled, greedy, scale, tau, exact),
        "kl_to_target": float(sampled.kl.mean()) if has_kl else None,
        "kl_to_target_ci": interval(sampled.kl) if has_kl else None,
        "sampled_return": float(sampled.returns.mean()),
        "sampled_return_ci": interval(sampled.returns),
        "greedy_return": float(greedy.returns.mean()),
        "greedy_return_ci": interval(greedy.returns),
        **references,
        "trivial_returns": scale.trivial,
        "no_optimum": why_unknown(world, config, tau),
        "optimal_return_bounds": None,
        "greedy_score_bounds": None,
        "exact": exact,
        "decisions": float(greedy.decisions.mean()),
        "tokens_written": float(greedy.tokens.mean()),
        "env_steps": agent.env_steps,
        "transitions_trained": agent.transitions_trained,
        "wall_seconds": agent.learning_seconds or None,
        "supports": supported_claims(config, tau, agent.gamma),
        "texts": texts_beside(world, config, greedy, sampled),
    }
    if bounds and best is None:
        lower, upper = (float(bound.mean()) for bound in Oracle.of(world, config).bounds(greedy.prefixes))
        result["optimal_return_bounds"] = [lower, upper]
        reached = float(greedy.returns.mean())
        # The optimum is no less than what was reached, so the score is at most 1.
        found = [normalized_score(reached, scale.trivial_return, best) for best in (upper, max(lower, reached))]
        result["greedy_score_bounds"] = None if None in found else found
    return result


def _regrets(
    world: World, config: EnvConfig, sampled: Play, greedy: Play, scale: Scale, tau: float, exact: dict[str, Any] | None
) -> dict[str, Any]:
    """The figures that stand for an agent: regret and score at its objective, and of its greedy text."""
    at_zero = regret_figures(scale, short_of_optimum(greedy, world, config))
    if tau > 0.0:
        soft = Scale.of(world, config, greedy.prefixes, tau)
        found = regret_figures(soft, sampled.regret)
        if exact is not None:
            value = exact["soft_regret"]
            found.update(regret=value, regret_ci=[value, value], normalized_score=soft.score(value))
    else:
        found = dict(at_zero)
    return {**found, "greedy_regret": at_zero["regret"], "greedy_score": at_zero["normalized_score"]}


def regret_figures(scale: Scale, regrets: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The mean of (N,) regrets of texts, nan if unknown, beside that of the best trivial policy, and the score."""
    known = not np.isnan(regrets).any()
    regret = float(regrets.mean()) if known else None
    return {
        "regret": regret,
        "regret_ci": interval(regrets) if known else None,
        "trivial_regret": scale.trivial_regret,
        "trivial_regret_ci": scale.trivial_regret_ci,
        "trivial": scale.best,
        "normalized_score": scale.score(regret),
    }


def _exact(agent: BaseAgent, world: World, config: EnvConfig, objective: float) -> dict[str, float] | None:
    """`exact_score` if there is only one prompt and few enough texts, else None."""
    words = int(world.valid.sum())
    if config.prompt_length != (0, 0) or words**config.max_new_tokens > MAX_TEXTS or config.transition != "free":
        return None
    if config.has_pairs or not config.pays_log_likelihood:
        return None
    return dataclasses.asdict(exact_score(agent, temperature=agent.temperature, env=config, objective=objective))


def reference_returns(
    world: World, config: EnvConfig, episodes: int, seed: int, scale: Scale | None = None
) -> dict[str, float | None]:
    """Mean returns of the uniform policy, the best constant text, p* and the optimum, on the same prompts as `play`.

    They are exact for these prompts if the oracle is exact. Otherwise those of the uniform policy and of p* are
    sampled, and the others are None where they are unknown. `scale` is that of these prompts at τ = 0, if it is known
    already.
    """
    prefixes = started(world, config, episodes, seed).observe()
    oracle, scale = Oracle.of(world, config), scale or Scale.of(world, config, prefixes)
    if oracle.is_exact and config.transition == "free":
        returns = {
            "random_return": oracle.expected_return("random", prefixes),
            "target_return": oracle.expected_return("target", prefixes),
            "optimal_return": oracle.optimal_return(prefixes),
        }
    else:
        returns = {f"{policy}_return": play(policy, world, config, episodes, seed).returns
                   for policy in ("random", "target")}  # fmt: skip
    means = {name: float(values.mean()) for name, values in returns.items()}
    return {"optimal_return": None, "constant_return": scale.constant_return, **means}
