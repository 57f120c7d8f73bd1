"""Weights of a network in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...envs.text import write_atomically
from ...envs.text.opening import check_file
from .config import NetworkConfig

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
    with _read(folder) as path:
        return load_file(path, device=device)


def refuse_larger(folder: Path, network: NetworkConfig) -> None:
    """Raise ValueError where `network` has sizes that the weights saved in `folder` do not: it would fill the memory.

    Only the header of the file is read.
    """
    with _read(folder) as path, safe_open(path, framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    most = {"num_layers": len(shapes)}
    widest = max((size for shape in shapes for size in shape), default=0)
    for name in ("hidden_size", "embedding_size", "num_layers"):
        if (size := getattr(network, name, None)) is not None and size > most.get(name, widest):
            raise ValueError(
                f"the weights in {folder} are not those of a network with {name} {size:,}; restore agent.json from a "
                "copy"
            )


@contextmanager
def _read(folder: Path) -> Iterator[Path]:
    """The file of weights in `folder`; what cannot be read inside is a ValueError."""
    path = folder / FILE
    check_file(path, "file of weights", "weights_bytes")  # a pipe would be waited for
    try:
        yield path
    except (SafetensorError, RuntimeError) as problem:  # torch maps the file, and has errors of its own
        raise ValueError(f"the weights in {folder} cannot be read ({problem}); restore them from a copy") from None
