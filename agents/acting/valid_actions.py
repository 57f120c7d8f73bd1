"""Masks of valid actions, as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases, Vocabulary, valid_actions
from ...envs.forms import Form, make_form, states_after
from ...envs.text import Tokenizer


@dataclass(frozen=True)
class ValidActions:
    """The valid actions of an environment, for batches of states. With phrases V + P replaces V in all shapes.

    Args:
        env: the environment's arguments.
        valid: (V,) bool, the actions that are valid in some state.
        phrases: phrase p is written by action V + p; None for no phrases.
        form: the environment's form; None if it has none.
    """

    env: EnvConfig
    valid: Tensor
    phrases: Phrases | None = None
    form: Form | None = None

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
            tokenizer: the environment's, needed for tasks of pairs and forms.
            phrases: phrases that are actions too.
            single: only actions that write one token are valid.
        """
        if phrases is not None and env.no_repeat:
            raise ValueError("phrases would repeat tokens, so with no_repeat set phrases to 0")
        if phrases is not None and env.form:
            raise ValueError(f"phrases know nothing of the form {env.form!r}, so set phrases to 0")
        if env.form and tokenizer is None:
            raise ValueError(f"what the form {env.form!r} allows depends on its tokenizer; pass the tokenizer")
        valid = valid_actions(vocab_size, env, tokenizer)
        if phrases is not None:
            valid = phrases.mask(valid, np.int64(env.max_new_tokens), env.min_new_tokens)
            valid &= (phrases.lengths == 1) | (not single)
        form = make_form(env.form, tokenizer) if env.form and tokenizer is not None else None
        return cls(env, torch.from_numpy(valid).to(device), phrases, form)

    @property
    def device(self) -> torch.device:
        """Device of the masks."""
        return self.valid.device

    def mask(self, written: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(N, V) or, if equal for all, (V,) bool: the valid actions after `written` (N,) new tokens.

        `allowed` (N, V) bool is what `no_repeat` and a form leave; see `allowed_at`.
        """
        if not self.env.min_new_tokens:
            return self.valid if allowed is None else self.valid & allowed
        valid = self.valid.repeat(len(written), 1)
        valid[:, self.ending] = self.may_end(written)
        return valid if allowed is None else valid & allowed

    def allowed_at(self, tokens: Tensor, places: Tensor, written: Tensor) -> Tensor | None:
        """(N, V) bool, what `no_repeat` and the form allow after some tokens; None where there is neither.

        Args:
            tokens: (R, T) texts, right-padded.
            places: (N,) of the newest tokens in the flattened texts.
            written: (N,) tokens written up to there.
        """
        if not self.env.no_repeat and self.form is None:
            return None
        length = tokens.shape[1] if self.form is not None else self.env.no_repeat
        back = torch.arange(length - 1, -1, -1, device=tokens.device)
        inside = places[:, None] % tokens.shape[1] >= back
        windows = torch.where(inside, tokens.flatten()[(places[:, None] - back).clamp(min=0)], Vocabulary.PAD)
        return self.allowed_after(windows, None if self.form is None else states_after(self.form, windows, written))

    def allowed_after(self, windows: Tensor, form_states: Tensor | None) -> Tensor:
        """(N, V) bool, what `no_repeat` and the form allow after windows (N, L), in its states (N, S)."""
        if self.form is None or form_states is None:
            allowed = torch.ones((len(windows), len(self.valid)), dtype=torch.bool, device=self.device)
        else:
            every = torch.arange(len(self.valid), device=form_states.device)[None, :]
            allowed = self.form.allowed(form_states, every).to(self.device)
        if not self.env.no_repeat:
            return allowed
        return without(allowed, windows[:, windows.shape[1] - self.env.no_repeat :])

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

    def masked(self, q_values: Tensor, written: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(N, V) values, -inf for actions that are not valid; arguments as in `mask`."""
        return q_values.masked_fill(~self.mask(written, allowed), -torch.inf)


def without(valid: Tensor, recent: Tensor) -> Tensor:
    """(N, V) bool, `valid` without the recent tokens (N, n); `<eos>` stays as it is."""
    banned = torch.zeros_like(valid).scatter_(1, recent.to(valid.device), True)
    banned[:, Vocabulary.EOS] = False
    return valid & ~banned
