"""Samples batches of episodes, uniformly or by priority."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .episodes import EpisodeBatch, EpisodeReplay, concatenate

POOL = 8  # batches sampled together
_LEAST = 1e-6  # smallest priority, so that every episode can be sampled


def episode_priorities(errors: Tensor, is_action: Tensor, mixture: float) -> Tensor:
    """mixture·max|δ| + (1 - mixture)·mean|δ| over the actions of each episode.

    Args:
        errors: (B, L) absolute TD errors |δ|.
        is_action: (B, L) bool, see `EpisodeBatch`.
        mixture: weight of the largest error, 0.9 in the source.

    Returns: (B,) priorities, 0 for an episode without actions.
    Source: Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning", sec. 2.3.
    """
    errors = errors * is_action
    return mixture * errors.amax(-1) + (1.0 - mixture) * errors.sum(-1) / is_action.sum(-1).clamp(min=1)


class _Priorities:
    """Priorities of the episodes in one replay; a new episode gets the largest priority so far."""

    def __init__(self, replay: EpisodeReplay) -> None:
        self.replay = replay
        self.values = torch.ones(replay.capacity, dtype=torch.float64)
        self.largest = 1.0
        self.added = replay.added

    def draw(self, count: int, exponent: float, generator: torch.Generator) -> Tensor:
        """Sample (count,) rows with probability ∝ priority^exponent."""
        cumulative = self._weights(exponent).cumsum(0)
        at = torch.rand(count, generator=generator, dtype=torch.float64) * cumulative[-1]
        return torch.searchsorted(cumulative, at, right=True).clamp(max=len(cumulative) - 1)

    def probabilities(self, rows: Tensor, exponent: float) -> Tensor:
        """(R,) probability of each row times the number of rows; 1 if all priorities are equal."""
        weights = self._weights(exponent)
        return weights[rows] / weights.mean()

    def update(self, rows: Tensor, values: Tensor) -> None:
        """Set the priorities (R,) of `rows` (R,)."""
        self.values[rows] = values.double().cpu().clamp(min=_LEAST)
        self.largest = max(self.largest, float(values.max()))

    def _weights(self, exponent: float) -> Tensor:
        fresh = self.replay.added - self.added
        if fresh:
            rows = torch.arange(max(self.added, self.replay.added - self.replay.capacity), self.replay.added)
            self.values[rows % self.replay.capacity] = self.largest
            self.added = self.replay.added
        return self.values[: len(self.replay)] ** exponent

    def state_dict(self) -> dict[str, Any]:
        """All priorities."""
        return {"values": self.values.clone(), "largest": self.largest, "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.values.copy_(state["values"])
        self.largest, self.added = float(state["largest"]), int(state["added"])


class BatchSampler:
    """Samples batches of the agent's own episodes and corpus episodes, with replacement, in a fixed ratio.

    All rows of a batch are padded to its longest episode. So several batches are sampled together, sorted by length,
    and split. The probability of an episode does not change, only the episodes that it shares a batch with. The divisor
    of the losses and the largest importance weight are computed over all of these batches, so that an episode has the
    same weight in any of them.

    Args:
        own: the agent's episodes; None for an agent that does not act.
        corpus: the corpus episodes, or None.
        batch_size: episodes per batch.
        corpus_share: fraction of episodes that come from the corpus.
        generator: source of randomness, on the CPU.
        priority_exponent: α of prioritised replay (Schaul et al. 2016): within each source the probability of an
            episode is ∝ priority^α; 0 samples uniformly without priorities.
        importance_exponent: β; the losses of an episode are weighted by (probability·number of episodes)^-β.
    """

    def __init__(
        self,
        own: EpisodeReplay | None,
        corpus: EpisodeReplay | None,
        batch_size: int,
        corpus_share: float,
        generator: torch.Generator,
        priority_exponent: float = 0.0,
        importance_exponent: float = 0.6,
    ) -> None:
        if priority_exponent < 0 or importance_exponent < 0:
            raise ValueError(
                f"priority_exponent {priority_exponent} and importance_exponent {importance_exponent} must not be "
                "negative"
            )
        self.own = own
        self.corpus = corpus
        self.batch_size = batch_size
        self.corpus_share = corpus_share
        self.generator = generator
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        keeps = priority_exponent > 0
        self._own_priorities = _Priorities(own) if keeps and own is not None else None
        self._corpus_priorities = _Priorities(corpus) if keeps and corpus is not None else None
        self._waiting: list[Tensor] = []  # sampled batches: (B,) rows each, -1 - row for the corpus
        self._expected_actions: float | None = None  # per sampled batch
        # (B,) probabilities for each of them, divided by the smallest. Stored when sampling, because importance weights
        # must use the probability at that time, and priorities change before the batch is used.
        self._chances: list[Tensor] = []

    def sample(self) -> EpisodeBatch | None:
        """The next batch; None while there are no episodes."""
        if not self._waiting:
            self._draw()
        if not self._waiting:
            return None
        rows = self._waiting.pop()
        parts = []
        is_own = rows >= 0
        own, corpus = rows[is_own], -1 - rows[~is_own]
        for replay, chosen in ((self.own, own), (self.corpus, corpus)):
            if replay is not None and len(chosen):
                parts.append(replay.rows(chosen))
        batch = concatenate(parts)
        batch.expected_actions = self._expected_actions
        if self.priority_exponent:
            batch.rows = torch.cat([own, -1 - corpus])
            chances = self._chances.pop()
            weights = torch.cat([chances[is_own], chances[~is_own]]) ** -self.importance_exponent
            batch.weights = weights.float().to(batch.tokens.device)
        return batch

    def update_priorities(self, rows: Tensor, priorities: Tensor) -> None:
        """Set the priorities of a batch's episodes: its `rows` (B,) and their `episode_priorities` (B,)."""
        rows = rows.cpu()  # the batch may have been moved to another device
        for _, kept, mask, chosen in self._by_source(rows):
            if kept is not None and len(chosen):
                kept.update(chosen, priorities[mask.to(priorities.device)])

    def _draw(self) -> None:
        total = POOL * self.batch_size
        from_own = round(total * (1.0 - self.corpus_share)) if self.own else 0
        from_corpus = total - from_own if self.corpus else 0
        drawn = []
        if self.own and from_own:
            drawn.append(self._rows(self.own, self._own_priorities, from_own))
        if self.corpus and from_corpus:
            drawn.append(-1 - self._rows(self.corpus, self._corpus_priorities, from_corpus))
        if not drawn:
            return
        rows = torch.cat(drawn)
        sizes, actions = self._sizes(rows)
        rows = rows[sizes.argsort(stable=True)]
        batches = rows.split(self.batch_size)
        order = torch.randperm(len(batches), generator=self.generator)
        self._waiting = [batches[i] for i in order]
        self._expected_actions = float(actions.sum()) / len(batches)
        if self.priority_exponent:
            chances = self._chances_of(rows)
            dealt = (chances / chances.min()).split(self.batch_size)
            self._chances = [dealt[i] for i in order]

    def _rows(self, replay: EpisodeReplay, priorities: _Priorities | None, count: int) -> Tensor:
        if priorities is None:
            return torch.randint(len(replay), (count,), generator=self.generator)
        return priorities.draw(count, self.priority_exponent, self.generator)

    def _chances_of(self, rows: Tensor) -> Tensor:
        """(N,) probability of each row in its source, times the number of episodes in the source."""
        chances = torch.ones(len(rows), dtype=torch.float64)
        for _, priorities, mask, chosen in self._by_source(rows):
            if priorities is not None and len(chosen):
                chances[mask] = priorities.probabilities(chosen, self.priority_exponent)
        return chances

    def _sizes(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) tokens of each episode, prompt included, and (N,) numbers of actions."""
        sizes, actions = torch.zeros_like(rows), torch.zeros_like(rows)
        for replay, _, mask, chosen in self._by_source(rows):
            sizes[mask] = replay.prompt_lengths[chosen] + replay.lengths[chosen]
            actions[mask] = replay.num_actions(chosen)
        return sizes, actions

    def _by_source(self, rows: Tensor) -> Iterator[tuple[EpisodeReplay, _Priorities | None, Tensor, Tensor]]:
        """Yield each replay, its priorities, a mask of its entries in `rows` (N,), and their rows in the replay."""
        mask = rows >= 0
        if self.own is not None:
            yield self.own, self._own_priorities, mask, rows[mask]
        if self.corpus is not None:
            yield self.corpus, self._corpus_priorities, ~mask, -1 - rows[~mask]

    def state_dict(self) -> dict[str, Any]:
        """The batches sampled but not used yet, the priorities and the generator."""
        return {
            "waiting": [rows.clone() for rows in self._waiting],
            "chances": [chances.clone() for chances in self._chances],
            "expected_actions": self._expected_actions,
            "generator": self.generator.get_state(),
            "priorities": [p and p.state_dict() for p in (self._own_priorities, self._corpus_priorities)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`; ValueError if it has no priorities and this sampler needs them."""
        chances = state.get("chances", [])  # missing with uniform sampling and in old checkpoints
        if self.priority_exponent and (len(chances) != len(state["waiting"]) or not any(state["priorities"])):
            raise ValueError("the saved sampler lacks the priorities of its episodes; resume with priority_exponent 0")
        self._waiting = [rows.clone() for rows in state["waiting"]]
        self._expected_actions = state.get("expected_actions")  # missing in old checkpoints
        self._chances = [c.clone() for c in chances] if self.priority_exponent else []
        self.generator.set_state(state["generator"])
        for priorities, saved in zip((self._own_priorities, self._corpus_priorities), state["priorities"], strict=True):
            if priorities is not None:
                priorities.load_state_dict(saved)
