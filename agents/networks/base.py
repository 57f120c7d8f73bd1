"""What every Q-network offers: one causal pass over whole texts, and steps that cost the same at any length."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .heads import Heads, NoisyLinear, effective

State = tuple[Tensor, ...]


class QNetwork(nn.Module):
    """Reads token prefixes; heads turn what it has read into values.

    A subclass maps tokens to hidden vectors. The action head is linear, so the value of one action needs one row of
    its weights only.

    Args:
        vocab_size: V.
        hidden_size: D, width of the hidden vectors.
        heads: which heads to put on them.

    Attributes:
        num_actions: V, or V + P where actions V + p write phrases; the width of every V-wide head below.
        head: (D -> V · atoms) action values, or their advantages in a dueling network.
        value_head: (D -> value_bins) state values in a dueling network.
        behaviour_head: (D -> V) logits of the policy that wrote the data, None without.
        reward_head: (D -> V) rewards, None without.
        max_length: longest text in tokens; None for no limit.
        notes: messages to print at start.
    """

    support: Tensor
    max_length: int | None = None

    def __init__(self, vocab_size: int, hidden_size: int, heads: Heads | None = None) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.heads = heads = heads or Heads()
        if heads.atoms > 1 and not heads.quantiles:  # even logits have their mean in the middle of the support
            action_bias, state_bias = 0.0, 0.0
        else:
            action_bias, state_bias = heads.initial_value, heads.initial_value if heads.value_bins == 1 else 0.0
        self.num_actions = heads.num_actions or vocab_size
        self.head = heads.linear(hidden_size, self.num_actions * heads.atoms, action_bias)
        self.value_head = heads.linear(hidden_size, heads.value_bins, state_bias / heads.value_scale)
        self.behaviour_head = None if heads.behaviour is None else heads.linear(hidden_size, self.num_actions)
        self.reward_head = heads.linear(hidden_size, self.num_actions) if heads.rewards else None
        self.sparse_gradients = False
        self.notes: tuple[str, ...] = ()
        self.norm_heads = nn.LayerNorm(hidden_size) if heads.layer_norm else nn.Identity()
        points = max(heads.atoms, heads.value_bins)
        self.register_buffer("support", torch.linspace(*heads.support, points), persistent=False)

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

    def q_values(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Action values (up to a constant of the state in a dueling network).

        Args:
            hidden: (..., D).
            valid: (V,) or (..., V) bool, actions that may be chosen; all of them if None.

        Returns: (..., V), -inf where not valid.
        """
        if self.heads.atoms > 1:
            atoms = self.action_atoms(hidden)
            values = atoms.mean(-1) if self.heads.quantiles else torch.softmax(atoms, -1) @ self.support
        elif valid is not None and valid.ndim == 1:
            # A bias of -inf costs nothing, where a mask would be one more pass over all V values, and one backwards.
            weight, bias = effective(self.head)
            return F.linear(hidden, weight, bias.masked_fill(~valid, -torch.inf))
        else:
            values = self.head(hidden)
        return values if valid is None else values.masked_fill(~valid, -torch.inf)

    def action_atoms(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V, atoms): quantiles in nats, or logits over `support`."""
        atoms: Tensor = self.head(hidden)
        return atoms.unflatten(-1, (self.num_actions, self.heads.atoms))

    def action_values(self, hidden: Tensor, actions: Tensor) -> Tensor:
        """(..., D), (...) int64 -> (...) values of the actions taken, without a (..., V) tensor."""
        return _of_actions(self.head, hidden, actions, self.sparse_gradients)

    def action_rewards(self, hidden: Tensor, actions: Tensor) -> Tensor:
        """(..., D), (...) int64 -> (...) output of the reward head for the actions taken, nats."""
        if self.reward_head is None:
            raise ValueError("this network has no reward head")
        return _of_actions(self.reward_head, hidden, actions)

    def state_values(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (...) state values."""
        values: Tensor = self.value_head(hidden)
        if self.heads.value_bins > 1:
            return torch.softmax(values, -1) @ self.support
        return self.heads.value_scale * values.squeeze(-1)

    def policy_values(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """What the agent acts by, π ∝ exp(·/τ): (B, D) and (B, V) or (V,) bool -> (B, V), -inf where not valid.

        Action values; with a behaviour head log π_β and a multiple of the advantage (Snell et al. 2023, sec. 4.2;
        Hong et al. 2024, eq. 6).
        """
        values = self.q_values(hidden, valid)
        if self.behaviour_head is None or self.heads.behaviour is None:
            return values
        log_behaviour = torch.log_softmax(self.behaviour_head(hidden).masked_fill(~valid, -torch.inf), -1)
        if self.heads.likelihood_ratio:
            values = (torch.log_softmax(values, -1) - log_behaviour).exp()
        return (log_behaviour + self.heads.behaviour * values).masked_fill(~valid, -torch.inf)

    def save_settings(self, folder: Path) -> None:
        """Write into the folder of a saved agent what making the network again needs beside its configuration."""

    def use_sparse_gradients(self, with_head: bool) -> list[Tensor]:
        """Give the token embedding, and the action head if only taken actions train it, gradients of the rows met.

        Args:
            with_head: the action head too.

        Returns: the parameters that are to have sparse gradients.
        """
        embeddings = (m for m in self.modules() if isinstance(m, nn.Embedding))
        found = [m for m in embeddings if m.num_embeddings == self.vocab_size and m.weight.requires_grad]
        for module in found:
            module.sparse = True
        weights = [module.weight for module in found]
        if with_head and not isinstance(self.head, NoisyLinear):
            self.sparse_gradients = True
            weights.append(self.head.weight)
        return weights

    def head_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of all heads."""
        return [parameter for head in self._heads for parameter in head.parameters()]

    def resample_noise(self) -> None:
        """New noise for noisy heads, used until `eval()`; nothing without them."""
        for head in self._heads:
            if isinstance(head, NoisyLinear):
                head.resample()

    @property
    def _heads(self) -> list[nn.Linear]:
        return [h for h in (self.head, self.value_head, self.behaviour_head, self.reward_head) if h is not None]


def _of_actions(head: nn.Linear, hidden: Tensor, actions: Tensor, sparse: bool = False) -> Tensor:
    weight, bias = effective(head)
    return (hidden * F.embedding(actions, weight, sparse=sparse)).sum(-1) + bias[actions]


def put_rows(state: State, rows: Tensor, new: State) -> None:
    """state[rows] = new, in place, for episodes that begin while others go on.

    Args:
        state: of B episodes; every tensor has the batch first.
        rows: (R,) int64.
        new: of R episodes.
    """
    for old, fresh in zip(state, new, strict=True):
        old[rows] = fresh.to(old.dtype)
