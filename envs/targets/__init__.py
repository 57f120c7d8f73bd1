"""Target distributions p*, whose log-likelihood is the reward."""

from .checking import check_target
from .conditioned import ConditionedTarget
from .factored import FactoredTarget
from .markov import MarkovTarget
from .ngram import NGramTarget
from .protocol import FiniteStateTarget, Memory, RecurrentTarget, StatedTarget, Target
from .reference import ReferenceTarget
from .registry import register_target
from .scoring import ScoringTarget

__all__ = [
    "ConditionedTarget",
    "FactoredTarget",
    "FiniteStateTarget",
    "MarkovTarget",
    "Memory",
    "NGramTarget",
    "RecurrentTarget",
    "ReferenceTarget",
    "ScoringTarget",
    "StatedTarget",
    "Target",
    "check_target",
    "register_target",
]
