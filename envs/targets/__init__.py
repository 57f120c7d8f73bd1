"""p*: whose log-likelihood is the reward."""

from .conditioned import ConditionedTarget
from .markov import MarkovTarget
from .ngram import NGramTarget
from .protocol import FiniteStateTarget, Target
from .reference import ReferenceTarget

__all__ = [
    "ConditionedTarget",
    "FiniteStateTarget",
    "MarkovTarget",
    "NGramTarget",
    "ReferenceTarget",
    "Target",
]
