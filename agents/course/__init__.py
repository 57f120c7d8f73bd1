"""The exercises of the course in docs/zh, graded by exact scores."""

from .exercise import Exercise, Mark
from .grading import EXERCISES, Result, grade

__all__ = ["EXERCISES", "Exercise", "Mark", "Result", "grade"]
