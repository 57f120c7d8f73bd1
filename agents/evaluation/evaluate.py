"""Evaluation of a policy: perplexity on held-out text, and returns of its episodes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, Episodes, Oracle, Split, Vocabulary, World, force
from ..acting.choosing import choose_actions
from ..protocol import Agent, BaseAgent, complete
from .claims import supported_claims
from .exact import MAX_TEXTS, exact_score
from .policies import acting_in, log_likelihood, world_of
from .scores import normalized_score
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
    tau = agent.temperature if temperature is None else temperature
    documents = world.documents[split]
    count = min(limit or len(documents), len(documents))
    step = config.max_new_tokens
    if config.has_pairs:  # the policy never writes sources; the prompts of other documents are scored too
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


@dataclass(frozen=True)
class Play:
    """Results of N episodes.

    Args:
        returns: (N,) undiscounted sums of rewards, nats.
        kl: (N,) Σ_t KL(π(·|s_t) ‖ p*(·|s_t)) along each episode, nats. Its mean estimates KL(π ‖ p*) over whole texts,
            with less variance than log π - log p* of the sampled actions. Zeros for policies that are not agents and
            for greedy ones, nan for agents with phrases.
        prefixes: (N, L) first observations of the episodes.
        texts: the texts, prompt included.
        written: ids of the new tokens, without special tokens.
        decisions: (N,) actions chosen in each episode; with phrases fewer than tokens.
        tokens: (N,) new tokens in each episode.
    """

    returns: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    prefixes: npt.NDArray[np.int64]
    texts: list[str]
    written: list[list[int]]
    decisions: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]


@torch.no_grad()
def play(
    policy: Agent | str,
    world: World,
    config: EnvConfig,
    episodes: int,
    seed: int,
    temperature: float = 1.0,
) -> Play:
    """Run episodes of a policy: an agent at `temperature` (0: greedy), "random" (uniform) or "target" (p* itself).

    The same seed gives all policies the same prompts.

    Raises ValueError for a temperature that the agent does not support.
    """
    running = _running(world, config, episodes, seed)
    prefixes = running.observe()
    generator = torch.Generator().manual_seed(seed)
    active, returns, kl = np.ones(episodes, np.bool_), np.zeros(episodes), np.zeros(episodes)
    policy = policy if isinstance(policy, str) else complete(policy, config)
    tau = 1.0 if isinstance(policy, str) else policy.policy_temperature(temperature)
    reader = acting_in(policy, running, config, tau == 0.0)
    measures_kl = not isinstance(policy, str) and tau > 0.0 and reader.by_token
    decisions = np.zeros(episodes, np.int64)
    while active.any():
        valid = torch.from_numpy(running.action_masks())
        values = reader.values(valid).cpu()
        actions, _ = choose_actions(values, tau, generator=generator)
        tokens, decided = reader.tokens(actions)
        decisions += active & decided.numpy()
        if measures_kl:
            kl += np.where(active, _kl(torch.log_softmax(values / tau, -1).double(), running), 0.0)
        rewards, terminated, truncated, _ = running.step(tokens.numpy(), active)
        returns += rewards
        active = active & ~(terminated | truncated)
        if active.any():
            reader.step(tokens)
    ids, prompts = [running.tokens(row) for row in range(episodes)], (prefixes != Vocabulary.PAD).sum(1)
    written = [[i for i in row[start:] if i >= Vocabulary.FIRST_WORD] for row, start in zip(ids, prompts, strict=True)]
    texts = [world.tokenizer.decode(row) for row in ids]
    if tau > 0.0 and not reader.by_token:
        kl[:] = np.nan  # log π of tokens would need a sum over all segmentations into phrases
    return Play(returns, kl, prefixes, texts, written, decisions, np.asarray(running.written))


def _kl(log_pi: torch.Tensor, running: Episodes) -> npt.NDArray[np.float64]:
    log_target = torch.from_numpy(running.target_log_probs())
    return torch.where(log_pi > -torch.inf, log_pi.exp() * (log_pi - log_target), 0.0).sum(-1).numpy()


def evaluate(
    agent: Agent,
    *,
    env: EnvConfig | None = None,
    split: Split = "test",
    documents: int | None = None,
    episodes: int = 256,
    seed: int = 0,
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
        bounds: compute bounds of the optimal return if it is not known exactly; minutes on a large corpus.

    Keys: perplexity, target_perplexity, bits_per_character, target_bits_per_character, unknown_share, temperature,
    kl_to_target (nats per text, mean over the agent's samples), sampled_return, greedy_return, target_return (of
    samples of p*), random_return, optimal_return (null if it cannot be computed), optimal_return_bounds (lower and
    upper, with `bounds`), normalized_score ((greedy - random) / (optimal - random)), env_steps, transitions_trained,
    wall_seconds, decisions and tokens_written (means of the greedy episodes), supports (which claims this setting
    supports). Estimates from sampled texts have a 95 % confidence interval under the key …_ci. `exact` is an
    `ExactScore` if all texts can be enumerated, else null.

    The metrics of the task are those of `task_figures`: distinct_1, distinct_2, distinct_3, self_bleu and repetition of
    sampled texts; or of greedy texts with the targets of `split` as references exact_match and token_f1 (answers), bleu
    and chrf (translations), accuracy, macro_f1 and confusion (labels).
    """
    agent = complete(agent, env)
    world, config = world_of(agent, env)
    config = dataclasses.replace(config, split=split)
    tau = agent.temperature
    score = score_text(agent, split, documents, env=env)
    references = reference_returns(world, config, episodes, seed)
    sampled = play(agent, world, config, episodes, seed, tau)
    greedy = play(agent, world, config, episodes, seed, 0.0)
    has_kl = tau > 0 and bool(np.isfinite(sampled.kl).all())
    figures = task_figures(agent, world, config, split, documents, seed, sampled.written)
    result = {
        **dataclasses.asdict(score),
        **figures,
        "temperature": tau if agent.has_temperature else None,
        "kl_to_target": float(sampled.kl.mean()) if has_kl else None,
        "kl_to_target_ci": _interval(sampled.kl) if has_kl else None,
        "sampled_return": float(sampled.returns.mean()),
        "sampled_return_ci": _interval(sampled.returns),
        "greedy_return": float(greedy.returns.mean()),
        "greedy_return_ci": _interval(greedy.returns),
        **references,
        "optimal_return_bounds": None,
        "normalized_score": None,
        "exact": _exact(agent, world, config),
        "decisions": float(greedy.decisions.mean()),
        "tokens_written": float(greedy.tokens.mean()),
        "env_steps": agent.env_steps,
        "transitions_trained": agent.transitions_trained,
        "wall_seconds": agent.learning_seconds or None,
        "supports": supported_claims(config, tau if agent.has_temperature else 0.0, agent.gamma),
    }
    random, best = references["random_return"], references["optimal_return"]
    result["normalized_score"] = normalized_score(float(greedy.returns.mean()), random, best)
    if bounds and best is None:
        lower, upper = Oracle(world, config).bounds(greedy.prefixes)
        result["optimal_return_bounds"] = [float(lower.mean()), float(upper.mean())]
    return result


def _interval(values: npt.NDArray[np.float64]) -> list[float]:
    """95 % confidence interval of the mean of (N,) independent values: mean ± 1.96 standard errors."""
    mean, count = float(values.mean()), len(values)
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return [mean - half, mean + half]


def _exact(agent: BaseAgent, world: World, config: EnvConfig) -> dict[str, float] | None:
    """`exact_score` if there is only one prompt and few enough texts, else None."""
    words = int(world.valid.sum())
    if config.prompt_length != (0, 0) or words**config.max_new_tokens > MAX_TEXTS or config.transition != "free":
        return None
    if config.has_pairs or not config.pays_log_likelihood:
        return None
    if not Oracle(world, config).is_exact:
        return None
    return dataclasses.asdict(exact_score(agent, temperature=agent.temperature, env=config))


def reference_returns(world: World, config: EnvConfig, episodes: int, seed: int) -> dict[str, float | None]:
    """Mean returns of the uniform policy, of p* and of the optimum, on the same prompts as `play`.

    They are exact for these prompts if the oracle is exact. Otherwise the first two are sampled, the optimum is None.
    """
    prefixes = _running(world, config, episodes, seed).observe()
    oracle = Oracle(world, config)
    if oracle.is_exact and config.transition == "free":
        returns = {
            "random_return": oracle.expected_return("random", prefixes),
            "target_return": oracle.expected_return("target", prefixes),
            "optimal_return": oracle.optimal_return(prefixes),
        }
    else:
        returns = {f"{policy}_return": play(policy, world, config, episodes, seed).returns
                   for policy in ("random", "target")}  # fmt: skip
    return {"optimal_return": None, **{name: float(values.mean()) for name, values in returns.items()}}


def _running(world: World, config: EnvConfig, episodes: int, seed: int) -> Episodes:
    """New episodes; the same seed gives the same prompts."""
    running = Episodes(world, config, episodes)
    running.seed_all([seed + i for i in range(episodes)])
    running.start(np.arange(episodes))
    return running
