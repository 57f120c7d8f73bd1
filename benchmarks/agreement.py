"""One update of a learning rule on two devices: the same loss and the same gradients, to float tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cases import Case, make_update

# float32 sums have other orders on other devices. An LSTM adds some hundred numbers at each of eight steps, forward and
# backward; 2^-24 of the largest for each of them stays far below this.
TOLERANCE = 1e-4
SMALL = Case(vocab_size=60, length=8, batch=4)


def difference(rule: str, device: str, network: str = "lstm") -> float:
    """Largest difference between an update on the CPU and on `device`.

    Args:
        rule: name of a learning rule.
        device: "cpu" or "cuda".
        network: "lstm" or "transformer".

    Returns: the largest over the loss and the gradients of all parameters, each relative to its largest entry.
    """
    with exact_products():
        expected, found = (_update(rule, place, network) for place in ("cpu", device))
    if expected.keys() != found.keys():
        raise ValueError(f"{rule}: gradients of {sorted(expected.keys() ^ found.keys())} are on one device only")
    return max(relative(found[name], expected[name]) for name in expected)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest |found - expected| over the largest |expected|; 0 where both are 0 throughout."""
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) / (largest or 1.0)


def _update(rule: str, device: str, network: str) -> dict[str, Tensor]:
    """Loss and gradients of the first update; the random numbers all come from the CPU."""
    case = Case(network, SMALL.vocab_size, SMALL.length, SMALL.batch)
    learner, update = make_update(case, device, loss=rule)
    for parameter in learner.target_network.parameters() if learner.lags else ():
        parameter += 0.1 * torch.randn(parameter.shape).to(parameter.device)
    made = {"loss": update()["loss"]}
    made |= {name: p.grad for name, p in learner.network.named_parameters() if p.grad is not None}
    return {name: value.detach().cpu().double() for name, value in made.items()}


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of float32 without TF32, which rounds to ten bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
