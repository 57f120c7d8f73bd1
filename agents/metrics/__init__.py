"""Figures of what was written: how varied texts are, how labels agree."""

from .confusion_picture import plot_confusion
from .diversity import distinct, ngrams, repetition, self_bleu
from .labels import Confusion

__all__ = ["Confusion", "distinct", "ngrams", "plot_confusion", "repetition", "self_bleu"]
