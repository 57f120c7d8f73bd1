"""A text of two parts, `<bos> source <sep> target`: apart for an encoder and a decoder, and together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...envs import Vocabulary


@dataclass(frozen=True)
class Pairs:
    """B texts, taken apart at the first `<sep>` of each.

    Args:
        source: (B, S) int64, what stands before it, right-padded.
        source_lengths: (B,) int64, tokens of the source, at least 1 (`<bos>`).
        target: (B, T) int64, from the separator on, right-padded.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> Pairs:
        """(B, length) int64, right-padded; raises ValueError where a text has no separator or nothing before it."""
        separators = tokens == Vocabulary.SEP
        starts = separators.int().argmax(1)
        missing = ~separators.any(1) | (starts == 0)
        if bool(missing.any()):
            row = int(missing.nonzero()[0, 0])
            raise ValueError(
                f"an encoder–decoder network reads texts of the form <bos> source <sep> target, but the ids "
                f"{tokens[row, :8].tolist()} … have no <sep> ({Vocabulary.SEP}) behind a source; "
                "use a task of pairs, or the network 'lstm' or 'transformer'"
            )
        length = tokens.shape[1]
        first, last = (int(edge) for edge in torch.stack(starts.aminmax()).tolist())
        source = tokens[:, :last] * inside(starts, last)
        place = starts[:, None] + torch.arange(length - first, device=tokens.device)
        target = tokens.gather(1, place.clamp(max=length - 1)) * (place < length)
        return cls(source, starts, target)

    @property
    def is_source(self) -> Tensor:
        """(B, S) bool, where a source has a token."""
        return inside(self.source_lengths, self.source.shape[1])

    def placed(self, hidden: Tensor, length: int) -> Tensor:
        """(B, T, D) vectors of the target's tokens -> (B, length, D) where they stand in the text, 0 before."""
        place = torch.arange(length, device=hidden.device) - self.source_lengths[:, None]
        moved = hidden.gather(1, place.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1]))
        return moved * (place >= 0)[..., None]


def inside(lengths: Tensor, width: int) -> Tensor:
    """(B,) lengths -> (B, width) bool, True before the end."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def widened(memory: Tensor, width: int, dim: int) -> Tensor:
    """`memory` with zeros behind it along `dim` up to `width`, contiguous, so that rows of other batches fit in."""
    shape = list(memory.shape)
    shape[dim] = width
    result = memory.new_zeros(shape)
    result.narrow(dim, 0, memory.shape[dim]).copy_(memory)
    return result


def refuse_longer(length: int, max_length: int) -> None:
    """Raise ValueError for a text that does not fit the network's memory."""
    if length > max_length:
        raise ValueError(f"a text of {length} tokens is longer than the network's max_length of {max_length}")
