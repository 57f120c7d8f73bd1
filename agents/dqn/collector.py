"""Write episodes with the current network into the replay. A step costs the same at any length."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from ...envs import Phrases, TokenLMDeviceEnv
from ..acting.choosing import choose_actions
from ..acting.exploration import Counts
from ..acting.phrases import Decisions
from ..acting.valid_actions import ValidActions
from ..networks import QNetwork, put_rows
from ..networks.prefixes import right_padded


class Store(Protocol):
    """Where finished episodes go: an `EpisodeReplay`, or what sends them to one."""

    prompt_size: int

    def add(
        self,
        tokens: Tensor,
        actions: Tensor,
        rewards: Tensor,
        prompt_lengths: Tensor,
        lengths: Tensor,
        terminated: Tensor,
        durations: Tensor | None = None,
    ) -> None:
        """See `EpisodeReplay`."""


class Collector:
    """Plays an environment and keeps every finished episode.

    A step reads and writes on the environment's device. Where that is the network's too, the host waits for it once a
    step, to learn which episodes are over.

    Args:
        env: the environment, on the network's device where that can hold it.
        network: Q-network that acts; read at every step, so updates take effect at once.
        replay: where finished episodes go.
        valid_actions: of the environment, on the network's device.
        generator: source of randomness for actions.
        seed: seed of the environment.
        counts: for exploration by counts; None for uniform exploration.
    """

    durations: Tensor | None = None  # (B, T) tokens that each action wrote; only with phrases

    def __init__(
        self,
        env: TokenLMDeviceEnv,
        network: QNetwork,
        replay: Store,
        valid_actions: ValidActions,
        generator: torch.Generator,
        seed: int,
        counts: Counts | None = None,
    ) -> None:
        self.env = env
        self.network = network
        self.replay = replay
        self.valid_actions = valid_actions
        self.generator = generator
        self.counts = counts
        self.device = network.head.weight.device
        count, horizon, size = env.num_envs, env.config.max_new_tokens, replay.prompt_size
        zeros = functools.partial(torch.zeros, device=env.device)
        self.tokens = zeros((count, size + horizon), dtype=torch.int64)
        self.actions = zeros((count, horizon), dtype=torch.int64)
        self.rewards = zeros((count, horizon))
        self.prompt_lengths = zeros(count, dtype=torch.int64)
        self.written = zeros(count, dtype=torch.int64)
        self.rows = torch.arange(count, device=env.device)
        self.steps = 0
        self.episodes = 0
        self.recent_returns: list[float] = []
        observation, _ = env.reset(seed=seed)
        self.hidden, self.state = self._begin(self.rows, observation)

    @torch.no_grad()
    def step(self, temperature: float, epsilon: float) -> None:
        """One token in every environment."""
        self.network.eval()
        self.network.resample_noise()
        newest_at = self.rows * self.tokens.shape[1] + self.prompt_lengths + self.written - 1
        allowed = self.valid_actions.allowed_at(self.tokens, newest_at, self.written)
        valid = self.valid_actions.mask(self.written.to(self.device), allowed)
        values = self.network.policy_values(self.hidden, valid)
        explored = valid
        chance: float | Tensor = epsilon
        if self.counts:
            newest = self.tokens[self.rows, self.prompt_lengths + self.written - 1].to(self.device)
            if epsilon > 0.0:
                explored, chance = self.counts.least_tried(newest, valid), self.counts.epsilon(newest, epsilon)
        actions, _ = choose_actions(values, temperature, chance, self.generator, explored)
        chosen, actions = actions, actions.to(self.env.device)
        observation, rewards, terminated, _, infos = self.env.step(self._tokens(actions))
        if self.counts:
            self._count(newest, chosen, rewards.float().to(self.device))
        appended = infos["final_obs"][:, -1]
        self.tokens[self.rows, self.prompt_lengths + self.written] = appended
        self._record(actions, rewards.float())
        self.written += 1
        self.steps += self.env.num_envs
        self.hidden, self.state = self.network.step(appended.to(self.device), self.state)
        ended = infos["_final_obs"].nonzero().squeeze(1)
        if len(ended):
            self._keep(ended, terminated[ended])
            hidden, state = self._begin(ended, observation[ended])
            self.hidden[ended.to(self.device)] = hidden
            put_rows(self.state, ended.to(self.device), state)

    def _tokens(self, actions: Tensor) -> Tensor:
        """The tokens that are written now, (B,) -> (B,)."""
        return actions

    def _record(self, actions: Tensor, rewards: Tensor) -> None:
        self.actions[self.rows, self.written] = actions
        self.rewards[self.rows, self.written] = rewards

    def _count(self, newest: Tensor, actions: Tensor, rewards: Tensor) -> None:
        if self.counts:
            self.counts.add(newest, actions, rewards)

    def _begin(self, rows: Tensor, observation: Tensor) -> tuple[Tensor, Any]:
        """Read the prompts of new episodes."""
        prompt, lengths = right_padded(observation)
        self.tokens[rows] = 0
        self.tokens[rows, : prompt.shape[1]] = prompt
        self.rewards[rows] = 0.0
        self.prompt_lengths[rows] = lengths
        self.written[rows] = 0
        self.network.eval()  # the network is still in training mode when the first episodes begin
        with torch.no_grad():
            return self.network.encode(prompt.to(self.device), lengths.to(self.device))

    def _keep(self, rows: Tensor, terminated: Tensor) -> None:
        self.replay.add(
            tokens=self.tokens[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            prompt_lengths=self.prompt_lengths[rows],
            lengths=self.written[rows],
            terminated=terminated,
            durations=None if self.durations is None else self.durations[rows],
        )
        self.episodes += len(rows)
        self.recent_returns = (self.recent_returns + self.rewards[rows].sum(1).tolist())[-200:]

    def figures(self) -> dict[str, Any]:
        """What else an evaluation may want to know of the acting."""
        return {}

    @property
    def mean_return(self) -> float:
        """Mean return of the last 200 episodes, nats; nan before the first ends."""
        return float(np.mean(self.recent_returns)) if self.recent_returns else float("nan")

    _KEPT: ClassVar[tuple[str, ...]] = (
        "tokens",
        "actions",
        "rewards",
        "prompt_lengths",
        "written",
        "hidden",
    )

    def state_dict(self) -> dict[str, Any]:
        """Environment, running episodes, network state, random generator and counters."""
        return {
            **{name: getattr(self, name).clone() for name in self._KEPT},
            "env": self.env.state_dict(),
            "state": [t.clone() for t in self.state],
            "generator": self.generator.get_state(),
            "counts": self.counts and self.counts.state_dict(),
            "steps": self.steps,
            "episodes": self.episodes,
            "recent_returns": list(self.recent_returns),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        for name in self._KEPT:
            getattr(self, name).copy_(state[name])
        self.env.load_state_dict(state["env"])
        self.state = tuple(t.to(self.device, copy=True) for t in state["state"])
        self.generator.set_state(state["generator"])
        if self.counts:
            self.counts.load_state_dict(state["counts"])
        self.steps, self.episodes = int(state["steps"]), int(state["episodes"])
        self.recent_returns = list(state["recent_returns"])


class PhraseCollector(Collector):
    """Plays an environment by tokens and phrases. A phrase once begun is written to its end; a step is one token.

    Arguments are those of `Collector`, and

    Args:
        phrases: what the actions from V on write.
        gamma: γ inside a phrase.
    """

    def __init__(self, env: TokenLMDeviceEnv, *arguments: Any, phrases: Phrases, gamma: float) -> None:
        self.decisions = Decisions(phrases, env.num_envs, env.device)
        self.gamma = gamma
        super().__init__(env, *arguments)
        self.durations = torch.zeros_like(self.actions)

    def _tokens(self, actions: Tensor) -> Tensor:
        tokens, self._place = self.decisions.write(actions)
        return tokens

    def _record(self, actions: Tensor, rewards: Tensor) -> None:
        place, began = self._place, self.written - self._place
        self.actions[self.rows, began] = self.decisions.actions
        self.rewards[self.rows, began] += self.gamma**place * rewards
        if self.durations is not None:
            self.durations[self.rows, began] = place + 1

    def _count(self, newest: Tensor, actions: Tensor, rewards: Tensor) -> None:
        chose = (self._place == 0).to(self.device)
        if self.counts:
            self.counts.add(newest[chose], actions[chose], rewards[chose])

    def _begin(self, rows: Tensor, observation: Tensor) -> tuple[Tensor, Any]:
        self.decisions.interrupt(rows)
        if self.durations is not None:
            self.durations[rows] = 0
        return super()._begin(rows, observation)

    _KEPT: ClassVar[tuple[str, ...]] = (*Collector._KEPT, "durations")

    def state_dict(self) -> dict[str, Any]:
        """See `Collector`."""
        return {**super().state_dict(), "decisions": self.decisions.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Collector`."""
        super().load_state_dict(state)
        self.decisions.load_state_dict(state["decisions"])
