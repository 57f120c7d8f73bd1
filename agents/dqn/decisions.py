"""Decisions that write several tokens: phrases in progress, and documents cut into tokens and phrases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import Phrases

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Decisions:
    """The tokens that the actions chosen write, one a step, in B episodes side by side.

    Args:
        phrases: what the actions from V on write.
        count: B.
        device: where the episodes are.
    """

    def __init__(self, phrases: Phrases, count: int, device: torch.device | str = "cpu") -> None:
        self._table = torch.from_numpy(phrases.table).to(device)
        self._lengths = torch.from_numpy(phrases.lengths).to(device)
        self.actions = torch.zeros(count, dtype=torch.int64, device=device)
        self.left = torch.zeros(count, dtype=torch.int64, device=device)

    def write(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The next token in every episode.

        Args:
            chosen: (B,) actions, looked at where no phrase is being written; they are then those being written.

        Returns: (B,) tokens, and (B,) how many tokens their action wrote before, 0 where it was chosen just now.
        """
        self.actions = torch.where(self.left == 0, chosen, self.actions)
        self.left = torch.where(self.left == 0, self._lengths[chosen], self.left)
        place = self._lengths[self.actions] - self.left
        self.left = self.left - 1
        return self._table[self.actions, place], place

    def interrupt(self, rows: Tensor) -> None:
        """Drop what is left of the phrases in (R,) rows, whose episodes are over."""
        self.left[rows] = 0

    def state_dict(self) -> dict[str, Any]:
        """The phrases in progress."""
        return {"actions": self.actions.clone(), "left": self.left.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.actions.copy_(state["actions"])
        self.left.copy_(state["left"])


def segment(phrases: Phrases, tokens: Ints, lengths: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Cut texts at random into tokens and phrases, so that the values of both are learned from them.

    At every place where phrases fit, one of them is taken with probability ½, each as likely as the others.

    Args:
        phrases: the phrases.
        tokens: (R, T) texts.
        lengths: (R,) tokens of each.
        rng: source of randomness.

    Returns: (R, T) actions and (R, T) tokens that each wrote, both 0 within a phrase and behind the end.
    """
    count, width = tokens.shape
    found = phrases.matches(tokens)
    sizes = np.arange(found.shape[2])
    actions, durations, left = np.zeros_like(tokens), np.zeros_like(tokens), np.zeros(count, np.int64)
    for step in range(width):
        fits = (found[:, step] >= 0) & (step + sizes <= lengths[:, None])
        drawn = np.where(fits, rng.random(fits.shape), -1.0).argmax(1)
        takes = fits.any(1) & (rng.random(count) < 0.5)
        decides = (left == 0) & (step < lengths)
        size = np.where(takes, drawn, 1)
        action = np.where(takes, found[np.arange(count), step, drawn], tokens[:, step])
        actions[:, step] = np.where(decides, action, 0)
        durations[:, step] = np.where(decides, size, 0)
        left = np.maximum(np.where(decides, size, left) - 1, 0)
    return actions, durations


def decision_rewards(rewards: Floats, durations: Ints, gamma: float) -> Floats:
    """Σ γ^i r_i over the tokens that each decision wrote, where it was made; 0 elsewhere.

    Args:
        rewards: (R, T) of the tokens, nats.
        durations: (R, T) tokens that each decision wrote, 0 within a phrase and behind the end.
        gamma: γ.

    Returns: (R, T) nats.
    Source: Sutton, Precup & Singh 1999, eq. 6, the reward model of an option.
    """
    total = np.zeros_like(rewards)
    for size in range(int(durations.max(initial=0))):
        later = np.pad(rewards[:, size:], ((0, 0), (0, size)))
        total += np.where(durations > size, gamma**size * later, 0.0)
    return total
