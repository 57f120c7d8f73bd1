"""Exploration by counts: try what was tried least."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ...envs import EnvConfig

Exploration = Literal["uniform", "least_tried", "untried_mass"]

MAX_COUNTS = 1 << 28  # (last token, action) pairs that may be counted: 1 GiB


class Counts:
    """How often each action was taken after each token, to explore what was tried least.

    Values learned from rewards near -8 nats give no reason to try an arc that would pay -0.2. Counts do.

    Args:
        vocab_size: V; the table has V² entries.
        device: where it lives.
    """

    def __init__(self, vocab_size: int, device: torch.device | str = "cpu") -> None:
        if vocab_size**2 > MAX_COUNTS:
            raise ValueError(
                f"exploration 'least_tried' counts pairs of tokens, {vocab_size**2:,} of them, and at most "
                f"{MAX_COUNTS:,} are kept; use exploration 'uniform' or a vocabulary of up to {int(MAX_COUNTS**0.5):,}"
            )
        self.table = torch.zeros((vocab_size, vocab_size), dtype=torch.int32, device=device)

    def least_tried(self, last_tokens: Tensor, valid: Tensor) -> Tensor:
        """(B,) last tokens and (V,) or (B, V) valid actions -> (B, V) bool: those tried least after the token."""
        floor = torch.where(valid, 0, torch.iinfo(torch.int32).max).to(torch.int32)
        tried = torch.maximum(self.table.index_select(0, last_tokens), floor)
        return tried == tried.amin(-1, keepdim=True)

    def epsilon(self, last_tokens: Tensor, epsilon: float) -> float | Tensor:
        """The chance to explore after (B,) last tokens."""
        return epsilon

    def add(self, last_tokens: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Count (B,) actions taken after (B,) tokens, which earned (B,) rewards, nats."""
        ones = torch.ones_like(actions, dtype=torch.int32)
        self.table.index_put_((last_tokens, actions), ones, accumulate=True)

    def state_dict(self) -> dict[str, Any]:
        """The table."""
        return {"table": self.table.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.table.copy_(state["table"])


class UntriedMass(Counts):
    """ε scaled by the probability mass of untried actions.

    A reward is the target's log-probability of an action. So the rewards of the actions tried after a token say how
    much of p*(·|s) is left for the others: 1 - Σ p*. No untried action can be worth more than the logarithm of that.
    Well-known contexts are then written greedily, and exploration goes to the others. Where p* depends on more than the
    last token, the rewards first seen stand for all.
    """

    def __init__(self, vocab_size: int, device: torch.device | str = "cpu") -> None:
        super().__init__(vocab_size, device)
        self.found = torch.zeros(vocab_size, device=device)

    def epsilon(self, last_tokens: Tensor, epsilon: float) -> float | Tensor:
        """ε times the probability that nobody has tried, (B,)."""
        return epsilon * (1.0 - self.found.index_select(0, last_tokens)).clamp(min=0.0)

    def add(self, last_tokens: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Count, and add the probabilities of pairs that are new."""
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
    """The counts that a kind of exploration needs; None for "uniform".

    Args:
        exploration: which.
        env: the environment's arguments.
        actions: V, or V + P with phrases.
        device: where the counts live.

    Raises ValueError where the rewards do not tell the probabilities that "untried_mass" needs.
    """
    if exploration == "uniform":
        return None
    if exploration == "least_tried":
        return Counts(actions, device)
    if not env.pays_log_likelihood or env.reward_every != 1:
        raise ValueError(
            "exploration 'untried_mass' needs the log-likelihood of every token as its reward (reward_every 1, "
            "log_prob_weight 1, no sequence_reward); use 'least_tried' here"
        )
    return UntriedMass(actions, device)
