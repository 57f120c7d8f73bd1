"""Limits of files that others made: generous for honest files, raised by the user alone.

They are no part of a configuration, for one may come with a folder from somebody else: `--limits.NAME N` on the command
line raises one, `set_limits(NAME=N)` in Python.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..arguments import nearest

Result = TypeVar("Result")


def _limit(value: int, of: str) -> Any:
    return field(default=value, metadata={"of": of})


@dataclass
class Limits:
    """The most that a file may have; the metadata "of" of a field says what it limits."""

    text_bytes: int = _limit(8 << 30, "bytes of a file that is read line by line: corpus, words, prompts, word vectors")
    text_line: int = _limit(10_000_000, "characters of a line of it")
    arpa_bytes: int = _limit(1 << 30, "bytes of an ARPA file")
    arpa_added: int = _limit(20_000_000, "n-grams added to an ARPA file for words of the vocabulary that it lacks")
    json_bytes: int = _limit(
        64 << 20, "bytes of a JSON file: vocabulary, tokenizer.json, settings; of a run's rows or samples"
    )  # twice the usual
    json_values: int = _limit(4_000_000, "values in it")
    tokens: int = _limit(2_000_000, "tokens of a saved vocabulary")
    yaml_bytes: int = _limit(1_000_000, "bytes of a configuration")
    yaml_values: int = _limit(20_000, "values in it, aliases counted as what they stand for")
    weights_bytes: int = _limit(1 << 40, "bytes of a file of weights")


LIMITS = Limits()
MOST = 1 << 60  # that a limit can be


def set_limits(**most: int) -> None:
    """Set limits by name, for this process; ValueError for a name that is none or what is no whole number from 1 on."""
    known = [each.name for each in dataclasses.fields(Limits)]
    for name, value in most.items():
        if name not in known:
            raise ValueError(f"there is no limit {name!r}{nearest(name, known)} (limits: {', '.join(known)})")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise ValueError(f"the limit {name} must be a whole number from 1 to {MOST:,}, not {value!r}")
    for name, value in most.items():
        setattr(LIMITS, name, value)


def raised_by(name: str) -> str:
    """The end of a sentence that refuses what is beyond a limit."""
    return f"--limits.{name} N raises this limit (set_limits({name}=N) in Python)"


def limits_here() -> dict[str, int]:
    """The limits of this process by name, for `limited` in another one."""
    return dataclasses.asdict(LIMITS)


def limited(limits: Mapping[str, int], work: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Set `limits` and do `work`: what a new process is given to do, which has the limits it began with."""
    set_limits(**limits)
    return work(*arguments, **named)
