"""`QNetwork`, the base class: one causal pass over whole texts, and steps of one token from a recurrent state."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .heads import Heads, NoisyLinear, effective

State = tuple[Tensor, ...]


class QNetwork(nn.Module):
    """Maps token prefixes to hidden vectors, and hidden vectors to values with its heads.

    A subclass maps tokens to hidden vectors. The action head is linear, so the value of one action needs only one row
    of its weights.

    Args:
        vocab_size: V.
        hidden_size: D, width of the hidden vectors.
        heads: which heads the network has.

    Attributes:
        num_actions: V, or V + P if action V + p writes phrase p. Replaces V in the shapes of heads and their outputs.
        head: (D -> V · atoms) action values, or their advantages in a dueling network.
        value_head: (D -> value_bins) state values in a dueling network.
        behaviour_head: (D -> V) logits of the behaviour policy, or None.
        reward_head: (D -> V) rewards, or None.
        max_length: longest text in tokens; None for no limit.
        notes: messages to print at start.
        bodies: parts that processes which train together split among them; empty for none.
    """

    support: Tensor
    max_length: int | None = None

    def __init__(self, vocab_size: int, hidden_size: int, heads: Heads | None = None) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.heads = heads = heads or Heads()
        if heads.atoms > 1 and not heads.quantiles:  # logits over `support`, where a constant bias has no effect
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
        """(B, T) int64, right-padded -> (B, T, D) hidden vectors; vector t depends on the tokens up to t only."""
        raise NotImplementedError

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """Encode prefixes of different lengths.

        Args:
            tokens: (B, T) int64, right-padded.
            lengths: (B,) int64, at least 1.

        Returns: (B, D) hidden vectors at the last tokens, and the recurrent state or cache for `step`.
        """
        raise NotImplementedError

    def read_last(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, D) hidden vectors at the last tokens alone, for learners that read every window anew; see `encode`."""
        hidden: Tensor = self(tokens)
        return hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Append one token, (B,) int64 -> (B, D) and the new state. The old state may be modified: do not reuse it."""
        raise NotImplementedError

    def q_values(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Action values; in a dueling network up to a constant per state.

        Args:
            hidden: (..., D).
            valid: (V,) or (..., V) bool, the valid actions; all of them if None.

        Returns: (..., V), -inf for actions that are not valid.
        """
        if self.heads.atoms > 1:
            atoms = self.action_atoms(hidden)
            values = atoms.mean(-1) if self.heads.quantiles else torch.softmax(atoms, -1) @ self.support
        elif valid is not None and valid.ndim == 1:
            # A bias of -inf is free; a mask would cost one more pass over all V values, forward and backward.
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
        """(..., D), (...) int64 -> (...) values of the given actions, without a (..., V) tensor."""
        return _of_actions(self.head, hidden, actions, self.sparse_gradients)

    def action_rewards(self, hidden: Tensor, actions: Tensor) -> Tensor:
        """(..., D), (...) int64 -> (...) output of the reward head for the given actions, nats."""
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
        """Logits of the policy times τ, π ∝ exp(·/τ): (B, D) and (B, V) or (V,) bool -> (B, V), -inf if not valid.

        The action values, or with a behaviour head log π_β plus a multiple of the advantage (Snell et al. 2023,
        sec. 4.2; Hong et al. 2024, eq. 6).
        """
        values = self.q_values(hidden, valid)
        if self.behaviour_head is None or self.heads.behaviour is None:
            return values
        log_behaviour = torch.log_softmax(self.behaviour_head(hidden).masked_fill(~valid, -torch.inf), -1)
        if self.heads.likelihood_ratio:
            # Values are at most 1, the ratio of a token that π_β hardly knows is not.
            values = (torch.log_softmax(values, -1) - log_behaviour).exp().clamp(max=1.0)
        return (log_behaviour + self.heads.behaviour * values).masked_fill(~valid, -torch.inf)

    def save_settings(self, folder: Path) -> None:
        """Save what loading needs beside the configuration and the weights, into the folder of a saved agent."""

    def use_sparse_gradients(self, with_head: bool) -> list[Tensor]:
        """Use sparse gradients for the token embedding, and for the action head if only taken actions train it.

        Args:
            with_head: for the action head too.

        Returns: the parameters that will have sparse gradients.
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
        """Draw new noise for noisy heads, used until `eval()`. No effect on other heads."""
        for head in self._heads:
            if isinstance(head, NoisyLinear):
                head.resample()

    @torch.no_grad()
    def start_at(self, values: Tensor, texts: Tensor) -> None:
        """Let the outputs of the action heads begin near `values` (V,) in every state; `texts` (B, T) has examples."""
        for head in self.action_heads:
            head.bias.copy_(values)

    @property
    def action_heads(self) -> list[nn.Linear]:
        """The heads with an output, or several, for each action."""
        return [h for h in (self.head, self.behaviour_head, self.reward_head) if h is not None]

    @property
    def bodies(self) -> list[nn.Module]:
        """See the class."""
        return []

    @property
    def _heads(self) -> list[nn.Linear]:
        return [h for h in (self.head, self.value_head, self.behaviour_head, self.reward_head) if h is not None]


def _of_actions(head: nn.Linear, hidden: Tensor, actions: Tensor, sparse: bool = False) -> Tensor:
    weight, bias = effective(head)
    return (hidden * F.embedding(actions, weight, sparse=sparse)).sum(-1) + bias[actions]


def put_rows(state: State, rows: Tensor, new: State) -> None:
    """state[rows] = new, in place: for rows whose next episode begins.

    Args:
        state: of B episodes; the batch is the first dimension of every tensor.
        rows: (R,) int64.
        new: state of R episodes.
    """
    for old, fresh in zip(state, new, strict=True):
        old[rows] = fresh.to(old.dtype)
