"""Readers: they read prefixes while decoding, and give the policy's values for the next token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases, Vocabulary
from ...envs.forms import Form, states_after
from ..acting.phrases import Decisions
from ..acting.valid_actions import ValidActions
from ..networks import QNetwork
from ..networks.prefixes import Prefixes, rows_of, windows_of


class Reader(Protocol):
    """Unfinished texts, one per row, that grow by one token per step.

    The policy is π ∝ exp(values/τ). With phrases an action may write several tokens; otherwise actions are tokens.

    Attributes:
        by_token: whether every action is a token, so that the values give log-probabilities of tokens.
    """

    @property
    def by_token(self) -> bool:
        """Whether every action is a token."""
        ...

    def values(self, valid: Tensor | None = None) -> Tensor:
        """(B, V) values of the actions after the last token, nats; -inf for actions that are not valid.

        Args:
            valid: (B, V) bool, the valid tokens; None derives them from the environment's arguments.
        """
        ...

    def tokens(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) actions -> (B,) int64 tokens that they write now, and (B,) bool, whether a new action was started."""
        ...

    def step(self, tokens: Tensor) -> None:
        """Append one token to each text, (B,) int64."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep the texts `rows` (R,) int64, in that order; a row may be repeated or left out."""
        ...


# Makes a reader of prefixes that start with `<bos>`.
MakeReader = Callable[[Prefixes], Reader]


class WindowPolicy(Protocol):
    """A policy that reads the windows that the environment shows."""

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions (B,) for observations (B, L) int64, as of stable-baselines3; with `deterministic` the best ones."""
        ...

    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s) of the policy as it acts, (B, V) in nats, for observations (B, L) and masks (B, V) bool."""
        ...


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
    """A Q-network with a recurrent state or cache, which processes one token per step.

    Args:
        network: the Q-network.
        valid_actions: of the environment.
        prefixes: ids of each prefix, starting with `<bos>`.
        context_length: only the last `context_length` tokens of a prefix are read, as in an observation.
    """

    @torch.no_grad()
    def __init__(self, network: QNetwork, valid_actions: ValidActions, prefixes: Prefixes, context_length: int) -> None:
        network.eval()
        self._network = network
        self._valid_actions = valid_actions
        self._written = 0
        form, places = valid_actions.form, valid_actions.env.no_repeat
        length = valid_actions.env.context_length if form is not None else max(1, places)
        windows = torch.from_numpy(windows_of(prefixes, length)).to(valid_actions.device)
        self._recent = windows[:, length - places :]  # (B, no_repeat)
        self._form_states: Tensor | None = None if form is None else form.start(windows)
        self._hidden, self._state = network.encode(*rows_of(prefixes, context_length, valid_actions.device))

    @torch.no_grad()
    def values(self, valid: Tensor | None = None) -> Tensor:
        """See `Reader`."""
        if valid is None:
            known = self._valid_actions
            valid = known.valid if self._written >= known.env.min_new_tokens else known.always
            if known.env.no_repeat or known.form is not None:
                valid = valid & known.allowed_after(self._recent, self._form_states)
        return self._network.policy_values(self._hidden, valid.to(self._hidden.device)).float()

    @torch.no_grad()
    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._hidden, self._state = self._network.step(tokens.to(self._hidden.device), self._state)
        self._written += 1
        if self._valid_actions.env.no_repeat:
            self._recent = torch.cat([self._recent[:, 1:], tokens.to(self._recent)[:, None]], 1)
        form = self._valid_actions.form
        if form is not None and self._form_states is not None:
            self._form_states = form.next(self._form_states, tokens.to(self._form_states.device))

    def select(self, rows: Tensor) -> None:
        """See `Reader`."""
        self._recent = self._recent[rows]
        if self._form_states is not None:
            self._form_states = self._form_states[rows]
        self._hidden = self._hidden[rows]
        self._state = tuple(part[rows] for part in self._state)


class PhraseReader:
    """A reader whose actions may be phrases; a phrase that was started is always completed.

    Args:
        reader: gives values of tokens and phrases.
        phrases: phrase p is written by action V + p.
        env: the environment's arguments.
        count: B.
    """

    by_token = False

    def __init__(self, reader: NetworkReader, phrases: Phrases, env: EnvConfig, count: int) -> None:
        self._reader, self._phrases, self._env = reader, phrases, env
        self._decisions = Decisions(phrases, count)
        self._written = np.zeros(count, np.int64)

    def values(self, valid: Tensor | None = None) -> Tensor:
        """(B, V + P) values, see `Reader`; `valid` is required."""
        if valid is None:
            raise ValueError("a PhraseReader needs the valid tokens of every state; pass valid")
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
        """Not supported."""
        raise NotImplementedError("a PhraseReader cannot select rows")


class WindowReader(ByToken):
    """An agent without a state, which processes the whole window at every step.

    Args:
        agent: gives log π.
        valid: (V,) bool, the actions that are valid in some state.
        env: the environment's arguments.
        prefixes: ids of each prefix, starting with `<bos>`.
        greedy: use the agent's deterministic action instead of log π.
        form: the environment's form; None if it has none.
    """

    def __init__(
        self,
        agent: WindowPolicy,
        valid: npt.NDArray[np.bool_],
        env: EnvConfig,
        prefixes: Prefixes,
        greedy: bool = False,
        form: Form | None = None,
    ) -> None:
        self._form = form
        self._agent = agent
        self._valid = valid
        self._env = env
        self._greedy = greedy
        self._written = 0
        self._windows = windows_of(prefixes, env.context_length)

    def values(self, valid: Tensor | None = None) -> Tensor:
        """See `Reader`."""
        if valid is None:
            masks = masks_after(self._valid, self._windows, self._written, self._env, self._form)
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


def masks_after(
    valid: npt.NDArray[np.bool_],
    windows: npt.NDArray[np.int64],
    written: npt.NDArray[np.int64] | int | None,
    env: EnvConfig,
    form: Form | None = None,
) -> npt.NDArray[np.bool_]:
    """(B, V) bool, the valid actions after windows (B, L).

    Args:
        valid: (V,) bool, actions that are valid somewhere.
        windows: (B, L) int64.
        written: new tokens so far, (B,) or one number; None: `<eos>` is valid wherever it ever is.
        env: the environment's arguments.
        form: its form; None if it has none. With one, `written` must be known.
    """
    masks = np.tile(valid, (len(windows), 1))
    if written is not None:
        masks[:, Vocabulary.EOS] &= written >= env.min_new_tokens
    if form is not None:
        if written is None:
            raise ValueError("with a form the valid actions depend on the tokens written; pass written")
        states = states_after(form, windows, np.broadcast_to(np.asarray(written, np.int64), (len(windows),)))
        masks &= form.allowed(states, np.arange(len(valid))[None, :])
    if not env.no_repeat:
        return masks
    banned = np.zeros_like(masks)
    np.put_along_axis(banned, windows[:, -env.no_repeat :], True, axis=1)
    banned[:, Vocabulary.EOS] = False
    return masks & ~banned


def window_values(
    agent: WindowPolicy, windows: npt.NDArray[np.int64], masks: npt.NDArray[np.bool_], greedy: bool = False
) -> npt.NDArray[np.float64]:
    """(B, V) log π after windows (B, L) with masks (B, V), nats; if `greedy`, 0 for the agent's action, -inf else."""
    if greedy:
        actions, _ = agent.predict(windows, deterministic=True, action_masks=masks)
        return np.where(np.arange(masks.shape[1]) == np.asarray(actions)[:, None], 0.0, -np.inf)
    return np.asarray(agent.log_probs(windows, masks), np.float64)
