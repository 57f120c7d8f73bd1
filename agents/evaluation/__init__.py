"""Evaluation: how good a policy is."""

from .evaluate import evaluate, play, score_text

__all__ = ["evaluate", "play", "score_text"]
