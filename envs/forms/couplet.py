"""Form `couplet`: the line that answers another."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from array_api_compat import device

from ..arrays import namespace
from ..targets.tables import Tables
from ..text import Tokenizer, Vocabulary
from .tones import NO_TONE, readings

LONGEST = 16  # characters of a line that are answered
_MARK = -1


class Couplet:
    """The second line of a couplet (对联) after its first: equal length, opposite tones, no shared character.

    The first line is the run of Chinese characters that the prompt ends with, marks after it left out. Valid are
    characters that it does not have; at every second place and at the last one their tone must be opposite
    (一三五不论，二四六分明). After as many characters as the first line has, `<eos>` alone is valid. Paid is 1 with the
    last character if the tones are opposite at every place.

    A state is (characters written, characters asked for, whether all tones were opposite, those of the first line).

    Args:
        tokenizer: of single characters.

    Raises ValueError for a vocabulary without Chinese characters of both tones.
    """

    most_bonus: ClassVar[float] = 1.0
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: Tokenizer) -> None:
        tones, _ = readings(tokenizer)
        if not {0, 1} <= set(tones.tolist()):
            raise ValueError("the form 'couplet' needs Chinese characters of both tones in the vocabulary")
        self._tables = Tables(tones=np.where(tones == NO_TONE, _MARK, tones))

    def start(self, prefixes: Any) -> Any:
        """See `Form`."""
        xp, where = namespace(prefixes), device(prefixes)
        length = prefixes.shape[1]
        columns = xp.arange(length, device=where)[None, :]
        spoken = self._tables.like(prefixes, "tones")[prefixes] >= 0
        end = xp.max(xp.where(spoken, columns + 1, 0), axis=1)  # one behind the last character
        before = xp.max(xp.where(~spoken & (columns < end[:, None]), columns + 1, 0), axis=1)
        number = xp.clip(end - before, 0, LONGEST)
        place = (end - number)[:, None] + xp.arange(LONGEST, device=where)[None, :]
        rows = xp.arange(prefixes.shape[0], device=where)[:, None]
        line = xp.where(place < end[:, None], prefixes[rows, xp.clip(place, 0, length - 1)], Vocabulary.PAD)
        head = xp.stack([xp.zeros_like(number), number, xp.ones_like(number)], axis=1)
        return xp.concat([head, line], axis=1)

    def allowed(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        place, number = states[:, 0], states[:, 1]
        tone = self._tables.like(states, "tones")[tokens]
        strict = (place % 2 == 1) | (place == number - 1)
        fits = (tone >= 0) & (~strict[:, None] | (tone + self._tone(states)[:, None] == 1))
        for column in range(3, states.shape[1]):
            fits = fits & (tokens != states[:, column][:, None])
        full = (place >= number)[:, None]
        return xp.where(full, tokens == Vocabulary.EOS, fits)

    def next(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        kept = states[:, 2] * xp.astype(self._opposite(states, tokens[:, None])[:, 0], xp.int64)
        head = xp.stack([states[:, 0] + 1, states[:, 1], kept], axis=1)
        return xp.concat([head, states[:, 3:]], axis=1)

    def bonus(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        last = (states[:, 0] == states[:, 1] - 1) & (states[:, 2] == 1)
        return xp.astype(last[:, None] & self._opposite(states, tokens), xp.float64)

    def _opposite(self, states: Any, tokens: Any) -> Any:
        """(B, N) bool, whether tokens (B, N) or (1, N) have the other tone than the character they answer."""
        tone = self._tables.like(states, "tones")[tokens]
        return (tone >= 0) & (tone + self._tone(states)[:, None] == 1)

    def _tone(self, states: Any) -> Any:
        """(B,) tone of the character of the first line that is answered now."""
        xp = namespace(states)
        rows = xp.arange(states.shape[0], device=device(states))
        token = states[rows, xp.clip(states[:, 0] + 3, 3, states.shape[1] - 1)]
        return self._tables.like(states, "tones")[token]
