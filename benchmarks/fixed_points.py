"""The exact fixed points of all learning rules, on an environment whose texts can be enumerated.

The data are all texts of the environment with equal weight, so the behaviour policy μ is uniform over the words at
every prefix. Values are trees: lists over t of arrays of shape (W,)*(t + 1), with the value of action a_t after the
prefix a_0 … a_{t-1} at [a_0, …, a_t]. `python benchmarks/rules.py` compares learned values with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokenlm.agents.dqn import losses
from tokenlm.agents.dqn.agent import DQN
from tokenlm.agents.dqn.config import AgentConfig
from tokenlm.agents.dqn.rules import C51, CQL, ILQL, PQN, QSFT, CrossEntropy, IQLearn, Quantile
from tokenlm.agents.dqn.trajectory_rules import TBRM, ReVal, TrajectoryBalance
from tokenlm.agents.dqn.update import Update
from tokenlm.agents.replay.episodes import EpisodeBatch, EpisodeReplay
from tokenlm.envs import EnvConfig, Episodes, Vocabulary, World

Floats = npt.NDArray[np.float64]
TRAJECTORY = (TrajectoryBalance, TBRM, ReVal)


class AllTexts:
    """All texts of an environment with the ending "fixed", as a batch and as trees.

    Args:
        env_config: the environment; W words and T tokens give W**T texts.
    """

    def __init__(self, env_config: EnvConfig) -> None:
        if env_config.ending != "fixed" or env_config.prompt_length != (0, 0):
            raise ValueError('fixed points need ending="fixed" and prompt_length=(0, 0)')
        world, horizon = World.of(env_config), env_config.max_new_tokens
        self.env_config = env_config
        self.words = np.flatnonzero(world.valid)
        self.shape = (len(self.words),) * horizon
        self.tokens = np.stack([self.words[i] for i in np.indices(self.shape).reshape(horizon, -1)], axis=1)
        episodes = Episodes(world, env_config, len(self.tokens))
        episodes.start_from_prompts(np.arange(len(self.tokens)), [[] for _ in self.tokens], None)
        active = np.ones(len(self.tokens), np.bool_)
        steps = [episodes.step(self.tokens[:, t], active)[0] for t in range(horizon)]
        self.rewards = np.stack(steps, axis=1)  # (N, T)

    def batch(self, device: torch.device | str = "cpu", rows: Sequence[int] | None = None) -> EpisodeBatch:
        """A batch with every text once, or with those in `rows`."""
        count, horizon = self.tokens.shape
        replay = EpisodeReplay(count, 1, horizon, int(self.words.max()) + 1, device=device)
        tokens = np.concatenate([np.full((count, 1), Vocabulary.BOS), self.tokens], axis=1)
        full, ones = np.full(count, horizon), np.ones(count, np.int64)
        arrays = (tokens, self.tokens, self.rewards.astype(np.float32), ones, full, ones.astype(np.bool_))
        replay.add(*(torch.from_numpy(a).to(device) for a in arrays))
        return replay.rows(torch.tensor(range(count) if rows is None else rows, device=device))

    def tree(self, grid: Floats) -> list[Floats]:
        """(N, T) values of the tokens of all texts -> a tree; the value of a prefix is that of its first text."""
        whole = grid.reshape(*self.shape, len(self.shape))
        depth = len(self.shape)
        places: list[Any] = [(*[slice(None)] * (t + 1), *[0] * (depth - 1 - t), t) for t in range(depth)]
        return [whole[place] for place in places]


def solve(agent: DQN, texts: AllTexts, updates: int) -> None:
    """Make `updates` updates, each on all texts."""
    batch = texts.batch(agent.device)
    for number in range(updates):
        agent.progress = number / updates
        agent.learner.update(batch, agent.progress)
    agent.progress = 1.0


@torch.no_grad()
def learned(agent: DQN, texts: AllTexts) -> list[Floats]:
    """The values that the agent has learned, in the form of `fixed_point`."""
    agent.network.eval()
    batch, rule = texts.batch(agent.device), agent.config.rule
    # Munchausen values have a sharpening factor; with factor 1 they are comparable with the fixed point.
    backup = dataclasses.replace(
        agent.learner.backup, temperature=0.0 if rule.hard else agent.temperature, sharpening=1.0
    )
    update = Update(batch, agent.network, agent.network, agent.valid_tokens, backup)
    online = update.online.frozen()
    if isinstance(rule, QSFT):
        figures = online.of(torch.log_softmax(online.preferences, -1))
    elif isinstance(rule, CrossEntropy):
        figures = online.of(torch.log_softmax(online.preferences / update.density_temperature, -1))
    elif isinstance(rule, TRAJECTORY):
        figures = online.advantage / agent.temperature
    elif isinstance(rule, (C51, Quantile)):
        figures = online.of(online.preferences)
    else:
        figures = online.taken
    return texts.tree(figures.cpu().double().numpy().reshape(texts.rewards.shape))


def fixed_point(
    config: AgentConfig, texts: AllTexts, temperature: float, reference: list[Floats] | None = None
) -> list[Floats]:
    """The fixed point of the rule on `texts`: Q(s, a) in nats.

    For cross_entropy, q_sft and the rules of whole texts log π(a | s); `reference` is log π_ref(a | s) of the latter.
    """
    rewards, rule = texts.tree(texts.rewards), config.rule
    words = len(texts.words)
    if isinstance(rule, CrossEntropy):
        return [np.full(r.shape, -np.log(words)) for r in rewards]
    if isinstance(rule, QSFT):
        return _q_sft(rule, config.gamma, rewards, words, texts.env_config)
    if isinstance(rule, IQLearn):
        return _iq_learn(rule, config.gamma, rewards, temperature)
    if isinstance(rule, TRAJECTORY):
        if reference is not None:
            rewards = [r + temperature * log for r, log in zip(rewards, reference, strict=True)]
        values = _backward(rewards, 1.0, lambda q: _soft(q, temperature))
        return [(q - _soft(q, temperature)[..., None]) / temperature for q in values]
    tau = 0.0 if rule.hard else temperature
    if isinstance(rule, PQN):
        return _traced(rewards, config.gamma, rule.trace_decay)
    if isinstance(rule, CQL):
        if tau == 0.0:
            raise ValueError(
                "cql has no smooth objective at temperature 0, so its fixed point is not computed; use τ > 0"
            )
        weight = rule.cql_weight
        return _backward(rewards, config.gamma, lambda q: _soft(q, tau), lambda y: _conservative(y, tau, weight))
    if isinstance(rule, ILQL):
        weight, share = rule.cql_weight, rule.expectile
        return _backward(rewards, config.gamma, lambda q: _expectile(q, share), lambda y: _conservative(y, 1.0, weight))
    return _backward(rewards, config.gamma, lambda q: _soft(q, tau))


def distance(one: list[Floats], other: list[Floats]) -> float:
    """Largest absolute difference between two trees."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def _soft(q_values: Floats, temperature: float) -> Floats:
    result: Floats = losses.soft_value(torch.from_numpy(q_values), temperature).numpy()
    return result


def _backward(
    rewards: list[Floats],
    gamma: float,
    value_of: Callable[[Floats], Floats],
    fitted: Callable[[Floats], Floats] = lambda target: target,
) -> list[Floats]:
    """Backward induction: Q = fitted(r + γV'), V = value_of(Q)."""
    result: list[Floats] = []
    value: Floats = np.zeros(rewards[-1].shape)
    for reward in reversed(rewards):
        q_values = fitted(reward + gamma * value)
        value = value_of(q_values)
        result.insert(0, q_values)
    return result


def _traced(rewards: list[Floats], gamma: float, decay: float) -> list[Floats]:
    """λ-returns without off-policy correction: V = λ E_μ[Q] + (1 - λ) max Q."""
    return _backward(rewards, gamma, lambda q: (1.0 - decay) * q.max(-1) + decay * q.mean(-1))


def _conservative(target: Floats, temperature: float, weight: float) -> Floats:
    """Minimum of ½(Q - y)² + w(τ log Σ exp(Q/τ) - Q) under uniform μ: Q = y - w(W·π_Q - 1), by damped iteration."""
    words = target.shape[-1]
    step = 1.0 / (1.0 + weight * words / max(temperature, 1e-3))
    q_values = target.copy()
    for _ in range(20_000):
        policy = np.exp((q_values - _soft(q_values, temperature)[..., None]) / temperature)
        change = target - weight * (words * policy - 1.0) - q_values
        q_values = q_values + step * change
        if np.abs(change).max() < 1e-13:
            break
    return q_values


def _expectile(q_values: Floats, share: float) -> Floats:
    """The `share`-expectile of the last axis, by bisection."""
    low, high = q_values.min(-1), q_values.max(-1)
    for _ in range(100):
        middle = 0.5 * (low + high)
        error = q_values - middle[..., None]
        above = (np.where(error < 0, 1.0 - share, share) * error).mean(-1) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low


def _q_sft(rule: QSFT, gamma: float, rewards: list[Floats], words: int, env: EnvConfig) -> list[Floats]:
    """p(a) = μ(a)w(a) + Σ_{b≠a} μ(b)(1 - w(b))/(W - 1), with w = r + γ max p'/μ clipped to [0, 1]."""
    every, horizon = env.reward_every or env.max_new_tokens, env.max_new_tokens
    result: list[Floats] = []
    value: Floats = np.zeros(rewards[-1].shape)
    for t in reversed(range(horizon)):
        pays = (t + 1) % every == 0 or t == horizon - 1
        scaled = (t % every + 1 + rewards[t] / rule.reward_scale) / horizon if pays else 0.0 * rewards[t]
        weight = np.clip(np.maximum(scaled, 0.0) + gamma * value, 0.0, 1.0)
        missed = (1.0 - weight).sum(-1, keepdims=True) - (1.0 - weight)
        likelihood = (weight + missed / (words - 1)) / words
        value = likelihood.max(-1) * words
        result.insert(0, np.log(likelihood))
    return result


def _iq_learn(rule: IQLearn, gamma: float, rewards: list[Floats], temperature: float) -> list[Floats]:
    """The minimum of the convex objective over tables, by L-BFGS."""
    tables = [torch.zeros(r.shape, dtype=torch.float64, requires_grad=True) for r in rewards]
    optimizer = torch.optim.LBFGS(
        tables, max_iter=3_000, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe",
        history_size=50,
    )  # fmt: skip

    def objective() -> Tensor:
        optimizer.zero_grad()
        values = [losses.soft_value(q, temperature) for q in tables]
        after = [*values[1:], torch.zeros(tables[-1].shape, dtype=torch.float64)]
        total = torch.zeros((), dtype=torch.float64)
        for q, v, later in zip(tables, values, after, strict=True):
            discount = torch.full_like(later, gamma if later is not after[-1] else 0.0)
            term = losses.inverse_soft_q(q, v[..., None].expand_as(q), discount, later, rule.td_weight)
            total = total + term.mean()
        total.backward()
        return total

    optimizer.step(objective)
    return [q.detach().numpy() for q in tables]
