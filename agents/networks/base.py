"""What every Q-network offers: one causal pass over whole texts, and steps that cost the same at any length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


class QNetwork(nn.Module):
    """Reads token prefixes; heads turn what it has read into values.

    A subclass maps tokens to hidden vectors. The action head is linear, so the value of one action needs one row of
    its weights only.

    Args:
        vocab_size: V.
        hidden_size: D, width of the hidden vectors.
        initial_value: what every action value is before training, nats.

    Attributes:
        head: (D -> V) action values, or their advantages in a dueling network.
        value_head: (D -> 1) state values in a dueling network.
    """

    def __init__(self, vocab_size: int, hidden_size: int, initial_value: float = 0.0) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.head = nn.Linear(hidden_size, vocab_size)
        self.value_head = nn.Linear(hidden_size, 1)
        for linear in (self.head, self.value_head):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.constant_(self.head.bias, initial_value)
        nn.init.constant_(self.value_head.bias, initial_value)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64, right-padded -> (B, T, D) hidden vectors; each sees the tokens up to its own."""
        raise NotImplementedError

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """Read prefixes of different length.

        Args:
            tokens: (B, T) int64, right-padded.
            lengths: (B,) int64, at least 1.

        Returns: (B, D) hidden vectors after the last token of each, and the state to `step` on from.
        """
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token more, (B,) int64 -> (B, D) and the new state. The old state must not be used again."""
        raise NotImplementedError

    def q_values(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) action values (up to a constant of the state in a dueling network)."""
        values: Tensor = self.head(hidden)
        return values

    def action_values(self, hidden: Tensor, actions: Tensor) -> Tensor:
        """(..., D), (...) int64 -> (...) values of the actions taken, without a (..., V) tensor."""
        return (hidden * self.head.weight[actions]).sum(-1) + self.head.bias[actions]

    def state_values(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (...) output of the value head."""
        values: Tensor = self.value_head(hidden).squeeze(-1)
        return values


def put_rows(state: State, rows: Tensor, new: State) -> None:
    """state[rows] = new, in place, for episodes that begin while others go on.

    Args:
        state: of B episodes; every tensor has the batch first.
        rows: (R,) int64.
        new: of R episodes.
    """
    for old, fresh in zip(state, new, strict=True):
        old[rows] = fresh.to(old.dtype)


@torch.no_grad()
def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in network.parameters())
