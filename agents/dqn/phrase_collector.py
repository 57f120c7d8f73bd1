"""A collector whose decisions may write whole phrases: every step is still one token in every environment."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...envs import Phrases, TokenLMDeviceEnv
from .collector import Collector
from .decisions import Decisions


class PhraseCollector(Collector):
    """Plays an environment by tokens and phrases, call-and-return: a phrase once begun is written to its end.

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

    def _record(self, actions: Tensor, rewards: Tensor, log_probs: Tensor) -> None:
        place, began = self._place, self.written - self._place
        self.actions[self.rows, began] = self.decisions.actions
        self.rewards[self.rows, began] += self.gamma**place * rewards
        if self.durations is not None:
            self.durations[self.rows, began] = place + 1
        before = self.log_probs[self.rows, began]
        self.log_probs[self.rows, began] = torch.where(place == 0, log_probs, before)

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
