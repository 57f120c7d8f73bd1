"""Weights of a network in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...envs.text import write_atomically
from ...envs.text.opening import check_file

FILE = "weights.safetensors"


def write_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write `weights` by name into `folder`; OSError where the disk does not take them."""
    # A clone each, for weights that share memory cannot be written.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    try:
        write_atomically(folder / FILE, lambda place: save_file(plain, place))
    except SafetensorError as problem:
        raise OSError(f"{folder / FILE} could not be written ({problem}); is the disk full?") from None


def read_weights(folder: Path, device: str) -> dict[str, Tensor]:
    """The weights saved in `folder`, by name; ValueError where they cannot be read."""
    path = folder / FILE
    check_file(path, "file of weights", "weights_bytes")  # a pipe would be waited for
    try:
        return load_file(path, device=device)
    except (SafetensorError, RuntimeError) as problem:  # torch maps the file, and has errors of its own
        raise ValueError(f"the weights in {folder} cannot be read ({problem}); restore them from a copy") from None
