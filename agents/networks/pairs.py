"""Splits texts `<bos> source <sep> target` for an encoder and a decoder, and puts the outputs back in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...envs import Vocabulary


@dataclass(frozen=True)
class Pairs:
    """B texts, each split at its first `<sep>`.

    Args:
        source: (B, S) int64, the tokens before `<sep>`, right-padded.
        source_lengths: (B,) int64, at least 1 (`<bos>`).
        target: (B, T) int64, `<sep>` and the tokens after it, right-padded.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> Pairs:
        """Split (B, length) int64, right-padded. Raises ValueError for a text without a source and `<sep>`."""
        separators = tokens == Vocabulary.SEP
        starts = separators.int().argmax(1)
        missing = ~separators.any(1) | (starts == 0)
        if bool(missing.any()):
            row = int(missing.nonzero()[0, 0])
            raise ValueError(
                f"an encoder–decoder network needs texts of the form <bos> source <sep> target, but the ids "
                f"{tokens[row, :8].tolist()} … have no <sep> ({Vocabulary.SEP}) after a source; "
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
        """(B, S) bool, True for tokens of the source and False for padding."""
        return inside(self.source_lengths, self.source.shape[1])

    def placed(self, hidden: Tensor, length: int) -> Tensor:
        """(B, T, D) vectors of the target -> (B, length, D), moved to their positions in the text; 0 before them."""
        place = torch.arange(length, device=hidden.device) - self.source_lengths[:, None]
        moved = hidden.gather(1, place.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1]))
        return moved * (place >= 0)[..., None]


def inside(lengths: Tensor, width: int) -> Tensor:
    """(B,) lengths -> (B, width) bool, True at positions below the length."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def widened(memory: Tensor, width: int, dim: int) -> Tensor:
    """`memory` padded with zeros along `dim` to `width`, so that rows of other batches have the same shape."""
    shape = list(memory.shape)
    shape[dim] = width
    result = memory.new_zeros(shape)
    result.narrow(dim, 0, memory.shape[dim]).copy_(memory)
    return result


def refuse_longer(length: int, max_length: int) -> None:
    """Raise ValueError if `length` is more than `max_length`."""
    if length > max_length:
        raise ValueError(f"a text of {length} tokens is longer than the network's max_length of {max_length}")
