"""How good a policy is: on held-out text, and by what it earns."""

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

_BLOCK = 256  # texts scored at a time


@dataclass(frozen=True)
class TextScore:
    """How well held-out text is predicted.

    Args:
        perplexity: exp of the mean of -log π(token), nats; None at temperature 0, where π is not a distribution
            over texts.
        target_perplexity: the same for p* on the same tokens.
        bits_per_character: total of -log2 π over the characters of the text, an `<eos>` counted as one.
        target_bits_per_character: the same for p*.
        tokens: tokens scored, `<eos>` included.
        unknown_share: share of tokens that no action can write (`<unk>`), left out of all figures.
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

    Every token of every document is scored. One that lies beyond `max_new_tokens` is scored in an episode that starts
    later in the document, with the window the environment would show there. In a task of pairs it is the target, up to
    `max_new_tokens`: later windows would have lost the source. `temperature` is that of the policy, the agent's own if
    None; `env` is needed for an agent that does not know its environment.
    """
    agent = complete(agent, env)
    world, config = world_of(agent, env)
    tau = agent.temperature if temperature is None else temperature
    documents = world.documents[split]
    count = min(limit or len(documents), len(documents))
    step = config.max_new_tokens
    if config.has_pairs:  # a source is given, never written; of any other document the prompt is text like the rest
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
            f"none of the {unknown} tokens of the {split} documents can be written: the vocabulary knows none of them; "
            "give more training documents, a smaller min_count or a larger max_vocab_size"
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
    """What episodes earned.

    Args:
        returns: (N,) undiscounted sums of rewards, nats.
        kl: (N,) Σ_t KL(π(·|s_t) ‖ p*(·|s_t)) along each episode, nats; its mean estimates KL(π ‖ p*) over whole
            texts without the noise of the actions. Zeros where the policy is not an agent's, nan where it
            writes phrases.
        prefixes: (N, L) observations the episodes began with.
        texts: the finished texts, prompt included.
        written: ids of what was written, special tokens left out.
        decisions: (N,) actions chosen in each episode; fewer than tokens where some write phrases.
        tokens: (N,) tokens written in each episode.
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
    """Episodes of a policy: an agent at `temperature` (0 is greedy), "random" (uniform valid) or "target" (p* itself).

    Equal seeds give equal prompts to every policy.

    Raises ValueError for a temperature that the agent's policy does not have.
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
    first = len(Vocabulary.SPECIAL_TOKENS)
    written = [[i for i in row[start:] if i >= first] for row, start in zip(ids, prompts, strict=True)]
    texts = [world.tokenizer.decode(row) for row in ids]
    if tau > 0.0 and not reader.by_token:
        kl[:] = np.nan  # the policy over tokens is a sum over all ways to write them
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
    """Everything measured of an agent, as one JSON object.

    Args:
        agent: of any algorithm.
        env: the environment's arguments, for an agent that does not know its own.
        split: whose prompts and documents.
        documents: documents scored, the first so many; None for all.
        episodes: texts written, sampled and greedy.
        seed: of the prompts and of the sampling.
        bounds: where the optimum is out of reach, compute bounds instead, which takes minutes on a large corpus.

    Keys: perplexity, target_perplexity, bits_per_character, target_bits_per_character, unknown_share, temperature,
    kl_to_target (nats a text, mean over the agent's own texts), sampled_return, greedy_return, target_return (of
    p*'s own samples), random_return, optimal_return (null where it cannot be computed), optimal_return_bounds (lower
    and upper, where asked for), normalized_score ((greedy - random) / (optimal - random)), env_steps,
    transitions_trained, wall_seconds, decisions and tokens_written (means of the greedy episodes), supports (which
    claims this setting supports). What is estimated from sampled texts has its 95 % confidence interval beside it, as
    …_ci. `exact` holds `ExactScore`, without sampling, where every text can be enumerated, and is null elsewhere.

    What was written is measured by the task (`task_figures`): distinct_1, distinct_2, distinct_3, self_bleu and
    repetition of sampled texts; of greedy ones, against the targets of `split`, exact_match and token_f1 (answers),
    bleu and chrf (translations), accuracy, macro_f1 and confusion (labels).
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
        "wall_seconds": agent.learning_seconds,
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
    """`exact_score` where there is one prompt and few enough texts."""
    words = int(world.valid.sum())
    if config.prompt_length != (0, 0) or words**config.max_new_tokens > MAX_TEXTS or config.transition != "free":
        return None
    if config.has_pairs or not config.pays_log_likelihood:
        return None
    if not Oracle(world, config).is_exact:
        return None
    return dataclasses.asdict(exact_score(agent, temperature=agent.temperature, env=config))


def reference_returns(world: World, config: EnvConfig, episodes: int, seed: int) -> dict[str, float | None]:
    """What needs no agent: the returns of a random policy, of p* and of the best there is, on equal prompts.

    Exact for the prompts drawn where the oracle is; the first two are sampled and the best is None where it is not.
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
    """Episodes that have just begun; equal seeds give equal prompts."""
    running = Episodes(world, config, episodes)
    running.seed_all([seed + i for i in range(episodes)])
    running.start(np.arange(episodes))
    return running
