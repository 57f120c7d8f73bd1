"""Evaluation of policies: on held-out text, by returns, and by the metrics of a task."""

from .evaluate import evaluate, score_text
from .playing import play
from .scores import trivial_returns

__all__ = ["evaluate", "play", "score_text", "trivial_returns"]
