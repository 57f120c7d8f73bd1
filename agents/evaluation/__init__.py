"""Evaluation of policies: on held-out text, by returns, and by the metrics of a task."""

from .along_documents import along_documents
from .evaluate import evaluate, score_text
from .greedy import greedy_score
from .playing import play
from .scores import trivial_returns

__all__ = ["along_documents", "evaluate", "greedy_score", "play", "score_text", "trivial_returns"]
