"""How good a policy is: on held-out text, and by what it earns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..envs import EnvConfig, Episodes, Oracle, Split, Vocabulary, World, force
from .claims import supported_claims
from .dqn.agent import DQN
from .dqn.collector import right_padded
from .dqn.exploration import choose_actions
from .exact import MAX_TEXTS, exact_score
from .networks import State

_BLOCK = 256  # texts scored at a time
_CHUNK = 1 << 22  # entries of a (positions, V) block that may live in memory at once


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
    agent: DQN, split: Split = "test", limit: int | None = None, temperature: float | None = None
) -> TextScore:
    """Perplexity of the agent's policy and of p* on the documents of `split` (the first `limit`).

    Every token of every document is scored. One that lies beyond `max_new_tokens` is scored in an episode that
    starts later in the document, with the window the environment would show there.
    """
    world = _world(agent)
    tau = agent.temperature if temperature is None else temperature
    documents = world.documents[split]
    count = min(limit or len(documents), len(documents))
    step = agent.env_config.max_new_tokens
    pieces = [(d, s) for d in range(count) for s in range(0, int(documents.lengths[d]) + 1, step)]
    order = sorted(
        pieces,
        key=lambda piece: (
            min(int(documents.lengths[piece[0]]) - piece[1], step) + min(piece[1], agent.env_config.context_length)
        ),
    )
    own, target, scored, unknown, characters = 0.0, 0.0, 0, 0, 0
    for first in range(0, len(order), _BLOCK):
        rows, starts = np.array(order[first : first + _BLOCK], np.int64).T
        forced = force(world, agent.env_config, split, rows, starts, skip_invalid=True)
        target += float(forced.log_probs.sum())
        scored += int(forced.scored.sum())
        unknown += int((forced.actions == Vocabulary.UNK).sum())
        characters += sum(
            len(agent.tokenizer.decode(a[s].tolist())) for a, s in zip(forced.actions, forced.scored, strict=True)
        )
        characters += int(forced.terminated.sum())
        if tau > 0:
            own += _log_likelihood(agent, forced.tokens, forced.prompt_lengths, forced.actions, forced.scored, tau)
    return TextScore(
        perplexity=math.exp(min(-own / scored, 700.0)) if tau > 0 else None,
        target_perplexity=math.exp(-target / scored),
        bits_per_character=-own / math.log(2) / characters if tau > 0 else None,
        target_bits_per_character=-target / math.log(2) / characters,
        tokens=scored,
        unknown_share=unknown / (scored + unknown),
    )


@torch.no_grad()
def _log_likelihood(
    agent: DQN,
    tokens: npt.NDArray[np.int64],
    prompt: npt.NDArray[np.int64],
    actions: npt.NDArray[np.int64],
    scored: npt.NDArray[np.bool_],
    temperature: float,
) -> float:
    """Sum of log π over the scored actions, nats."""
    width = int((tokens != Vocabulary.PAD).sum(1).max())
    agent.network.eval()
    hidden = agent.network(torch.from_numpy(tokens[:, :width]).to(agent.device))
    rows, steps = np.nonzero(scored)
    at = hidden[rows, prompt[rows] - 1 + steps]
    chosen = torch.from_numpy(actions[rows, steps]).to(agent.device)
    total = 0.0
    # Scoring asks what the policy thinks of a text, so no minimum length hides its <eos>.
    rows_at_once = max(1, _CHUNK // agent.network.vocab_size)
    for h, a in zip(at.split(rows_at_once), chosen.split(rows_at_once), strict=True):
        values = agent.network.policy_values(h, agent.rules.valid)
        total += float(torch.log_softmax(values / temperature, -1).gather(1, a[:, None]).cpu().double().sum())
    return total


@dataclass(frozen=True)
class Play:
    """What episodes earned.

    Args:
        returns: (N,) undiscounted sums of rewards, nats.
        kl: (N,) Σ_t KL(π(·|s_t) ‖ p*(·|s_t)) along each episode, nats; its mean estimates KL(π ‖ p*) over whole
            texts without the noise of the actions. Zeros where the policy is not an agent's.
        prefixes: (N, L) observations the episodes began with.
        texts: the finished texts, prompt included.
    """

    returns: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    prefixes: npt.NDArray[np.int64]
    texts: list[str]


@torch.no_grad()
def play(
    policy: DQN | str,
    world: World,
    config: EnvConfig,
    episodes: int,
    seed: int,
    temperature: float = 1.0,
) -> Play:
    """Episodes of a policy: an agent at `temperature` (0 is greedy), "random" (uniform valid) or "target" (p* itself).

    Equal seeds give equal prompts to every policy.
    """
    running = _running(world, config, episodes, seed)
    prefixes = running.observe()
    generator = torch.Generator().manual_seed(seed)
    active, returns, kl = np.ones(episodes, np.bool_), np.zeros(episodes), np.zeros(episodes)
    hidden = torch.empty(0)
    state: State = ()
    if isinstance(policy, DQN):
        policy.network.eval()
        hidden, state = policy.network.encode(*(t.to(policy.device) for t in right_padded(torch.from_numpy(prefixes))))
    while active.any():
        valid = torch.from_numpy(running.action_masks())
        if isinstance(policy, DQN):
            values = policy.network.policy_values(hidden, valid.to(policy.device)).float().cpu()
            if temperature > 0:
                kl += np.where(active, _kl(values, valid, running, temperature), 0.0)
            actions, _ = choose_actions(values, temperature, generator=generator)
            hidden, state = policy.network.step(actions.to(policy.device), state)
        elif policy == "target":
            actions, _ = choose_actions(torch.from_numpy(running.target_log_probs()), 1.0, generator=generator)
        else:
            actions, _ = choose_actions(torch.where(valid, 0.0, -torch.inf), 1.0, generator=generator)
        rewards, terminated, truncated, _ = running.step(actions.numpy(), active)
        returns += rewards
        active = active & ~(terminated | truncated)
    texts = [world.tokenizer.decode(running.tokens(row)) for row in range(episodes)]
    return Play(returns, kl, prefixes, texts)


def _kl(values: torch.Tensor, valid: torch.Tensor, running: Episodes, temperature: float) -> npt.NDArray[np.float64]:
    log_pi = torch.log_softmax(values.masked_fill(~valid, -torch.inf) / temperature, -1).double()
    log_target = torch.from_numpy(running.target_log_probs())
    return torch.where(valid, log_pi.exp() * (log_pi - log_target), 0.0).sum(-1).numpy()


def evaluate(
    agent: DQN,
    *,
    split: Split = "test",
    documents: int | None = None,
    episodes: int = 256,
    seed: int = 0,
    bounds: bool = False,
) -> dict[str, Any]:
    """Everything measured of an agent, as one JSON object.

    Args:
        agent: with an environment.
        split: whose prompts and documents.
        documents: documents scored, the first so many; None for all.
        episodes: texts written, sampled and greedy.
        seed: of the prompts and of the sampling.
        bounds: where the optimum is out of reach, compute bounds instead, which takes minutes on a large corpus.

    Keys: perplexity, target_perplexity, bits_per_character, target_bits_per_character, unknown_share, temperature,
    kl_to_target (nats a text, mean over the agent's own texts), sampled_return, greedy_return, target_return (of
    p*'s own samples), random_return, optimal_return (null where it cannot be computed), optimal_return_bounds (lower
    and upper, where asked for), normalized_score ((greedy - random) / (optimal - random)), env_steps,
    transitions_trained, wall_seconds, supports (which claims this setting supports). What is estimated from sampled
    texts has its 95 % confidence interval beside it, as …_ci. `exact` holds `ExactScore`, without sampling, where
    every text can be enumerated, and is null elsewhere.
    """
    world = _world(agent)
    config = dataclasses.replace(agent.env_config, split=split)
    score = score_text(agent, split, documents)
    references = reference_returns(world, config, episodes, seed)
    sampled = play(agent, world, config, episodes, seed, agent.temperature)
    greedy = play(agent, world, config, episodes, seed, 0.0)
    result = {
        **dataclasses.asdict(score),
        "temperature": agent.temperature,
        "kl_to_target": float(sampled.kl.mean()) if agent.temperature > 0 else None,
        "kl_to_target_ci": _interval(sampled.kl) if agent.temperature > 0 else None,
        "sampled_return": float(sampled.returns.mean()),
        "sampled_return_ci": _interval(sampled.returns),
        "greedy_return": float(greedy.returns.mean()),
        "greedy_return_ci": _interval(greedy.returns),
        **references,
        "optimal_return_bounds": None,
        "normalized_score": None,
        "exact": _exact(agent),
        "env_steps": agent.env_steps,
        "transitions_trained": agent.learner.transitions_trained,
        "wall_seconds": agent.learning_seconds,
        "supports": supported_claims(config, agent.temperature, agent.config.gamma),
    }
    random, best = references["random_return"], references["optimal_return"]
    if random is not None and best is not None:
        result["normalized_score"] = (result["greedy_return"] - random) / (best - random)
    elif bounds:
        lower, upper = Oracle(world, config).bounds(greedy.prefixes)
        result["optimal_return_bounds"] = [float(lower.mean()), float(upper.mean())]
    return result


def _interval(values: npt.NDArray[np.float64]) -> list[float]:
    """95 % confidence interval of the mean of (N,) independent values: mean ± 1.96 standard errors."""
    mean, count = float(values.mean()), len(values)
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return [mean - half, mean + half]


def _exact(agent: DQN) -> dict[str, float] | None:
    """`exact_score` where there is one prompt and few enough texts."""
    config, words = agent.env_config, int(agent.rules.valid.sum())
    if config.prompt_length != (0, 0) or words**config.max_new_tokens > MAX_TEXTS or config.transition != "free":
        return None
    if not Oracle(_world(agent), config).is_exact:
        return None
    return dataclasses.asdict(exact_score(agent))


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


def _world(agent: DQN) -> World:
    if agent.world is None:
        raise ValueError("this agent has no environment to be evaluated in; load it with DQN.load(path, env=…)")
    return agent.world
