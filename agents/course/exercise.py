"""An exercise of the course: what a solution must define, and how its score is found."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PASS_MARK = 0.95
_TOLERANCE = 1e-6
_PERFECT = 1.0 - 1e-9

Answer = Callable[..., Any]
Measure = Callable[[Any, Any], float]


class WrongAnswer(ValueError):
    """What a solution returned cannot be scored; the message is the hint."""


@dataclass(frozen=True)
class Mark:
    """What a solution is worth.

    Args:
        score: 0 to 1; 1 only if nothing is wrong.
        hint: what to look at, in the language of the course; empty for a perfect solution.
    """

    score: float
    hint: str = ""


@dataclass(frozen=True)
class Exercise:
    """An exercise.

    Args:
        name: chapter and number, "chapter3.1".
        signature: what the solution defines, "episode_return(env, actions)".
        score: from that object to its mark.
        pass_mark: the score from which on it is passed.
    """

    name: str
    signature: str
    score: Callable[[Any], Mark]
    pass_mark: float = PASS_MARK

    @property
    def defines(self) -> str:
        """The name that the solution must define."""
        return self.signature.split("(", maxsplit=1)[0]

    @property
    def chapter(self) -> str:
        """The chapter, "chapter3"."""
        return self.name.split(".", maxsplit=1)[0]


def compared(
    cases: Sequence[tuple[Any, ...]],
    right: Answer,
    measure: Measure,
    hint: str,
    mistakes: Sequence[tuple[Answer, str]] = (),
) -> Callable[[Answer], Mark]:
    """A score of functions: the mean agreement with the right answer over cases.

    Args:
        cases: the arguments of each call.
        right: the function asked for.
        measure: agreement of an answer with the right one, 0 to 1.
        hint: what to look at.
        mistakes: functions with a usual mistake, and the hint for a solution that answers like one.
    """

    def score(solution: Answer) -> Mark:
        answers = [solution(*copy.deepcopy(case)) for case in cases]
        found = float(np.mean([measure(a, right(*copy.deepcopy(c))) for a, c in zip(answers, cases, strict=True)]))
        if found > _PERFECT:
            return Mark(1.0)
        for wrong, about in mistakes:
            # A mistake may have no answer to cases that it does not foresee.
            if all(_alike(a, wrong, copy.deepcopy(c), measure) for a, c in zip(answers, cases, strict=True)):
                return Mark(found, about)
        return Mark(found, hint)

    return score


def _alike(answer: Any, wrong: Answer, case: tuple[Any, ...], measure: Measure) -> bool:
    try:
        expected = wrong(*case)
    except (ArithmeticError, ValueError, IndexError):
        return False
    return measure(answer, expected) > _PERFECT


def numbers(found: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """`found` as an array of that shape; WrongAnswer if it is none."""
    try:
        array = np.asarray(found, np.float64)
    except (TypeError, ValueError):
        raise WrongAnswer(f"应返回数，却得到 {type(found).__name__}") from None
    if array.shape != shape:
        raise WrongAnswer(f"返回值的形状应为 {shape}，却是 {array.shape}")
    return array


def same_numbers(found: Any, right: Any) -> float:
    """Share of the numbers that are right to 1e-6."""
    expected = np.asarray(right, np.float64)
    return float(np.isclose(numbers(found, expected.shape), expected, _TOLERANCE, _TOLERANCE).mean())


def same_words(found: Any, right: Sequence[Any]) -> float:
    """Share of the places of a sequence that are right."""
    if isinstance(found, str) or not isinstance(found, Sequence | np.ndarray):
        raise WrongAnswer(f"应返回列表，却得到 {type(found).__name__}")
    longest = max(len(found), len(right))
    return sum(a == b for a, b in zip(found, right, strict=False)) / longest if longest else 1.0


def overlap(found: Any, right: Any) -> float:
    """1 - total variation of two distributions, given as arrays or as mappings of outcomes to probabilities."""
    if isinstance(right, dict):
        if not isinstance(found, dict):
            raise WrongAnswer(f"应返回字典，却得到 {type(found).__name__}")
        keys = [*right, *(key for key in found if key not in right)]
        # A word without probability may be left out.
        own, other = (np.array([float(d.get(key, 0.0)) for key in keys]) for d in (found, right))
    else:
        other = np.asarray(right, np.float64)
        own = numbers(found, other.shape)
    if not np.isfinite(own).all() or (own < 0).any():
        raise WrongAnswer("概率必须是非负的有限数")
    return max(0.0, 1.0 - max(0.5 * float(np.abs(own - other).sum()) - _TOLERANCE, 0.0))


def token_f1(found: Sequence[str], right: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the tokens, counted with multiplicity; 1 if both are empty."""
    if not found and not right:
        return 1.0
    return 2.0 * sum((Counter(found) & Counter(right)).values()) / (len(found) + len(right))
