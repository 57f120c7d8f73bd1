"""A text during decoding: ids in, pieces of text out that later tokens do not change."""

from __future__ import annotations

from collections.abc import Sequence

from ...envs import Vocabulary
from ...envs.text import Tokenizer

# An incomplete UTF-8 character decodes to U+FFFD, and some tokenizers drop a space before a Chinese character.
_UNSETTLED = "\ufffd "


class Transcript:
    """One text that grows token by token.

    Args:
        tokenizer: decodes ids.
        shown_prompt: ids of the prompt, if the text includes it.
        stop: the text ends before the first of these strings after the prompt; they may span tokens.

    Attributes:
        ids: the new tokens, `<eos>` included.
        over: whether the text has ended, by `<eos>`, a stop string or `close`.
    """

    def __init__(self, tokenizer: Tokenizer, shown_prompt: Sequence[int] = (), stop: Sequence[str] = ()) -> None:
        self.ids: list[int] = []
        self.over = False
        self._tokenizer = tokenizer
        self._prompt = list(shown_prompt)
        self._stop = tuple(stop)
        self._start = len(tokenizer.decode(self._prompt)) if self._prompt else 0
        self._end: int | None = None
        self._given = 0

    def add(self, token: int) -> None:
        """Append one token; ignored after the end of the text."""
        if self.over:
            return
        self.ids.append(token)
        if token == Vocabulary.EOS:
            self.over = True
        elif self._stop:
            text = self._whole()
            found = [place for s in self._stop if (place := text.find(s, self._start)) >= 0]
            if found:
                self.over, self._end = True, min(found)

    def close(self) -> None:
        """End the text."""
        self.over = True

    @property
    def text(self) -> str:
        """The whole text, cut before a stop string, without special tokens."""
        return self._whole()[: self._end]

    def piece(self) -> str:
        """The new part of the text since the last call. After the end of the text all pieces concatenate to `text`.

        An incomplete character, trailing spaces and a possible beginning of a stop string are held back.
        """
        text = self.text
        settled = len(text)
        if not self.over:
            kept = text.rstrip(_UNSETTLED)  # the next tokens may change the rest, and complete a stop string
            settled = len(kept) - self._beginning_of_stop(kept)
        piece = text[self._given : settled]
        self._given = max(self._given, settled)
        return piece

    def _whole(self) -> str:
        return self._tokenizer.decode([*self._prompt, *self.ids])

    def _beginning_of_stop(self, text: str) -> int:
        """Length of the longest suffix of the new text that is a prefix of a stop string."""
        written = text[self._start :]
        longest = min(len(written), max((len(s) for s in self._stop), default=0))
        return next((n for n in range(longest, 0, -1) if any(s.startswith(written[-n:]) for s in self._stop)), 0)
