"""How labels agree: accuracy, macro-F1, the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Confusion:
    """How often each label was written for each that was asked for.

    Args:
        labels: C labels, in the order of rows and columns.
        counts: (C, C) int64; counts[i, j] texts have label i and were given label j.
    """

    labels: list[str]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, predicted: Sequence[str], true: Sequence[str], labels: Sequence[str] = ()) -> Confusion:
        """Count pairs of labels; `labels` come first in their order, others that occur behind them, sorted.

        Raises ValueError where the lists differ in length or are empty.
        """
        if len(predicted) != len(true) or not len(true):
            raise ValueError(f"every label needs one prediction; there are {len(predicted)} for {len(true)} labels")
        known = [*labels, *sorted({*predicted, *true} - set(labels))]
        number = {label: i for i, label in enumerate(known)}
        counts = np.zeros((len(known), len(known)), np.int64)
        np.add.at(counts, ([number[label] for label in true], [number[label] for label in predicted]), 1)
        return cls(known, counts)

    @property
    def accuracy(self) -> float:
        """Share of texts that got their label, 0 to 1."""
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """(C,) F1 of each label, 2·hits / (written + asked for); 0 where it was neither."""
        total = self.counts.sum(0) + self.counts.sum(1)
        scores: npt.NDArray[np.float64] = 2.0 * np.diag(self.counts) / np.maximum(total, 1)
        return scores

    @property
    def macro_f1(self) -> float:
        """Mean of F1 over the labels that were written or asked for, 0 to 1 (Sokolova & Lapalme 2009)."""
        seen = (self.counts.sum(0) + self.counts.sum(1)) > 0
        return float(self.f1[seen].mean())
