"""Target `causal_lm`: a frozen neural language model that reads one token after the other."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..text.vocabulary import Vocabulary

_ENTRIES = 1 << 26  # entries of a (prefixes, V) block that is computed at a time


class Reader(Protocol):
    """A neural model that reads ids of the environment, batched, on one device.

    Attributes:
        vocab_size: V, special tokens included.
    """

    vocab_size: int

    def read(self, prefixes: Tensor) -> tuple[Tensor, Any]:
        """Read texts from their beginning.

        Args:
            prefixes: (R, L) int64, left-padded with 0, at least one token each.

        Returns: (R, V) float64 log-probabilities of the next token in nats, and the state to go on from.
        """
        ...

    def step(self, tokens: Tensor, state: Any, active: Tensor) -> tuple[Tensor, Any]:
        """Read one of `tokens` (B,) more in the `active` (B,) rows; as `read`, other rows' numbers mean nothing."""
        ...

    def put(self, state: Any, rows: Tensor, new: Any) -> Any:
        """The state of B rows in which `rows` (R,) are those of `new`; the old one must not be used again."""
        ...

    def on(self, device: torch.device) -> Reader:
        """The same model on `device`."""
        ...


class CausalTarget:
    """p* of a neural language model.

    Everything is computed by the model on the device of the arrays it is asked with; for NumPy arrays that is the GPU
    where there is one. It never learns.

    Args:
        reader: the model.
    """

    def __init__(self, reader: Reader) -> None:
        self.vocab_size = reader.vocab_size
        self.context_size: int | None = None
        self._readers: dict[str, Reader] = {"": reader}

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | prefix); see `Target`."""
        rows = self.log_probs(prefixes)
        return rows[np.arange(len(rows)) if isinstance(rows, np.ndarray) else torch.arange(len(rows)), tokens]

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix), reading every prefix from its beginning; see `Target`."""
        where = compute_device(prefixes)
        windows = torch.as_tensor(prefixes).to(where)
        size = max(1, _ENTRIES // self.vocab_size)
        with torch.no_grad():
            parts = [self.reader(where).read(trimmed(part))[0] for part in windows.split(size)]
        return as_given(torch.cat(parts) if parts else torch.zeros(0, self.vocab_size), prefixes)

    def memory(self, num_rows: int, like: Any) -> CausalMemory:
        """See `RecurrentTarget`."""
        return CausalMemory(self.reader(compute_device(like)), num_rows, like)

    def reader(self, where: torch.device) -> Reader:
        """The model on a device, moved there once."""
        key = str(where)
        if key not in self._readers:
            self._readers[key] = self._readers[""].on(where)
        return self._readers[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {"": self._readers[""]}}


class CausalMemory:
    """What a model has read of B rows; see `Memory`.

    Args:
        reader: the model, on the device to compute on.
        num_rows: B.
        like: an array of the kind and device that arrays come and go in.
    """

    def __init__(self, reader: Reader, num_rows: int, like: Any) -> None:
        self._reader = reader
        self._like = like[:0]
        self._device = compute_device(like)
        self._rows = torch.arange(num_rows, device=self._device)
        self._log_probs: Tensor | None = None
        self._state: Any = None

    @property
    def log_probs(self) -> Any:
        """(B, V) float64, nats."""
        if self._log_probs is None:
            raise ValueError("nothing has been read yet; call begin() first")
        return as_given(self._log_probs, self._like)

    @torch.no_grad()
    def begin(self, rows: Any, prefixes: Any) -> None:
        """See `Memory`."""
        if not len(rows):
            return
        chosen = torch.as_tensor(rows).to(self._device)
        windows = trimmed(torch.as_tensor(prefixes).to(self._device))
        everyone = len(chosen) == len(self._rows) and bool((chosen == self._rows).all())
        if self._log_probs is None and not everyone:  # the others must hold something until they begin
            self._log_probs, self._state = self._reader.read(windows[:1].repeat(len(self._rows), 1))
        log_probs, state = self._reader.read(windows)
        if everyone or self._log_probs is None:
            self._log_probs, self._state = log_probs, state
        else:
            self._log_probs = self._log_probs.index_copy(0, chosen, log_probs)
            self._state = self._reader.put(self._state, chosen, state)

    @torch.no_grad()
    def advance(self, tokens: Any, active: Any) -> None:
        """See `Memory`; costs nothing where no row is active."""
        goes_on = torch.as_tensor(active).to(self._device)
        if self._log_probs is None or not bool(goes_on.any()):
            return
        read = torch.where(goes_on, torch.as_tensor(tokens).to(self._device), Vocabulary.BOS)
        log_probs, self._state = self._reader.step(read, self._state, goes_on)
        self._log_probs = torch.where(goes_on[:, None], log_probs, self._log_probs)


def trimmed(prefixes: Tensor) -> Tensor:
    """(R, L) left-padded prefixes without columns that are padding in every row; an empty one becomes `<bos>`."""
    prefixes = prefixes.clone()
    prefixes[:, -1] = torch.where(prefixes[:, -1] == Vocabulary.PAD, Vocabulary.BOS, prefixes[:, -1])
    longest = int((prefixes != Vocabulary.PAD).sum(1).max()) if len(prefixes) else 1
    return prefixes[:, prefixes.shape[1] - longest :]


def compute_device(array: Any) -> torch.device:
    """A tensor's own device; for NumPy arrays the GPU where there is one."""
    if isinstance(array, Tensor):
        return array.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_given(values: Tensor, like: Any) -> Any:
    """`values` as the kind of array that `like` is."""
    return values.to(like.device) if isinstance(like, Tensor) else values.cpu().numpy()
