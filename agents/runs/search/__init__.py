"""Search of settings with Optuna: the space, the study, and `tokenlm tune`. Races search with the same code."""

from .config import TuneConfig
from .space import Choices, Range, Space

__all__ = ["Choices", "Range", "Space", "TuneConfig"]
