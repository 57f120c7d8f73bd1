"""Which actions may be chosen in a state, and the horizon and rewards of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases, Vocabulary, valid_actions
from ...envs.text import Tokenizer


@dataclass(frozen=True)
class ActionRules:
    """What the learner must know of the environment's rules.

    Args:
        valid: (V,) bool, actions that may ever be chosen.
        eos: the token that ends a text.
        min_new_tokens: actions before `eos` may be chosen.
        max_new_tokens: most actions in an episode.
        reward_every: tokens that a reward pays for, 0 for all of the episode's.
        log_prob_weight: what multiplies the log-likelihood in the reward.
        largest_score: most that a sequence reward adds to an episode, not below 0.
        phrases: what the actions from V on write; `valid` and all masks are then (V + P) wide. None for no phrases.
    """

    valid: Tensor
    eos: int
    min_new_tokens: int
    max_new_tokens: int
    reward_every: int = 1
    log_prob_weight: float = 1.0
    largest_score: float = 0.0
    phrases: Phrases | None = None

    def mask(self, written: Tensor) -> Tensor:
        """(N, V) or (V,) bool, the actions that may be chosen after `written` (N,) tokens."""
        if not self.min_new_tokens:
            return self.valid
        valid = self.valid.repeat(len(written), 1)
        valid[:, self.ending] = self.may_end(written)
        return valid

    def may_end(self, written: Tensor) -> Tensor:
        """(N, E) bool, which actions of `ending` may be chosen after `written` (N,) tokens."""
        return self.valid[self.ending] & (written[:, None] + self._before_eos >= self.min_new_tokens)

    @cached_property
    def ending(self) -> Tensor:
        """(E,) int64, the actions that write `eos`: itself, and phrases that end in it."""
        if self.phrases is None:
            return torch.tensor([self.eos], device=self.valid.device)
        return torch.from_numpy(self.phrases.ends).nonzero().squeeze(1).to(self.valid.device)

    @cached_property
    def _before_eos(self) -> Tensor:
        """(E,) tokens that each of them writes before `eos`."""
        if self.phrases is None:
            return torch.zeros_like(self.ending)
        return torch.from_numpy(self.phrases.lengths).to(self.valid.device)[self.ending] - 1

    @cached_property
    def ways(self) -> int:
        """Most actions that begin with the same token: a text of n tokens has at most ways^n ways to be written."""
        return 1 if self.phrases is None else int(np.bincount(self.phrases.table[:, 0]).max())

    @cached_property
    def always(self) -> Tensor:
        """(V,) bool, the actions that may be chosen in every state."""
        always = self.valid.clone()
        if self.min_new_tokens:
            always[self.ending] = False
        return always

    def masked(self, q_values: Tensor, written: Tensor) -> Tensor:
        """(N, V) values with -inf where the action may not be chosen after `written` (N,) tokens."""
        return q_values.masked_fill(~self.mask(written), -torch.inf)


def make_rules(
    env: EnvConfig,
    vocab_size: int,
    device: torch.device,
    tokenizer: Tokenizer | None = None,
    phrases: Phrases | None = None,
    single: bool = False,
) -> ActionRules:
    """Masks, horizon and rewards of the environment; a task of pairs needs its tokenizer.

    With `single` only those actions are valid that write one token.
    """
    valid = valid_actions(vocab_size, env, tokenizer)
    if phrases is not None:
        valid = phrases.mask(valid, np.int64(env.max_new_tokens), env.min_new_tokens)
        valid &= (phrases.lengths == 1) | (not single)
    return ActionRules(
        torch.from_numpy(valid).to(device),
        Vocabulary.EOS,
        env.min_new_tokens,
        env.max_new_tokens,
        env.reward_every,
        env.log_prob_weight,
        max(0.0, env.sequence_weight) if env.sequence_reward else 0.0,
        phrases,
    )
