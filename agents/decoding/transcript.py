"""A text while it is being written: ids in, readable text out, never to be taken back."""

from __future__ import annotations

from collections.abc import Sequence

from ...envs import Vocabulary
from ...envs.text import Tokenizer

# A character of several bytes reads as this until its last byte is there; some decoders drop a blank before Chinese.
_UNSETTLED = "\ufffd "


class Transcript:
    """One text, token by token, with what may be shown of it so far.

    Args:
        tokenizer: turns ids into text.
        shown_prompt: ids the text begins with; none where only what is written is to be shown.
        stop: the text ends before the first of these strings in what is written; they may span tokens.

    Attributes:
        ids: what was written, `<eos>` included.
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
        """Write one token more; nothing once the text is over."""
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
        """End the text where it stands."""
        self.over = True

    @property
    def text(self) -> str:
        """All of it, cut before a stop string; special tokens are not shown."""
        return self._whole()[: self._end]

    def piece(self) -> str:
        """What has been settled since the last call; all pieces of a text that is over join to `text`.

        An incomplete character, blanks and what may be the beginning of a stop string are held back.
        """
        text = self.text
        settled = len(text)
        if not self.over:
            kept = text.rstrip(_UNSETTLED)  # what is still to become of the rest may go on with a stop string, too
            settled = len(kept) - self._beginning_of_stop(kept)
        piece = text[self._given : settled]
        self._given = max(self._given, settled)
        return piece

    def _whole(self) -> str:
        return self._tokenizer.decode([*self._prompt, *self.ids])

    def _beginning_of_stop(self, text: str) -> int:
        """Characters at the end of the written text that a stop string begins with."""
        written = text[self._start :]
        longest = min(len(written), max((len(s) for s in self._stop), default=0))
        return next((n for n in range(longest, 0, -1) if any(s.startswith(written[-n:]) for s in self._stop)), 0)
