"""A Q-network as a policy: act, give log-probabilities, read texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases
from ..acting.choosing import checked_temperature, choose_actions, over_temperature
from ..acting.valid_actions import ValidActions
from ..decoding import NetworkReader, PhraseReader, Prefixes, Reader
from ..networks import QNetwork, put_rows
from ..networks.prefixes import right_padded
from ..protocol import BLOCK, BaseAgent


class QPolicy(BaseAgent):
    """The Boltzmann policy π ∝ exp(Q/τ) of a Q-network that carries its state along.

    Attributes:
        device: of the network.
        phrases: what the actions from V on write; None for no phrases.
        valid_actions: of the environment.
        valid_tokens: those that write one token.
    """

    has_temperature = True

    device: torch.device
    phrases: Phrases | None
    valid_actions: ValidActions
    valid_tokens: ValidActions

    @property
    def policy_network(self) -> QNetwork:
        """The network that predicts and writes."""
        raise NotImplementedError

    def network_policy(self) -> tuple[QNetwork, float]:
        """See `BaseAgent`."""
        return self.policy_network, self.temperature

    def predict(
        self,
        observation: npt.ArrayLike,
        state: tuple[Tensor, ...] | None = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], tuple[Tensor, ...]]:
        """Actions for observations of the environment.

        While learning, playing and scoring, the agent reads the first observation of an episode and all tokens since,
        also those that the window no longer shows; `state` carries this reading. Without it only the window is read,
        which differs once a text is longer than `context_length`.

        Args:
            observation: (L,) or (B, L) int64, as the environment gives it.
            state: as the last call returned it, to read only the newest token; None to read the whole window.
            episode_start: (B,) bool, rows whose window is read from its beginning although `state` is given.
            deterministic: the greedy action; otherwise one drawn from the Boltzmann policy.
            action_masks: (V,) or (B, V) bool, valid actions; None for all that are valid in some state.

        Returns: actions, a scalar array for a single observation and (B,) otherwise, and the new state.
        """
        windows = torch.as_tensor(np.asarray(observation), dtype=torch.int64, device=self.device)
        single = windows.ndim == 1
        windows = windows[None] if single else windows
        network = self.policy_network.eval()
        with torch.no_grad():
            hidden, state = self._read(windows, state, episode_start)
            valid = self._valid(action_masks)
            temperature = 0.0 if deterministic else self.temperature
            values = network.policy_values(hidden, valid)
            actions, _ = choose_actions(values, temperature, generator=self.generator)
        array = actions.cpu().numpy()
        return (array[0] if single else array), state

    @torch.no_grad()
    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s) of the Boltzmann policy, (B, V) in nats, -inf for masked actions, for windows (B, L) int64.

        Only the window is read, as by `predict` without a state. At temperature 0 all but the greedy action have -inf.
        Masks as in `predict`; with masks that have phrases (B, V + P).
        """
        width = self.policy_network.vocab_size if action_masks is None else np.shape(action_masks)[-1]
        windows = torch.as_tensor(np.atleast_2d(np.asarray(observation, np.int64)), device=self.device)
        valid = self._valid(action_masks)
        valid = valid.expand(len(windows), -1)
        network = self.policy_network.eval()
        hidden, _ = network.encode(*right_padded(windows))
        values = network.policy_values(hidden, valid).double().masked_fill(~valid, -torch.inf)
        if self.temperature > 0:
            return torch.log_softmax(over_temperature(values, self.temperature), -1)[:, :width].cpu().numpy()
        best = torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1])
        return torch.where(best.bool(), 0.0, -torch.inf).double()[:, :width].cpu().numpy()

    def reader(self, prefixes: Prefixes, env: EnvConfig | None = None, greedy: bool = False) -> NetworkReader:
        """See `Writer`."""
        return NetworkReader(self.policy_network, self.valid_tokens, prefixes, self.env_config.context_length)

    def acting_reader(self, prefixes: Prefixes, env: EnvConfig, greedy: bool = False) -> Reader:
        """See `BaseAgent`."""
        reader = self.reader(prefixes, env, greedy)
        return reader if self.phrases is None else PhraseReader(reader, self.phrases, env, len(prefixes))

    @torch.no_grad()
    def values_at(
        self,
        tokens: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        env: EnvConfig | None = None,
        written: npt.NDArray[np.int64] | None = None,
        greedy: bool = False,
    ) -> Iterator[Tensor]:
        """See `BaseAgent`; one causal pass over the texts."""
        network, valid = self.policy_network.eval(), self.valid_tokens
        hidden = network(torch.from_numpy(tokens).to(self.device))[rows, columns]
        places, texts = torch.from_numpy(rows * tokens.shape[1] + columns), torch.from_numpy(tokens)
        if written is None and valid.form is not None:
            raise ValueError("with a form the valid actions depend on the tokens written; pass written")
        anywhere = np.full(len(rows), self.env_config.max_new_tokens)  # where <eos> is valid if it ever is
        for first in range(0, len(rows), at_once := max(1, BLOCK // network.vocab_size)):
            part = slice(first, first + at_once)
            count = torch.from_numpy((anywhere if written is None else written)[part])
            masks = valid.mask(count.to(self.device), valid.allowed_at(texts, places[part], count))
            yield network.policy_values(hidden[part], masks)

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`."""
        return self.temperature if asked is None else checked_temperature(asked)

    def _valid(self, action_masks: npt.ArrayLike | None) -> Tensor:
        """(V + P,) or (B, V + P) bool; masks without phrases allow none."""
        if action_masks is None:
            return self.valid_tokens.valid
        valid = torch.as_tensor(np.asarray(action_masks), device=self.device).bool()
        return torch.nn.functional.pad(valid, (0, self.policy_network.num_actions - valid.shape[-1]))

    def _read(
        self, windows: Tensor, state: tuple[Tensor, ...] | None, episode_start: npt.ArrayLike | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        # A phrase has written more than the newest token.
        if state is None or self.phrases is not None:
            return self.policy_network.encode(*right_padded(windows))
        hidden, state = self.policy_network.step(windows[:, -1], state)
        if episode_start is not None and np.any(episode_start):
            rows = torch.as_tensor(np.flatnonzero(episode_start), device=self.device)
            fresh, new = self.policy_network.encode(*right_padded(windows[rows]))
            hidden[rows] = fresh
            put_rows(state, rows, new)
        return hidden, state
