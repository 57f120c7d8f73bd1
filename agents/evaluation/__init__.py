"""Evaluation of policies: on held-out text, by returns, and by the metrics of a task."""

from .evaluate import evaluate, play, score_text

__all__ = ["evaluate", "play", "score_text"]
