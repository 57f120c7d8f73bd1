"""Encoded documents: one flat array of token ids, cut by offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Documents:
    """Token ids of many documents, each with the range of places where its prompt may end.

    Args:
        tokens: (sum of lengths,) int64 ids, documents one after the other, no special tokens around them.
        offsets: (D + 1,) int64; document d is tokens[offsets[d] : offsets[d + 1]].
        shortest_prompt: (D,) int64, fewest leading tokens that an episode starts with.
        longest_prompt: (D,) int64, most leading tokens that an episode starts with.
    """

    tokens: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    shortest_prompt: npt.NDArray[np.int64]
    longest_prompt: npt.NDArray[np.int64]

    @classmethod
    def from_ids(
        cls, ids: Sequence[Sequence[int]], shortest_prompt: npt.ArrayLike, longest_prompt: npt.ArrayLike
    ) -> Documents:
        """Flatten lists of ids; the prompt lengths broadcast over the documents."""
        lengths = np.fromiter((len(d) for d in ids), np.int64, len(ids))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        tokens = np.fromiter((t for d in ids for t in d), np.int64, int(offsets[-1]))
        shape = (len(ids),)
        return cls(
            tokens,
            offsets,
            np.broadcast_to(np.asarray(shortest_prompt, np.int64), shape).copy(),
            np.broadcast_to(np.asarray(longest_prompt, np.int64), shape).copy(),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.int64]:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(D,) tokens in each document."""
        return np.diff(self.offsets)
