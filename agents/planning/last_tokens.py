"""Planning with a model of the rewards by dynamic programming over the last token."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...envs import EnvConfig, Vocabulary, World
from ...envs.arrays import Floats, Ints
from ...envs.forms import Form
from .estimate import Mask
from .planner import Episodes, Model

_ENTRIES = 1 << 23  # (last token, token) pairs scored at once
MAX_ENTRIES = 1 << 28  # (last token, token) pairs of a whole text, for one prompt and state of the form


class MarkovModel(Model, Protocol):
    """A model of the rewards that depend on the prompt, the last token and the number of tokens written."""

    form: Form | None

    def prompt_of(self, first: Ints) -> Ints:
        """(B, P) what it reads of the prompt in first observations (B, L)."""
        ...

    def form_states(self, windows: Ints, written: Ints) -> Ints:
        """(B, S) states of the form after observations (B, L) and `written` (B,) tokens; S is 0 without a form."""
        ...

    def rewards_after(self, prompts: Ints, allowed: Mask, last: Ints, step: int, optimism: float) -> Tensor:
        """(B, W, V) modelled log-probabilities in nats, without what a form pays.

        Args:
            prompts: (B, P) from `prompt_of`.
            allowed: (B, V) tokens that are valid after them, as far as no last token forbids them.
            last: (W,) last tokens.
            step: tokens written.
            optimism: see `RewardEstimate.rewards`.
        """
        ...


def entries_of_a_text(world: World, config: EnvConfig) -> int:
    """(Last token, token) pairs that are scored for a prompt and a state of the form."""
    return config.max_new_tokens * len(world.words) * world.vocab_size


class LastTokens:
    """Values under the model by dynamic programming, where only the prompt, the form and the last token count.

    Args:
        model: the rewards.
    """

    def __init__(self, model: MarkovModel) -> None:
        self._model = model
        self._values = Values(model, 0.0)

    def forget(self) -> None:
        """See `Planner`."""
        self._values = Values(self._model, 0.0)

    def episodes(self, first: Ints, noise: Floats, optimism: float, rng: np.random.Generator) -> Episodes:
        """See `Planner`; the noise is on every value, times τ where that is not 0."""
        return _Choices(Values(self._model, optimism), self._model.temperature, first, noise, rng)

    def values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """See `Planner`."""
        return self._values.after(first, windows, written)


class Values:
    """Soft values under an optimistic model, computed where they are asked for.

    A place is what the rest of a text depends on beside its last token: the part of the prompt that is read, and the
    state of the form.

    Args:
        model: the rewards.
        optimism: see `RewardEstimate.rewards`.
    """

    def __init__(self, model: MarkovModel, optimism: float) -> None:
        self._model, self._optimism = model, optimism
        self._horizon = model.env_config.max_new_tokens
        # After so many tokens: (V,) values by last token of every place.
        self._known: list[dict[bytes, Tensor]] = [{} for _ in range(self._horizon + 1)]
        self._width = model.prompt_of(np.zeros((1, model.env_config.context_length), np.int64)).shape[1]

    @torch.no_grad()
    def after(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """(B, V) rewards plus values of what follows; arguments as `Positioned.state_values`."""
        steps = np.minimum(written, self._horizon - 1)
        later = torch.zeros(len(first), self._model.world.vocab_size)
        places = np.concatenate([self._model.prompt_of(first), self._model.form_states(windows, steps)], axis=1)
        for step in np.unique(steps):
            rows = np.flatnonzero(steps == step)
            own, which = np.unique(places[rows], axis=0, return_inverse=True)
            self._prepare(own, int(step))
            later[torch.from_numpy(rows)] = self._later(own, int(step))[torch.from_numpy(which.reshape(-1))]
        rewards = self._model.rewards(first, windows, steps, self._optimism).cpu()
        values: Floats = (rewards + later).numpy().astype(np.float64)
        return values

    def _prepare(self, places: Ints, step: int) -> None:
        """Compute the values of all that can follow `places` (N, P + S) with `step` tokens written."""
        layers = []
        for following in range(step + 1, self._horizon):
            reached = self._next(places, following - 1)
            new = np.unique(reached.reshape(-1, reached.shape[-1]), axis=0)
            places = np.array([place for place in new if place.tobytes() not in self._known[following]])
            if not len(places):
                break
            layers.append((following, places))
        for following, places in reversed(layers):
            keys = [place.tobytes() for place in places]
            self._known[following].update(zip(keys, self._best(places, following).unbind(), strict=True))

    def _next(self, places: Ints, step: int) -> Ints:
        """(N, V, P + S) places after each token, (N, 1, P) without a form.

        Those after tokens that are not allowed are that of one that is.
        """
        size, form = self._model.world.vocab_size, self._model.form
        if form is None:
            return places[:, None]
        prompts, states = places[:, : self._width], places[:, self._width :]
        tokens = np.arange(size)
        after = np.asarray(form.next(np.repeat(states, size, axis=0), np.tile(tokens, len(states))))
        after = after.reshape(len(states), size, -1)
        allowed = self._allowed(places, step)
        some = np.take_along_axis(after, allowed.argmax(1)[:, None, None], axis=1)
        after = np.where(allowed[:, :, None], after, some)
        return np.concatenate([np.broadcast_to(prompts[:, None], (*after.shape[:2], self._width)), after], axis=2)

    def _later(self, places: Ints, step: int) -> Tensor:
        """(N, V) values after each token, with `step` tokens written before it."""
        if step + 1 == self._horizon:
            return torch.zeros(len(places), self._model.world.vocab_size)
        known, following = self._known[step + 1], self._next(places, step)
        own, which = np.unique(following.reshape(-1, following.shape[-1]), axis=0, return_inverse=True)
        values = torch.stack([known[place.tobytes()] for place in own])
        later = values[torch.from_numpy(which.reshape(following.shape[:2])), torch.arange(values.shape[1])]
        later[:, Vocabulary.EOS] = 0.0
        return later

    def _allowed(self, places: Ints, step: int) -> Mask:
        """(N, V) bool, what is valid with `step` tokens written, as far as no last token forbids it."""
        world, form = self._model.world, self._model.form
        allowed = np.tile(world.valid, (len(places), 1))
        allowed[:, Vocabulary.EOS] &= step >= self._model.env_config.min_new_tokens
        if form is not None:
            allowed &= np.asarray(form.allowed(places[:, self._width :], np.arange(world.vocab_size)[None, :]))
        return allowed

    def _best(self, places: Ints, step: int) -> Tensor:
        """(N, V) soft values of places by last token; 0 for tokens that are no words, which are never last."""
        model, tau = self._model, self._model.temperature
        words, size = model.world.words, model.world.vocab_size
        at_once = max(1, _ENTRIES // (len(words) * size))
        if len(places) > at_once:
            return torch.cat([self._best(places[i : i + at_once], step) for i in range(0, len(places), at_once)])
        allowed, later = self._allowed(places, step), self._later(places, step)
        if model.form is not None:
            states = places[:, self._width :]
            bonus = np.asarray(model.form.bonus(states, np.arange(size)[None, :]))
            later += torch.from_numpy(model.env_config.form_bonus * bonus).float()
        # Places that differ in nothing that is read share their rewards.
        same = np.concatenate([places[:, : self._width], np.packbits(allowed, axis=1).astype(np.int64)], axis=1)
        _, one, which = np.unique(same, axis=0, return_index=True, return_inverse=True)
        rewards = model.rewards_after(places[one, : self._width], allowed[one], words, step, self._optimism).cpu()
        some = np.flatnonzero(allowed.any(0))
        if 2 * len(some) < size:  # a form allows few tokens
            rewards, later = rewards[:, :, some], later[:, some]
        which = which.reshape(-1)
        if not np.array_equal(which, np.arange(len(places))):
            rewards = rewards[torch.from_numpy(which)]
        q_values = rewards.add_(later[:, None])
        best = tau * torch.logsumexp(q_values.div_(tau), -1) if tau else q_values.amax(-1)
        values = torch.zeros(len(places), size)
        values[:, torch.from_numpy(words)] = best
        return values


class _Choices:
    """Tokens chosen by values under an optimistic model, with noise."""

    def __init__(self, values: Values, tau: float, first: Ints, noise: Floats, rng: np.random.Generator) -> None:
        self._values, self._first, self._rng = values, first, rng
        self._blind = np.isinf(noise)[:, None]
        self._noise = np.where(self._blind, 1.0, tau or noise[:, None])

    def actions(self, windows: Ints, written: int) -> Ints:
        """See `Episodes`."""
        values = self._values.after(self._first, windows, np.full(len(windows), written, np.int64))
        values = np.where(self._blind & np.isfinite(values), 0.0, values)
        chosen: Ints = (values + self._noise * self._rng.gumbel(size=values.shape)).argmax(1)
        return chosen
