"""Masks of valid actions, as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases, Vocabulary, valid_actions
from ...envs.text import Tokenizer


@dataclass(frozen=True)
class ValidActions:
    """The valid actions of an environment, for batches of states. With phrases V + P replaces V in all shapes.

    Args:
        env: the environment's arguments.
        valid: (V,) bool, the actions that are valid in some state.
        phrases: phrase p is written by action V + p; None for no phrases.
    """

    env: EnvConfig
    valid: Tensor
    phrases: Phrases | None = None

    @classmethod
    def of(
        cls,
        env: EnvConfig,
        vocab_size: int,
        device: torch.device | str = "cpu",
        tokenizer: Tokenizer | None = None,
        phrases: Phrases | None = None,
        single: bool = False,
    ) -> ValidActions:
        """The valid actions of `env`.

        Args:
            env: the environment's arguments.
            vocab_size: V.
            device: of the masks.
            tokenizer: the environment's, needed for tasks of pairs.
            phrases: phrases that are actions too.
            single: only actions that write one token are valid.
        """
        if phrases is not None and env.no_repeat:
            raise ValueError("phrases would repeat tokens, so with no_repeat set phrases to 0")
        valid = valid_actions(vocab_size, env, tokenizer)
        if phrases is not None:
            valid = phrases.mask(valid, np.int64(env.max_new_tokens), env.min_new_tokens)
            valid &= (phrases.lengths == 1) | (not single)
        return cls(env, torch.from_numpy(valid).to(device), phrases)

    @property
    def device(self) -> torch.device:
        """Device of the masks."""
        return self.valid.device

    def mask(self, written: Tensor, recent: Tensor | None = None) -> Tensor:
        """(N, V) or, if equal for all, (V,) bool: the valid actions after `written` (N,) new tokens.

        `recent` (N, n) are the last tokens, which `no_repeat` needs; see `recent_at`.
        """
        if not self.env.min_new_tokens:
            return self.valid if recent is None else without(self.valid.repeat(len(recent), 1), recent)
        valid = self.valid.repeat(len(written), 1)
        valid[:, self.ending] = self.may_end(written)
        return valid if recent is None else without(valid, recent)

    def recent_at(self, tokens: Tensor, places: Tensor) -> Tensor | None:
        """(N, no_repeat) last tokens at `places` (N,) of the flattened texts (R, T), `<pad>` before their beginning.

        None without `no_repeat`.
        """
        if not self.env.no_repeat:
            return None
        back = torch.arange(self.env.no_repeat - 1, -1, -1, device=tokens.device)
        inside = places[:, None] % tokens.shape[1] >= back
        return torch.where(inside, tokens.flatten()[(places[:, None] - back).clamp(min=0)], Vocabulary.PAD)

    def may_end(self, written: Tensor) -> Tensor:
        """(N, E) bool, which actions of `ending` are valid after `written` (N,) new tokens."""
        return self.valid[self.ending] & (written[:, None] + self._before_eos >= self.env.min_new_tokens)

    @cached_property
    def ending(self) -> Tensor:
        """(E,) int64, the actions that write `<eos>`: the token itself, and phrases that end in it."""
        if self.phrases is None:
            return torch.tensor([Vocabulary.EOS], device=self.device)
        return torch.from_numpy(self.phrases.ends).nonzero().squeeze(1).to(self.device)

    @cached_property
    def _before_eos(self) -> Tensor:
        """(E,) int64, tokens that each action of `ending` writes before `<eos>`."""
        if self.phrases is None:
            return torch.zeros_like(self.ending)
        return torch.from_numpy(self.phrases.lengths).to(self.device)[self.ending] - 1

    @cached_property
    def ways(self) -> int:
        """Most actions with the same first token: a text of n tokens has at most ways^n segmentations into actions."""
        return 1 if self.phrases is None else int(np.bincount(self.phrases.table[:, 0]).max())

    @cached_property
    def always(self) -> Tensor:
        """(V,) bool, the actions that are valid in every state."""
        always = self.valid.clone()
        if self.env.min_new_tokens:
            always[self.ending] = False
        return always

    def masked(self, q_values: Tensor, written: Tensor, recent: Tensor | None = None) -> Tensor:
        """(N, V) values, -inf for actions that are not valid; arguments as in `mask`."""
        return q_values.masked_fill(~self.mask(written, recent), -torch.inf)


def without(valid: Tensor, recent: Tensor) -> Tensor:
    """(N, V) bool, `valid` without the recent tokens (N, n); `<eos>` stays as it is."""
    banned = torch.zeros_like(valid).scatter_(1, recent.to(valid.device), True)
    banned[:, Vocabulary.EOS] = False
    return valid & ~banned
