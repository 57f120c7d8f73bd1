"""A trained network as the target distribution of another environment."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from ...envs import valid_actions
from ...envs.targets.causal import CausalTarget
from ...envs.text import Tokenizer
from ..acting.choosing import over_temperature
from ..networks import put_rows
from ..networks.base import State
from ..networks.prefixes import right_padded
from .agent import DQN


def load_target(folder: Path, tokenizer: Tokenizer, longest: int = 0) -> CausalTarget:
    """p* = the policy of the agent saved in `folder`, at the temperature that it had reached.

    Args:
        folder: what `DQN.save` or a training run wrote.
        tokenizer: the environment's, with the agent's own vocabulary.
        longest: most tokens that will be read.

    Raises ValueError for another vocabulary, temperature 0, or a network for shorter texts.
    """
    agent = DQN.load(folder, device="cpu")
    if agent.tokenizer.vocabulary != tokenizer.vocabulary:
        raise ValueError(
            f"the agent in {folder} was trained with a vocabulary of {len(agent.tokenizer.vocabulary)} tokens that "
            f"differs from the environment's ({len(tokenizer.vocabulary)} tokens); set tokenizer to 'auto'"
        )
    if agent.temperature <= 0.0:
        raise ValueError(f"the agent in {folder} is greedy (temperature 0), which is not a distribution of texts")
    limit = agent.policy_network.max_length
    if limit is not None and longest > limit:
        raise ValueError(
            f"the agent in {folder} reads at most {limit} tokens, but context_length + max_new_tokens is {longest}; "
            "make them smaller"
        )
    return CausalTarget(AgentModel(agent))


class AgentModel:
    """A Q-network as a causal language model; see `tokenlm.envs.targets.causal.CausalModel`.

    Args:
        agent: its network, temperature and valid actions are used; none of them changes.
    """

    def __init__(self, agent: DQN) -> None:
        self.network = agent.policy_network.eval().requires_grad_(False)
        self.vocab_size = self.network.vocab_size
        self.temperature = agent.temperature
        valid = valid_actions(self.vocab_size, agent.env_config, agent.tokenizer)
        self.valid = torch.from_numpy(valid).to(agent.device)

    def read(self, prefixes: Tensor) -> tuple[Tensor, State]:
        """See `CausalModel`."""
        hidden, state = self.network.encode(*right_padded(prefixes))
        return self._log_probs(hidden), state

    def step(self, tokens: Tensor, state: State, active: Tensor) -> tuple[Tensor, State]:
        """See `CausalModel`."""
        kept = tuple(part.clone() if part.dtype == torch.int64 else part for part in state)
        hidden, after = self.network.step(tokens, state)
        # Rows that do not step keep their state; a cache is written in place, behind what they have read.
        state = tuple(
            new if new is old else torch.where(active.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(after, kept, strict=True)
        )
        return self._log_probs(hidden), state

    def put(self, state: State, rows: Tensor, new: State) -> State:
        """See `CausalModel`."""
        put_rows(state, rows, new)
        return state

    def on(self, device: torch.device) -> AgentModel:
        """See `CausalModel`."""
        if device == self.valid.device:
            return self
        moved = copy.copy(self)
        moved.network, moved.valid = copy.deepcopy(self.network).to(device), self.valid.to(device)
        return moved

    def _log_probs(self, hidden: Tensor) -> Tensor:
        values = self.network.policy_values(hidden, self.valid).to(torch.float64)
        return torch.log_softmax(over_temperature(values, self.temperature), -1)
