"""A beam search for the best text under a model of the rewards."""

from __future__ import annotations

import numpy as np
import torch

from ...envs import Vocabulary
from ...envs.arrays import Floats, Ints
from .planner import Episodes, Model

_ENTRIES = 1 << 23  # (state, token) pairs scored at once


class BeamSearch:
    """The best text that a beam search under the model finds.

    Args:
        model: the rewards.
        beams: width of the search for texts that are shown; a quarter of it for texts to learn from.
    """

    def __init__(self, model: Model, beams: int) -> None:
        self._model, self._beams = model, beams
        self._plans: dict[bytes, Ints] = {}

    def forget(self) -> None:
        """See `Planner`."""
        self._plans.clear()

    def episodes(self, first: Ints, noise: Floats, optimism: float, rng: np.random.Generator) -> Episodes:
        """See `Planner`; the noise is on every reward."""
        return _Texts(self.texts(first, first, 0, max(1, self._beams // 4), (noise, optimism, rng)))

    def values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """0 for the next token of the plan, -inf for others; planned anew where another text was begun."""
        length = windows.shape[1]
        keys = [row.tobytes() for row in first]
        new = {key: place for place, key in enumerate(keys) if key not in self._plans}
        if new:
            some = first[list(new.values())]
            self._plans.update(zip(new, self.texts(some, some, 0, self._beams), strict=True))
        plans = np.stack([self._plans[key] for key in keys])
        steps = np.minimum(written, plans.shape[1] - 1)
        tokens = plans[np.arange(len(plans)), steps]
        for count in np.unique(steps):
            rows = np.flatnonzero(steps == count)
            wrote = windows[rows, length - min(count, length) :]
            strayed = rows[(wrote != plans[rows, max(0, count - length) : count]).any(1)]
            if len(strayed):
                tokens[strayed] = self.texts(first[strayed], windows[strayed], int(count), self._beams)[:, 0]
        return np.where(np.arange(self._model.world.vocab_size) == tokens[:, None], 0.0, -np.inf)

    @torch.no_grad()
    def texts(
        self,
        first: Ints,
        windows: Ints,
        written: int,
        width: int,
        search: tuple[Floats, float, np.random.Generator] | None = None,
    ) -> Ints:
        """The best texts that are found.

        Args:
            first: (B, L) first observations of the episodes.
            windows: (B, L) observations now.
            written: tokens written between them.
            width: hypotheses kept after every token.
            search: noise (B,), optimism and source of noise as in `Planner.episodes`; None for neither.

        Returns: (B, T - written) ids, `<pad>` after the ends.
        """
        count, length = windows.shape
        size, horizon = self._model.world.vocab_size, self._model.env_config.max_new_tokens
        at_once = max(1, _ENTRIES // (width * size))
        if count > at_once:
            parts = []
            for start in range(0, count, at_once):
                p = slice(start, start + at_once)
                noisy = None if search is None else (search[0][p], *search[1:])
                parts.append(self.texts(first[p], windows[p], written, width, noisy))
            return np.concatenate(parts)
        totals, ended = np.zeros((count, 1)), np.zeros((count, 1), np.bool_)
        texts = windows[:, None]  # (B, K, L + tokens)
        for step in range(written, horizon):
            kept = texts.shape[1]
            now = texts[:, :, -length:].reshape(-1, length)
            rewards = self._model.rewards(
                np.repeat(first, kept, axis=0), now, np.full(len(now), step, np.int64), search[1] if search else 0.0
            )
            gains = rewards.cpu().numpy().astype(np.float64).reshape(count, kept, size)
            if search is not None:
                gains = _perturbed(gains, search[0], search[2])
            if ended.any():  # a text that has ended stays as it is
                gains[ended] = -np.inf
                gains[ended, Vocabulary.PAD] = 0.0
            candidates = (totals[:, :, None] + gains).reshape(count, -1)
            best = _largest(candidates, min(width, candidates.shape[1]))
            parent, token = np.divmod(best, size)
            totals = np.take_along_axis(candidates, best, axis=1)
            texts = np.concatenate([np.take_along_axis(texts, parent[:, :, None], axis=1), token[:, :, None]], axis=2)
            ended = np.take_along_axis(ended, parent, axis=1) | (token == Vocabulary.EOS)
            if ended.all():
                break
        found = texts[:, 0, length:]
        return np.pad(found, ((0, 0), (0, horizon - written - found.shape[1])), constant_values=Vocabulary.PAD)


class _Texts:
    """Texts that are written whatever happens."""

    def __init__(self, texts: Ints) -> None:
        self._texts = texts

    def actions(self, windows: Ints, written: int) -> Ints:
        """See `Episodes`."""
        return self._texts[:, written]


def _perturbed(gains: Floats, noise: Floats, rng: np.random.Generator) -> Floats:
    """(B, K, V) rewards with Gumbel noise times (B,) factors; where infinite, noise alone on what is valid."""
    gumbel = rng.gumbel(size=gains.shape)
    blind = np.isinf(noise)[:, None, None]
    return np.where(blind & np.isfinite(gains), gumbel, gains + np.where(blind, 0.0, noise[:, None, None]) * gumbel)


def _largest(values: Floats, count: int) -> Ints:
    """(B, count) places of the largest of (B, N) values, largest first."""
    part = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)
