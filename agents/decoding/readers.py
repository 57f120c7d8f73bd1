"""What reads the texts being written and says what the policy thinks of every next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import Vocabulary
from ..acting.valid_actions import ActionRules
from ..networks import QNetwork
from ..protocol import Agent

Prefixes = Sequence[Sequence[int]]


class Reader(Protocol):
    """Texts under way, a row each, that grow by one token at a time."""

    def values(self) -> Tensor:
        """(B, V) what to act by after the newest token, nats; -inf where an action may not be chosen now."""
        ...

    def step(self, tokens: Tensor) -> None:
        """Read one token (B,) int64 more of each text."""
        ...

    def select(self, rows: Tensor) -> None:
        """Go on with the texts `rows` (R,) int64, in that order; a row may come several times or not at all."""
        ...


# Prefixes, with `<bos>`, to what reads them.
MakeReader = Callable[[Prefixes], Reader]


class NetworkReader:
    """A Q-network that carries its state along and reads one token a step.

    Args:
        network: what reads.
        rules: which actions may be chosen when.
        prefixes: ids of each text so far, with `<bos>`.
        context_length: tokens of a prefix that are read, its last ones: those that the environment would show.
    """

    @torch.no_grad()
    def __init__(self, network: QNetwork, rules: ActionRules, prefixes: Prefixes, context_length: int) -> None:
        network.eval()
        self._network = network
        self._rules = rules
        self._written = 0
        device = rules.valid.device
        rows = [list(prefix)[-context_length:] for prefix in prefixes]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        longest = max(len(row) for row in rows)
        padded = [row + [Vocabulary.PAD] * (longest - len(row)) for row in rows]
        self._hidden, self._state = network.encode(torch.tensor(padded, device=device), lengths)

    @torch.no_grad()
    def values(self) -> Tensor:
        """See `Reader`."""
        rules = self._rules
        valid = rules.valid if self._written >= rules.min_new_tokens else rules.always
        return self._network.policy_values(self._hidden, valid).float()

    @torch.no_grad()
    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._hidden, self._state = self._network.step(tokens, self._state)
        self._written += 1

    def select(self, rows: Tensor) -> None:
        """See `Reader`."""
        self._hidden = self._hidden[rows]
        self._state = tuple(part[rows] for part in self._state)


class WindowReader:
    """An agent of any algorithm, which is asked for log π of the whole window at every token.

    Args:
        agent: what reads.
        valid: (V,) bool, the actions that may ever be chosen.
        min_new_tokens: tokens written before `<eos>` may be chosen.
        prefixes: ids of each text so far, with `<bos>`.
        context_length: tokens in a window.
        greedy: the policy is the agent's deterministic action alone.
    """

    def __init__(
        self,
        agent: Agent,
        valid: npt.NDArray[np.bool_],
        min_new_tokens: int,
        prefixes: Prefixes,
        context_length: int,
        greedy: bool = False,
    ) -> None:
        self._agent = agent
        self._valid = valid
        self._min_new_tokens = min_new_tokens
        self._greedy = greedy
        self._written = 0
        self._windows = np.full((len(prefixes), context_length), Vocabulary.PAD, np.int64)
        for window, prefix in zip(self._windows, prefixes, strict=True):
            last = list(prefix)[-context_length:]
            window[context_length - len(last) :] = last

    def values(self) -> Tensor:
        """See `Reader`."""
        masks = np.tile(self._valid, (len(self._windows), 1))
        masks[:, Vocabulary.EOS] &= self._written >= self._min_new_tokens
        if self._greedy:
            actions, _ = self._agent.predict(self._windows, deterministic=True, action_masks=masks)
            chosen = np.arange(len(self._valid)) == np.asarray(actions)[:, None]
            return torch.from_numpy(np.where(chosen, 0.0, -np.inf))
        return torch.from_numpy(np.asarray(self._agent.log_probs(self._windows, masks), np.float64))

    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._windows = np.concatenate([self._windows[:, 1:], tokens.cpu().numpy()[:, None]], axis=1)
        self._written += 1

    def select(self, rows: Tensor) -> None:
        """See `Reader`."""
        self._windows = self._windows[rows.cpu().numpy()]
