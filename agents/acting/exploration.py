"""Count-based exploration: prefer the actions tried least."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ...envs import EnvConfig

Exploration = Literal["uniform", "least_tried", "untried_mass"]

MAX_COUNTS = 1 << 28  # most (last token, action) pairs, 1 GiB


class Counts:
    """Counts of each action after each last token; exploration chooses an action with the lowest count.

    If all rewards so far are near -8 nats, no value suggests that an untried action has reward -0.2; counts find it.

    Args:
        vocab_size: V; the table has V² entries.
        device: of the table.
    """

    def __init__(self, vocab_size: int, device: torch.device | str = "cpu") -> None:
        if vocab_size**2 > MAX_COUNTS:
            raise ValueError(
                f"exploration 'least_tried' needs counts of {vocab_size**2:,} pairs of tokens, at most {MAX_COUNTS:,} "
                f"are allowed; use exploration 'uniform' or a vocabulary of at most {int(MAX_COUNTS**0.5):,}"
            )
        self.table = torch.zeros((vocab_size, vocab_size), dtype=torch.int32, device=device)

    def least_tried(self, last_tokens: Tensor, valid: Tensor) -> Tensor:
        """(B,) last tokens, (V,) or (B, V) valid actions -> (B, V) bool, the valid actions with the lowest count."""
        floor = torch.where(valid, 0, torch.iinfo(torch.int32).max).to(torch.int32)
        tried = torch.maximum(self.table.index_select(0, last_tokens), floor)
        return tried == tried.amin(-1, keepdim=True)

    def epsilon(self, last_tokens: Tensor, epsilon: float) -> float | Tensor:
        """The probability of exploring after (B,) last tokens."""
        return epsilon

    def add(self, last_tokens: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Count (B,) actions taken after (B,) last tokens, with (B,) rewards, nats."""
        ones = torch.ones_like(actions, dtype=torch.int32)
        self.table.index_put_((last_tokens, actions), ones, accumulate=True)

    def state_dict(self) -> dict[str, Any]:
        """The table."""
        return {"table": self.table.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.table.copy_(state["table"])


class UntriedMass(Counts):
    """ε scaled by the probability mass of untried actions.

    The reward of an action is its log-probability under the target, so the actions tried after a token leave the
    probability 1 - Σ p* for the untried ones. No untried action can have a reward above its logarithm. So contexts with
    little mass left are continued greedily, and exploration concentrates on the others. If p* depends on more than the
    last token, the first reward seen for a pair is used for all contexts.
    """

    def __init__(self, vocab_size: int, device: torch.device | str = "cpu") -> None:
        super().__init__(vocab_size, device)
        self.found = torch.zeros(vocab_size, device=device)

    def epsilon(self, last_tokens: Tensor, epsilon: float) -> float | Tensor:
        """(B,) ε times the probability mass of untried actions."""
        return epsilon * (1.0 - self.found.index_select(0, last_tokens)).clamp(min=0.0)

    def add(self, last_tokens: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Count, and add up the probabilities of pairs seen for the first time."""
        pairs, place = (last_tokens * len(self.table) + actions).unique(return_inverse=True)
        new = self.table.view(-1).index_select(0, pairs) == 0
        found = torch.empty_like(pairs, dtype=self.found.dtype).scatter_(0, place, rewards.to(self.found.dtype).exp())
        self.found.index_add_(0, pairs.div(len(self.table), rounding_mode="floor"), found * new)
        super().add(last_tokens, actions, rewards)

    def state_dict(self) -> dict[str, Any]:
        """See `Counts`."""
        return {**super().state_dict(), "found": self.found.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Counts`."""
        super().load_state_dict(state)
        self.found.copy_(state["found"])


def make_counts(exploration: Exploration, env: EnvConfig, actions: int, device: torch.device) -> Counts | None:
    """The counts for a kind of exploration; None for "uniform".

    Args:
        exploration: which kind.
        env: the environment's arguments.
        actions: V, or V + P with phrases.
        device: of the counts.

    Raises ValueError for "untried_mass" if rewards are not the target's log-probabilities.
    """
    if exploration == "uniform":
        return None
    if exploration == "least_tried":
        return Counts(actions, device)
    if not env.pays_log_likelihood or env.reward_every != 1:
        raise ValueError(
            "exploration 'untried_mass' needs the log-likelihood of every token as its reward (reward_every 1, "
            "log_prob_weight 1, no sequence_reward); use 'least_tried'"
        )
    return UntriedMass(actions, device)
