"""Races compare algorithms on one environment, at equal wall-clock time and at equal environment steps."""

from .config import EntryConfig, RaceConfig
from .race import Race

__all__ = ["EntryConfig", "Race", "RaceConfig"]
