"""Target `causal_lm`: a frozen autoregressive neural language model."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..text.vocabulary import Vocabulary

_ENTRIES = 1 << 26  # entries of a (prefixes, V) block computed at a time


class CausalModel(Protocol):
    """A neural language model over the ids of the environment, batched, on one device.

    Attributes:
        vocab_size: V, special tokens included.
    """

    vocab_size: int

    def read(self, prefixes: Tensor) -> tuple[Tensor, Any]:
        """Encode texts from their beginning.

        Args:
            prefixes: (R, L) int64, left-padded with `<pad>`, at least one token each.

        Returns: (R, V) float64 log-probabilities of the next token, nats, and the state for `step`.
        """
        ...

    def step(self, tokens: Tensor, state: Any, active: Tensor) -> tuple[Tensor, Any]:
        """Append `tokens` (B,) to the `active` (B,) rows; as `read`, with undefined results for other rows."""
        ...

    def put(self, state: Any, rows: Tensor, new: Any) -> Any:
        """`state` of B rows with `rows` (R,) replaced by `new`; `state` itself must not be used again."""
        ...

    def on(self, device: torch.device) -> CausalModel:
        """The same model on `device`."""
        ...


class CausalTarget:
    """p* of a frozen neural language model.

    The model computes on the device of its inputs; for NumPy arrays on the GPU if there is one.

    Args:
        model: the model.
    """

    def __init__(self, model: CausalModel) -> None:
        self.vocab_size = model.vocab_size
        self.context_size: int | None = None
        self._models: dict[str, CausalModel] = {"": model}

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | prefix); see `Target`."""
        rows = self.log_probs(prefixes)
        return rows[np.arange(len(rows)) if isinstance(rows, np.ndarray) else torch.arange(len(rows)), tokens]

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix), without a cached state; see `Target`."""
        where = compute_device(prefixes)
        windows = torch.as_tensor(prefixes).to(where)
        size = max(1, _ENTRIES // self.vocab_size)
        with torch.no_grad():
            parts = [self.model_on(where).read(trimmed(part))[0] for part in windows.split(size)]
        return as_given(torch.cat(parts) if parts else torch.zeros(0, self.vocab_size), prefixes)

    def memory(self, num_rows: int, like: Any) -> CausalMemory:
        """See `RecurrentTarget`."""
        return CausalMemory(self.model_on(compute_device(like)), num_rows, like)

    def model_on(self, where: torch.device) -> CausalModel:
        """The model on a device, copied there at the first call."""
        key = str(where)
        if key not in self._models:
            self._models[key] = self._models[""].on(where)
        return self._models[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_models": {"": self._models[""]}}


class CausalMemory:
    """The state of a `CausalModel` for B rows; see `Memory`.

    Args:
        model: the model, on the device to compute on.
        num_rows: B.
        like: an array of the namespace and device of inputs and outputs.
    """

    def __init__(self, model: CausalModel, num_rows: int, like: Any) -> None:
        self._model = model
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
        all_rows = len(chosen) == len(self._rows) and bool((chosen == self._rows).all())
        if self._log_probs is None and not all_rows:  # the other rows need some state until they begin
            self._log_probs, self._state = self._model.read(windows[:1].repeat(len(self._rows), 1))
        log_probs, state = self._model.read(windows)
        if all_rows or self._log_probs is None:
            self._log_probs, self._state = log_probs, state
        else:
            self._log_probs = self._log_probs.index_copy(0, chosen, log_probs)
            self._state = self._model.put(self._state, chosen, state)

    @torch.no_grad()
    def advance(self, tokens: Any, active: Any) -> None:
        """See `Memory`; does nothing if no row is active."""
        goes_on = torch.as_tensor(active).to(self._device)
        if self._log_probs is None or not bool(goes_on.any()):
            return
        read = torch.where(goes_on, torch.as_tensor(tokens).to(self._device), Vocabulary.BOS)
        log_probs, self._state = self._model.step(read, self._state, goes_on)
        self._log_probs = torch.where(goes_on[:, None], log_probs, self._log_probs)


def trimmed(prefixes: Tensor) -> Tensor:
    """(R, L) left-padded prefixes without columns of padding alone; an empty prefix becomes `<bos>`."""
    prefixes = prefixes.clone()
    prefixes[:, -1] = torch.where(prefixes[:, -1] == Vocabulary.PAD, Vocabulary.BOS, prefixes[:, -1])
    longest = int((prefixes != Vocabulary.PAD).sum(1).max()) if len(prefixes) else 1
    return prefixes[:, prefixes.shape[1] - longest :]


def compute_device(array: Any) -> torch.device:
    """The device of a tensor; for NumPy arrays the GPU if there is one, else the CPU."""
    if isinstance(array, Tensor):
        return array.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_given(values: Tensor, like: Any) -> Any:
    """`values` in the namespace and on the device of `like`."""
    return values.to(like.device) if isinstance(like, Tensor) else values.cpu().numpy()
