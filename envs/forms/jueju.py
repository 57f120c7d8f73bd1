"""Form `jueju5`: lines three and four of a quatrain."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from array_api_compat import device

from ..arrays import namespace
from ..targets.tables import Tables
from ..text import Tokenizer
from .tones import LEVEL, NO_RHYME, NUM_RHYMES, OBLIQUE, readings

_COMMA, _STOP = 2, 3  # kinds of tokens beside the two tones
_OTHER = 4
PATTERN = (
    LEVEL, LEVEL, LEVEL, OBLIQUE, OBLIQUE, _COMMA, OBLIQUE, OBLIQUE, OBLIQUE, LEVEL, LEVEL, _STOP,
)  # fmt: skip


class Jueju:
    """Lines three and four of a quatrain (绝句), five characters each, after its first two.

    Valid are characters whose tones keep to 平平平仄仄，仄仄仄平平 and the two marks in their places. With
    `no_repeat=1`, which the name `jueju5` sets, no character stands twice in a row. Paid is 1 with the last character
    if it rhymes with the last of the prompt, twelve tokens before.

    A state is (place, rhyme): tokens written, and the rhyme group asked for, NUM_RHYMES where the prompt has none.

    Args:
        tokenizer: of single characters.

    Raises ValueError for a vocabulary without characters of both tones, or without "，" and "。".
    """

    most_bonus: ClassVar[float] = 1.0
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: Tokenizer) -> None:
        tones, rhymes = readings(tokenizer)
        vocabulary = tokenizer.vocabulary
        kinds = np.where(tones >= 0, tones, _OTHER)
        for mark, kind in (("，", _COMMA), ("。", _STOP)):
            for number in range(vocabulary.FIRST_WORD, len(vocabulary)):
                if vocabulary.token(number) == mark:
                    kinds[number] = kind
        if missing := [name for kind, name in enumerate(_KINDS) if kind not in kinds]:
            raise ValueError(f"the form 'jueju5' needs {', '.join(missing)} in the vocabulary; use Chinese verse")
        self._tables = Tables(kinds=kinds, rhymes=rhymes, pattern=np.array([*PATTERN, _STOP], np.int64))

    def start(self, prefixes: Any) -> Any:
        """See `Form`."""
        xp, where = namespace(prefixes), device(prefixes)
        rhymes = self._tables.like(prefixes, "rhymes")[prefixes]  # (B, L)
        # The last rhyme of the row: the largest of place and rhyme as one number.
        place = xp.arange(prefixes.shape[1], device=where)[None, :]
        last = xp.max(xp.where(rhymes == NO_RHYME, -1, place * NUM_RHYMES + rhymes), axis=1)
        asked = xp.where(last < 0, NUM_RHYMES, last % NUM_RHYMES)
        return xp.stack([xp.zeros_like(asked), asked], axis=1)

    def allowed(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        wanted = self._tables.like(states, "pattern")[self._place(states)]
        return self._tables.like(states, "kinds")[tokens] == wanted[:, None]

    def next(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        return xp.stack([self._place(states) + 1, states[:, 1]], axis=1)

    def bonus(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        last = states[:, 0] == len(PATTERN) - 2
        rhymes = self._tables.like(states, "rhymes")[tokens] == states[:, 1][:, None]
        return xp.astype(last[:, None] & rhymes, xp.float64)

    def _place(self, states: Any) -> Any:
        """(B,) tokens written, at most all of them."""
        return namespace(states).clip(states[:, 0], 0, len(PATTERN))


_KINDS = ("characters of level tone", "characters of oblique tone", "the mark ，", "the mark 。")
