"""How actions are chosen from action values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MAX_COUNTS = 1 << 28  # (last token, action) pairs that may be counted: 1 GiB


def choose_actions(
    q_values: Tensor,
    valid: Tensor,
    temperature: float,
    epsilon: float = 0.0,
    generator: torch.Generator | None = None,
    proposals: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Boltzmann actions ∝ exp(Q/τ), greedy at τ = 0, each replaced by a proposal with probability ε.

    The coin for ε is thrown for every row on its own.

    Args:
        q_values: (B, V) action values, nats.
        valid: (B, V) bool, actions that may be chosen.
        temperature: τ >= 0, nats.
        epsilon: ε, 0 to 1.
        generator: source of randomness, on the same device.
        proposals: (B, V) probabilities to explore by; uniform over the valid actions if None.

    Returns: actions (B,) int64 and log of the probability each had under this mixture (B,), nats.
    """
    q_values = q_values.masked_fill(~valid, -torch.inf)
    if temperature > 0.0:
        probabilities = torch.softmax(q_values / temperature, -1)
    else:
        probabilities = torch.nn.functional.one_hot(q_values.argmax(-1), q_values.shape[-1]).to(q_values.dtype)
    if epsilon > 0.0:
        explored = valid / valid.sum(-1, keepdim=True) if proposals is None else proposals
        probabilities = (1.0 - epsilon) * probabilities + epsilon * explored
    if temperature == 0.0 and epsilon == 0.0:
        actions = probabilities.argmax(-1)
    else:
        actions = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
    return actions, probabilities.gather(-1, actions[:, None]).squeeze(-1).log()


class Counts:
    """How often each action was taken after each token, to explore what was tried least.

    A new word is worth a try wherever it was never written, however bad the words tried so far were: values learned
    from rewards near -8 nats give no reason to expect the -0.2 of an arc that nobody took.

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

    def proposals(self, last_tokens: Tensor, valid: Tensor) -> Tensor:
        """(B,) last tokens and (B, V) valid actions -> (B, V): uniform over those tried least after the token."""
        tried = self.table[last_tokens].masked_fill(~valid, torch.iinfo(torch.int32).max)
        least = (tried == tried.amin(-1, keepdim=True)) & valid
        return least / least.sum(-1, keepdim=True)

    def add(self, last_tokens: Tensor, actions: Tensor) -> None:
        """Count (B,) actions taken after (B,) tokens."""
        ones = torch.ones_like(actions, dtype=torch.int32)
        self.table.index_put_((last_tokens, actions), ones, accumulate=True)

    def state_dict(self) -> dict[str, Any]:
        """The table."""
        return {"table": self.table.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.table.copy_(state["table"])
