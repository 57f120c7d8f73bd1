"""Readers: they read texts being written and give the policy's values for every next token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases, Vocabulary
from ..acting.phrases import Decisions
from ..acting.valid_actions import ValidActions
from ..networks import QNetwork
from ..networks.prefixes import Prefixes, rows_of, windows_of


class Reader(Protocol):
    """Texts under way, a row each, that grow by one token at a time.

    The policy is π ∝ exp(values/τ). Acting with phrases chooses actions that write several tokens; every other reader
    chooses tokens.

    Attributes:
        by_token: whether every action is a token, so that the values give log-probabilities of tokens.
    """

    @property
    def by_token(self) -> bool:
        """Whether every action is a token."""
        ...

    def values(self, valid: Tensor | None = None) -> Tensor:
        """(B, V) values to act by after the newest token, nats; -inf where an action is not valid.

        Args:
            valid: (B, V) bool, the valid tokens; None for those of the environment's arguments.
        """
        ...

    def tokens(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that (B,) actions write now, (B,) int64, and whether each was chosen just now, (B,) bool."""
        ...

    def step(self, tokens: Tensor) -> None:
        """Read one token (B,) int64 more of each text."""
        ...

    def select(self, rows: Tensor) -> None:
        """Go on with the texts `rows` (R,) int64, in that order; a row may come several times or not at all."""
        ...


# Prefixes, with `<bos>`, to what reads them.
MakeReader = Callable[[Prefixes], Reader]


class WindowPolicy(Protocol):
    """What a `WindowReader` asks; see `tokenlm.agents.Agent`."""

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions (B,)."""

    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s), (B, V)."""


class ByToken:
    """A reader whose actions are tokens."""

    @property
    def by_token(self) -> bool:
        """See `Reader`."""
        return True

    def tokens(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """See `Reader`."""
        return actions, torch.ones_like(actions, dtype=torch.bool)


class NetworkReader(ByToken):
    """A Q-network that carries its state along and reads one token a step.

    Args:
        network: what reads.
        valid_actions: of the environment.
        prefixes: ids of each text so far, with `<bos>`.
        context_length: tokens of a prefix that are read, its last ones: those that the environment would show.
    """

    @torch.no_grad()
    def __init__(self, network: QNetwork, valid_actions: ValidActions, prefixes: Prefixes, context_length: int) -> None:
        network.eval()
        self._network = network
        self._valid_actions = valid_actions
        self._written = 0
        self._hidden, self._state = network.encode(*rows_of(prefixes, context_length, valid_actions.device))

    @torch.no_grad()
    def values(self, valid: Tensor | None = None) -> Tensor:
        """See `Reader`."""
        if valid is None:
            known = self._valid_actions
            valid = known.valid if self._written >= known.env.min_new_tokens else known.always
        return self._network.policy_values(self._hidden, valid.to(self._hidden.device)).float()

    @torch.no_grad()
    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._hidden, self._state = self._network.step(tokens.to(self._hidden.device), self._state)
        self._written += 1

    def select(self, rows: Tensor) -> None:
        """See `Reader`."""
        self._hidden = self._hidden[rows]
        self._state = tuple(part[rows] for part in self._state)


class PhraseReader:
    """A reader whose actions may write whole phrases; a phrase once begun is written to its end.

    Args:
        reader: gives values of tokens and phrases.
        phrases: what the actions from V on write.
        env: the environment's arguments.
        count: B.
    """

    by_token = False

    def __init__(self, reader: NetworkReader, phrases: Phrases, env: EnvConfig, count: int) -> None:
        self._reader, self._phrases, self._env = reader, phrases, env
        self._decisions = Decisions(phrases, count)
        self._written = np.zeros(count, np.int64)

    def values(self, valid: Tensor | None = None) -> Tensor:
        """(B, V + P), see `Reader`; `valid` is needed."""
        if valid is None:
            raise ValueError("a reader of phrases needs the valid tokens of every state")
        masks = self._phrases.mask(valid.cpu().numpy(), self._written, self._env.min_new_tokens)
        return self._reader.values(torch.from_numpy(masks))

    def tokens(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """See `Reader`."""
        tokens, place = self._decisions.write(actions)
        return tokens, place == 0

    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._reader.step(tokens)
        self._written += 1

    def select(self, rows: Tensor) -> None:
        """Not possible: phrases in progress stay in their rows."""
        raise NotImplementedError("texts of phrases cannot be selected")


class WindowReader(ByToken):
    """An agent that is asked for log π of the whole window at every token.

    Args:
        agent: what reads.
        valid: (V,) bool, the actions that are valid in some state.
        env: the environment's arguments.
        prefixes: ids of each text so far, with `<bos>`.
        greedy: the policy is the agent's deterministic action alone.
    """

    def __init__(
        self,
        agent: WindowPolicy,
        valid: npt.NDArray[np.bool_],
        env: EnvConfig,
        prefixes: Prefixes,
        greedy: bool = False,
    ) -> None:
        self._agent = agent
        self._valid = valid
        self._min_new_tokens = env.min_new_tokens
        self._greedy = greedy
        self._written = 0
        self._windows = windows_of(prefixes, env.context_length)

    def values(self, valid: Tensor | None = None) -> Tensor:
        """See `Reader`."""
        if valid is None:
            masks = np.tile(self._valid, (len(self._windows), 1))
            masks[:, Vocabulary.EOS] &= self._written >= self._min_new_tokens
        else:
            masks = valid.cpu().numpy()
        return torch.from_numpy(window_values(self._agent, self._windows, masks, self._greedy))

    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._windows = np.concatenate([self._windows[:, 1:], tokens.cpu().numpy()[:, None]], axis=1)
        self._written += 1

    def select(self, rows: Tensor) -> None:
        """See `Reader`."""
        self._windows = self._windows[rows.cpu().numpy()]


def window_values(
    agent: WindowPolicy, windows: npt.NDArray[np.int64], masks: npt.NDArray[np.bool_], greedy: bool = False
) -> npt.NDArray[np.float64]:
    """(B, V) log π after windows (B, L) under masks (B, V), nats; greedy: 0 for the agent's action, else -inf."""
    if greedy:
        actions, _ = agent.predict(windows, deterministic=True, action_masks=masks)
        return np.where(np.arange(masks.shape[1]) == np.asarray(actions)[:, None], 0.0, -np.inf)
    return np.asarray(agent.log_probs(windows, masks), np.float64)
