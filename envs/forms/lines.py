"""Form `lines`: lines of equal length whose first letters spell the prompt."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from array_api_compat import device

from ..arguments import whole_number
from ..arrays import namespace
from ..targets.tables import Tables
from ..text import Tokenizer, Vocabulary

_NO_LETTER = -1
_PROMPT = 32  # letters of the prompt that count


class Lines:
    """Lines of `length` tokens each, as many as the prompt has letters; an acrostic (藏头) of the prompt, any language.

    Valid are all words until the lines are full, then `<eos>` alone. Of a prompt 32 letters count. Paid is 1 for every
    line whose first letter is the prompt's of the same number; of a Chinese word that is its first character. Upper and
    lower case are the same letter.

    A state is (tokens written, lines asked for, the prompt's letters as numbers).

    Args:
        tokenizer: any whose tokens begin with letters, not pieces of words.
        length: tokens in a line.

    Raises ValueError for a length that is no whole number of at least 1.
    """

    most_bonus: ClassVar[float] = float(_PROMPT)
    options: ClassVar[tuple[str, ...]] = ("length",)

    def __init__(self, tokenizer: Tokenizer, length: str | int = 5) -> None:
        try:
            self.length = whole_number("the length of a line", int(length), 1)
        except ValueError:
            raise ValueError(f"the length of a line must be a whole number of at least 1, not {length!r}") from None
        vocabulary = tokenizer.vocabulary
        words = ["" if i < vocabulary.FIRST_WORD else vocabulary.token(i) for i in range(len(vocabulary))]
        letters = [[ord(c) for c in word.casefold() if c.isalpha()] for word in words]
        self._tables = Tables(
            first=np.array([own[0] if own else _NO_LETTER for own in letters], np.int64),
            count=np.array([len(own) for own in letters], np.int64),
            begin=np.cumsum([0, *[len(own) for own in letters][:-1]]),
            letters=np.array([c for own in letters for c in own] or [_NO_LETTER], np.int64),
        )

    def start(self, prefixes: Any) -> Any:
        """See `Form`."""
        xp, where = namespace(prefixes), device(prefixes)
        count, begin, letters = (self._tables.like(prefixes, name) for name in ("count", "begin", "letters"))
        ends = xp.cumulative_sum(count[prefixes], axis=1)  # letters up to each token
        number = xp.clip(ends[:, -1], 0, _PROMPT)
        rows = xp.arange(prefixes.shape[0], device=where)
        found = []
        for place in range(_PROMPT):
            token = xp.clip(xp.sum(xp.astype(ends <= place, xp.int64), axis=1), 0, prefixes.shape[1] - 1)
            word = prefixes[rows, token]
            inside = place - (ends[rows, token] - count[word])
            letter = letters[xp.clip(begin[word] + inside, 0, letters.shape[0] - 1)]
            found.append(xp.where(place < number, letter, _NO_LETTER))
        return xp.stack([xp.zeros_like(number), number, *found], axis=1)

    def allowed(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        full = states[:, 0] >= states[:, 1] * self.length
        return (tokens == Vocabulary.EOS) == full[:, None]

    def next(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        return xp.concat([states[:, :1] + 1, states[:, 1:]], axis=1)

    def bonus(self, states: Any, tokens: Any) -> Any:
        """See `Form`."""
        xp = namespace(states)
        line = states[:, 0] // self.length
        begins = (states[:, 0] % self.length == 0) & (line < states[:, 1])
        rows = xp.arange(states.shape[0], device=device(states))
        asked = states[rows, xp.clip(line + 2, 2, _PROMPT + 1)]
        fits = self._tables.like(states, "first")[tokens] == asked[:, None]
        return xp.astype(begins[:, None] & fits, xp.float64)
