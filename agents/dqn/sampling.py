"""Which episodes make up the next batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .replay import EpisodeBatch, EpisodeReplay, concatenate

POOL = 8  # batches drawn at a time


class BatchSampler:
    """Batches of the agent's own episodes and of the corpus, in fixed shares, drawn uniformly with replacement.

    A causal pass costs as much for a short episode as for the longest beside it. So several batches are drawn at a
    time and dealt out by length: every episode has the same chance as before, only its company changes.

    Args:
        own: the agent's episodes, None for an agent that does not act.
        corpus: the corpus' episodes, None without.
        batch_size: episodes in a batch.
        corpus_share: share of the drawn episodes that come from the corpus.
        generator: source of randomness, on the CPU.
    """

    def __init__(
        self,
        own: EpisodeReplay | None,
        corpus: EpisodeReplay | None,
        batch_size: int,
        corpus_share: float,
        generator: torch.Generator,
    ) -> None:
        self.own = own
        self.corpus = corpus
        self.batch_size = batch_size
        self.corpus_share = corpus_share
        self.generator = generator
        self._waiting: list[Tensor] = []  # (B,) rows each, those of the corpus counted from -1 downwards

    def sample(self) -> EpisodeBatch | None:
        """The next batch; None while there is no episode to draw."""
        if not self._waiting:
            self._draw()
        if not self._waiting:
            return None
        rows = self._waiting.pop()
        parts = []
        for replay, chosen in ((self.own, rows[rows >= 0]), (self.corpus, -1 - rows[rows < 0])):
            if replay is not None and len(chosen):
                parts.append(replay.rows(chosen.to(replay.lengths.device)))
        return concatenate(parts)

    def _draw(self) -> None:
        total = POOL * self.batch_size
        from_own = round(total * (1.0 - self.corpus_share)) if self.own else 0
        from_corpus = total - from_own if self.corpus else 0
        drawn = []
        if self.own and from_own:
            drawn.append(torch.randint(len(self.own), (from_own,), generator=self.generator))
        if self.corpus and from_corpus:
            drawn.append(-1 - torch.randint(len(self.corpus), (from_corpus,), generator=self.generator))
        if not drawn:
            return
        rows = torch.cat(drawn)
        batches = rows[self._sizes(rows).argsort(stable=True)].split(self.batch_size)
        order = torch.randperm(len(batches), generator=self.generator)
        self._waiting = [batches[i] for i in order]

    def _sizes(self, rows: Tensor) -> Tensor:
        """(N,) tokens in each episode, prompt included."""
        sizes = torch.zeros_like(rows)
        for replay, mask, chosen in ((self.own, rows >= 0, rows), (self.corpus, rows < 0, -1 - rows)):
            if replay is not None:
                sizes[mask] = (replay.prompt_lengths + replay.lengths).cpu()[chosen[mask]]
        return sizes

    def state_dict(self) -> dict[str, Any]:
        """The batches already drawn and the generator."""
        return {"waiting": [rows.clone() for rows in self._waiting], "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self._waiting = [rows.clone() for rows in state["waiting"]]
        self.generator.set_state(state["generator"])
