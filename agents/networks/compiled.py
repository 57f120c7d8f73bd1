"""torch.compile for a network's pass over whole texts, with the plain pass to fall back on."""

from __future__ import annotations

import warnings

import torch
from torch._dynamo.exc import TorchDynamoException

from .base import QNetwork


def compile_forward(network: QNetwork, device: torch.device | str) -> bool:
    """Compile `network(tokens)` for texts of any number and length, in place; acting steps stay as they are.

    Where the compiler does not work (none installed, an operation it does not know) a warning says so and the network
    stays plain.

    Args:
        network: on `device`.
        device: where it lives.

    Returns: whether it is compiled.
    """
    network.compile(dynamic=True)
    try:  # here, for the compiler starts at the first call only
        hidden = network(torch.zeros((2, 3), dtype=torch.int64, device=device))
        if hidden.requires_grad:
            hidden.sum().backward()
    except TorchDynamoException as problem:
        network._compiled_call_impl = None  # what Module.compile sets; PyTorch has no word for undoing it
        reason = str(problem).strip().splitlines()[0]
        warnings.warn(f"torch.compile does not work here, the network runs uncompiled: {reason}", stacklevel=2)
    network.zero_grad(set_to_none=True)
    return network._compiled_call_impl is not None
