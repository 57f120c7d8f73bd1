"""Episodes of a policy: what they earn, and how far from the optimal policy they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, Episodes, Oracle, Vocabulary, World
from ..acting.choosing import choose_actions, over_temperature
from ..protocol import Agent, complete
from .policies import acting_in
from .scores import is_p_star


@dataclass(frozen=True)
class Play:
    """Results of N episodes.

    Args:
        returns: (N,) undiscounted sums of rewards, nats.
        kl: (N,) Σ_t KL(π(·|s_t) ‖ p*(·|s_t)) along each episode, nats. Its mean estimates KL(π ‖ p*) over whole texts
            without bias, with less variance than log π - log p* of the sampled actions. Zeros for policies that are not
            agents and for greedy ones, nan for agents with phrases.
        regret: (N,) Σ_t τ·KL(π(·|s_t) ‖ π*(·|s_t)) along each episode, nats, with the optimal policy π* at the
            temperature τ that was asked for. Its mean estimates the soft regret τ·KL(π ‖ π*) over whole texts without
            bias, and every entry is 0 for π* itself. nan where none was asked for or π* is unknown, and for agents with
            phrases.
        prefixes: (N, L) first observations of the episodes.
        texts: the texts, prompt included.
        written: ids of the new tokens, without special tokens.
        decisions: (N,) actions chosen in each episode; with phrases fewer than tokens.
        tokens: (N,) new tokens in each episode.
    """

    returns: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    regret: npt.NDArray[np.float64]
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
    objective: float = 0.0,
) -> Play:
    """Run episodes of a policy.

    Args:
        policy: an agent, "random" (uniform) or "target" (p* itself).
        world: of the environment.
        config: the environment's arguments.
        episodes: N.
        seed: of the prompts, the same for all policies, and of the actions.
        temperature: τ that an agent or p* acts at; 0 is greedy. "random" has none.
        objective: τ > 0 of the soft regret to measure; 0 for none.

    Raises ValueError for a temperature that the agent does not support.
    """
    running = started(world, config, episodes, seed)
    prefixes = running.observe()
    generator = torch.Generator().manual_seed(seed)
    active = np.ones(episodes, np.bool_)
    returns, kl, regret = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes)
    policy = policy if isinstance(policy, str) else complete(policy, config)
    if isinstance(policy, str):
        tau = temperature if policy == "target" else 1.0
    else:
        tau = policy.policy_temperature(temperature)
    reader = acting_in(policy, running, config, tau == 0.0)
    optimal = OptimalPolicy(world, config, objective) if reader.by_token else None
    measures_kl = not isinstance(policy, str) and tau > 0.0 and reader.by_token
    decisions = np.zeros(episodes, np.int64)
    while active.any():
        valid = torch.from_numpy(running.action_masks())
        values = reader.values(valid).cpu()
        actions, _ = choose_actions(values, tau, generator=generator)
        tokens, decided = reader.tokens(actions)
        decisions += active & decided.numpy()
        if measures_kl or (optimal is not None and optimal.known):
            log_pi = log_policy_of(values, tau)
            if measures_kl:
                kl += np.where(active, _divergence(log_pi, running.target_log_probs()), 0.0)
            if optimal is not None and optimal.known:
                regret += np.where(active, objective * _divergence(log_pi, optimal.log_probs(running)), 0.0)
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
    if optimal is None or not optimal.known:
        regret[:] = np.nan
    return Play(returns, kl, regret, prefixes, texts, written, decisions, np.asarray(running.written))


def short_of_optimum(played: Play, world: World, config: EnvConfig) -> npt.NDArray[np.float64]:
    """(N,) return of the best text after each prompt minus that of the text that was written, nats; nan if unknown."""
    oracle = Oracle.of(world, config)
    if not oracle.is_exact or config.transition != "free":
        return np.full(len(played.returns), np.nan)
    return oracle.optimal_return(played.prefixes) - played.returns


class OptimalPolicy:
    """π* ∝ exp(Q*_τ/τ) of an environment as it is, in running episodes.

    Args:
        world: of the environment.
        config: the environment's arguments.
        temperature: τ > 0; at 0 nothing is known.
    """

    def __init__(self, world: World, config: EnvConfig, temperature: float) -> None:
        self._oracle, self._temperature = Oracle.of(world, config), temperature
        self._is_p_star = is_p_star(config, temperature)
        solvable = self._oracle.is_exact and config.transition == "free"
        self.known = temperature > 0.0 and (self._is_p_star or solvable)

    def log_probs(self, running: Episodes) -> npt.NDArray[np.float64]:
        """(N, V) log π*(· | s) in the present states, nats."""
        if self._is_p_star:
            return running.target_log_probs()
        q_values = self._oracle.optimal_q(
            running.observe(), running.written, temperature=self._temperature, horizon="episode"
        )
        scaled = (q_values - q_values.max(1, keepdims=True)) / self._temperature
        log_probs: npt.NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        return log_probs


def log_policy_of(values: Tensor, temperature: float) -> Tensor:
    """(N, V) log π from the values of a reader; at τ = 0 the best action has probability 1."""
    if temperature > 0.0:
        return torch.log_softmax(over_temperature(values.double(), temperature), -1)
    best = torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1])
    return torch.where(best.bool(), 0.0, -torch.inf).double()


def _divergence(log_pi: Tensor, log_other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) KL(π ‖ other), nats, from (N, V) log-probabilities."""
    terms = log_pi.exp() * (log_pi - torch.from_numpy(log_other))
    return torch.where(log_pi > -torch.inf, terms, 0.0).sum(-1).numpy()


def started(world: World, config: EnvConfig, episodes: int, seed: int) -> Episodes:
    """New episodes; the same seed gives the same prompts."""
    running = Episodes(world, config, episodes)
    running.seed_all([seed + i for i in range(episodes)])
    running.start(np.arange(episodes))
    return running
