"""What several processes that train one network tell each other. torchrun starts them, `runs/ranks.py` joins them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class RankLost(ConnectionError):
    """Another process of the training has ended, or answers no more."""


class Ranks:
    """The processes that train one network, each with environments and a part of the replay of its own.

    Every method must be called by all of them, in the same order. Numbers of the host go from CPU to CPU, so that no
    device is waited for.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._flat = torch.empty(0)  # all gradients in one piece

    def average(self, parameters: Sequence[Tensor], weight: float, count: int) -> int:
        """Let the gradients be those of all processes' batches together.

        A loss is a sum over actions divided by their number (`EpisodeBatch.divisor`), so the gradients are averaged
        with these numbers as weights.

        Args:
            parameters: those trained; the same ones have gradients in all processes.
            weight: divisor of this process's loss.
            count: actions of its batch.

        Returns: the actions of all batches. Raises RankLost.
        """
        total, actions = self.sums(weight, count)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sizes = [gradient.numel() for gradient in gradients]
        if self._flat.numel() != sum(sizes) or self._flat.device != gradients[0].device:
            self._flat = gradients[0].new_empty(sum(sizes))  # kept: new pages cost as much as the sum itself
        parts = [p.view_as(g) for p, g in zip(self._flat.split(sizes), gradients, strict=True)]
        torch._foreach_copy_(parts, gradients)
        self._flat *= weight / total
        with self.answered():
            dist.all_reduce(self._flat)
        torch._foreach_copy_(gradients, parts)
        return int(actions)

    def sums(self, *values: float) -> list[float]:
        """The sum of each number over all processes; raises RankLost."""
        numbers = torch.tensor(values, dtype=torch.float64)
        with self.answered():
            dist.all_reduce(numbers)
        return list(numbers.tolist())

    def first(self, value: float) -> float:
        """The number that the first process gives."""
        number = torch.tensor(value, dtype=torch.float64)
        with self.answered():
            dist.broadcast(number, 0)
        return float(number)

    def all(self, is_so: bool) -> bool:
        """Whether it is so in every process."""
        number = torch.tensor(float(is_so))
        with self.answered():
            dist.all_reduce(number, dist.ReduceOp.MIN)
        return bool(number)

    def take_first(self, tensors: Sequence[Tensor]) -> None:
        """Let the tensors be those of the first process."""
        with self.answered(), torch.no_grad():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def told(self, value: Any) -> Any:
        """What the first process says; the others' `value` counts for nothing."""
        values = [value]
        with self.answered():
            dist.broadcast_object_list(values, 0)
        return values[0]

    def gathered(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """The states of all processes, on the CPU, in the first one; an empty list in the others.

        Where they have left, this process's alone.
        """
        if not dist.is_initialized():
            return [state]
        file = io.BytesIO()
        torch.save(state, file)
        files: list[bytes | None] | None = [None] * self.size if self.rank == 0 else None
        with self.answered():
            dist.gather_object(file.getvalue(), files)
        return [torch.load(io.BytesIO(each or b""), map_location="cpu", weights_only=False) for each in files or []]

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Raise RankLost inside for what the network between the processes raises."""
        try:
            yield
        except RuntimeError as problem:
            if not isinstance(problem, dist.DistError) and "gloo" not in str(problem).lower():
                raise
            why = re.sub(r"^\[.*?\] ", "", str(problem).splitlines()[0])  # without the place in Gloo's sources
            raise RankLost(
                f"rank {self.rank} of {self.size} has lost another one ({why[:120]}); the same command goes on from "
                "the last checkpoint"
            ) from None


def ranks() -> Ranks | None:
    """The processes that this one has joined; None where it trains alone."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    return Ranks(dist.get_rank(), dist.get_world_size())
