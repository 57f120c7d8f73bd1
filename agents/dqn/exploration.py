"""How actions are chosen from action values."""

from __future__ import annotations

import torch
from torch import Tensor


def choose_actions(
    q_values: Tensor,
    valid: Tensor,
    temperature: float,
    epsilon: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Boltzmann actions ∝ exp(Q/τ), greedy at τ = 0, each replaced by a uniform valid one with probability ε.

    The coin for ε is thrown for every row on its own.

    Args:
        q_values: (B, V) action values, nats.
        valid: (B, V) bool, actions that may be chosen.
        temperature: τ >= 0, nats.
        epsilon: ε, 0 to 1.
        generator: source of randomness, on the same device.

    Returns: actions (B,) int64 and log of the probability each had under this mixture (B,), nats.
    """
    q_values = q_values.masked_fill(~valid, -torch.inf)
    if temperature > 0.0:
        probabilities = torch.softmax(q_values / temperature, -1)
    else:
        probabilities = torch.nn.functional.one_hot(q_values.argmax(-1), q_values.shape[-1]).to(q_values.dtype)
    if epsilon > 0.0:
        uniform = valid / valid.sum(-1, keepdim=True)
        probabilities = (1.0 - epsilon) * probabilities + epsilon * uniform
    if temperature == 0.0 and epsilon == 0.0:
        actions = probabilities.argmax(-1)
    else:
        actions = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
    return actions, probabilities.gather(-1, actions[:, None]).squeeze(-1).log()
