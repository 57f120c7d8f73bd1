"""Metrics of classification: accuracy, macro-F1, the confusion matrix."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...envs.picture import font_for
from ...envs.text import write_atomically, write_text_atomically

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Args:
        labels: C labels, in the order of rows and columns.
        counts: (C, C) int64; counts[i, j] texts have the true label i and the predicted label j.
    """

    labels: list[str]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, predicted: Sequence[str], true: Sequence[str], labels: Sequence[str] = ()) -> Confusion:
        """Count pairs of labels. `labels` come first, in their order; others that occur follow, sorted.

        Raises ValueError if the lists differ in length or are empty.
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
        """Fraction of correct predictions, 0 to 1."""
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """(C,) F1 of each label, 2·correct / (predicted + true); 0 for a label that does not occur."""
        total = self.counts.sum(0) + self.counts.sum(1)
        scores: npt.NDArray[np.float64] = 2.0 * np.diag(self.counts) / np.maximum(total, 1)
        return scores

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the labels that occur as true or predicted, 0 to 1 (Sokolova & Lapalme 2009)."""
        seen = (self.counts.sum(0) + self.counts.sum(1)) > 0
        return float(self.f1[seen].mean())


_MOST_NUMBERS = 20  # counts are not printed for more classes
_LETTERS_PER_INCH = 14  # at size 8


def plot_confusion(confusion: Confusion, path: Path) -> None:
    """Plot the counts; rows are true labels, columns predicted ones, and colours are fractions of the row.

    Labels are drawn in an installed font that has all their characters. If there is none, their indices are drawn, and
    a text file of the same name beside the picture lists the labels.

    Args:
        confusion: the matrix.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure  # slow to import

    counts, count = confusion.counts, len(confusion.labels)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    font = label_font(confusion.labels)
    names = confusion.labels if font else [str(i) for i in range(count)]
    size = 3.0 + 0.45 * min(count, 30)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the row")
    axes.set_xticks(range(count), names, rotation=45, ha="right", fontproperties=font)
    axes.set_yticks(range(count), names, fontproperties=font)
    axes.set(xlabel="predicted label", ylabel="true label", title=f"accuracy {confusion.accuracy:.3f}")
    if not font:
        key = path.with_suffix(".txt")
        note = f"No font here shows the labels: their names are in {key.name}. Install one, such as Noto Sans CJK."
        figure.supxlabel("\n".join(textwrap.wrap(note, int(_LETTERS_PER_INCH * size))), fontsize=8)
        write_text_atomically(key, "".join(f"{i}\t{label}\n" for i, label in enumerate(confusion.labels)))
    if count <= _MOST_NUMBERS:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    write_atomically(path, lambda p: figure.savefig(p, dpi=130, format="png"))


def label_font(labels: list[str]) -> FontProperties | None:
    """An installed font with all characters of the labels, or None."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.ft2font import FT2Font

    wanted = frozenset(c for label in labels for c in label if not c.isspace())
    try:
        path = font_for(wanted)
    except ValueError:
        return None
    if not {ord(c) for c in wanted} <= set(FT2Font(str(path)).get_charmap()):
        return None
    return FontProperties(fname=str(path))
