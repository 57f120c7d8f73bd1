"""Task `generation`: the prompt is a prefix of the document, the target is the rest of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..text import Tokenizer
from .documents import Documents


def encode_generation(texts: Iterable[str], tokenizer: Tokenizer, prompt_length: tuple[int, int]) -> Documents:
    """Documents whose prompts are `prompt_length` = (shortest, longest) leading tokens.

    A prompt never takes the whole document: at least one of its tokens is left to write. Documents
    without a token (all stop words, say) are dropped.
    """
    ids = [encoded for text in texts if (encoded := tokenizer.encode(text))]
    longest = np.fromiter((len(d) for d in ids), np.int64, len(ids)) - 1
    return Documents.from_ids(ids, np.minimum(prompt_length[0], longest), np.minimum(prompt_length[1], longest))
