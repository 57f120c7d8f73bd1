"""Grading the solution in somebody's own Python file."""

from __future__ import annotations

import importlib.util
import math
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ...envs.arguments import nearest
from .applications import APPLICATIONS
from .exercise import Exercise, Mark
from .language import LANGUAGE
from .learning import LEARNING
from .worlds import WORLDS

EXERCISES: dict[str, Exercise] = {e.name: e for e in (*LANGUAGE, *WORLDS, *LEARNING, *APPLICATIONS)}


@dataclass(frozen=True)
class Result:
    """The mark of one exercise."""

    exercise: Exercise
    mark: Mark

    @property
    def passed(self) -> bool:
        """Whether the score reaches the pass mark."""
        return self.mark.score >= self.exercise.pass_mark

    def __str__(self) -> str:
        # Rounded down: only a perfect solution shows 1.00.
        shown = f"{math.floor(self.mark.score * 100 + 1e-9) / 100:.2f}, {'passed' if self.passed else 'not passed'}"
        return shown if self.passed or not self.mark.hint else f"{shown}: {self.mark.hint}"


def exercises_of(name: str) -> list[Exercise]:
    """The exercise of that name, "chapter3.1", or all of a chapter, "chapter3"; ValueError where there is none."""
    found = [e for e in EXERCISES.values() if name in (e.name, e.chapter)]
    if not found:
        names = dict.fromkeys([*(e.chapter for e in EXERCISES.values()), *EXERCISES])
        raise ValueError(
            f"there is no exercise {name!r}{nearest(name, names)}; use chapter1 to chapter8, or one of a chapter's "
            "three, such as chapter3.1"
        )
    return found


def grade(name: str, path: str | Path) -> list[Result]:
    """Grade a solution. The file is imported, so it is for files of one's own.

    Args:
        name: an exercise, "chapter3.1", or a chapter, "chapter3".
        path: a Python file that defines what the exercise asks for.

    Returns: one result for each exercise; one whose solution is missing or fails has the score 0 and says why.

    Raises FileNotFoundError where there is no such file, ValueError for one that cannot be imported and for an unknown
    exercise.
    """
    exercises = exercises_of(name)
    module = _imported(Path(path))
    return [Result(exercise, _mark(exercise, module)) for exercise in exercises]


def _mark(exercise: Exercise, module: ModuleType) -> Mark:
    solution = getattr(module, exercise.defines, None)
    if solution is None:
        return Mark(0.0, f"请定义 {exercise.signature}")
    try:
        return exercise.score(solution)
    except Exception as error:  # whatever a stranger's code does wrong
        return Mark(0.0, _words(error, str(module.__file__)))


def _imported(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}; give the Python file that has your solution")
    spec = importlib.util.spec_from_file_location(f"solution_{abs(hash(path.resolve()))}", path.resolve())
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # it may import files beside it
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} cannot be imported: {_words(error, str(path.resolve()))}") from None
    finally:
        sys.path.remove(folder)
    return module


def _words(error: BaseException, file: str) -> str:
    """An error in one sentence, with the line of the solution where it arose."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" (line {lines[-1]})" if lines else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{where}" if lines else text
