"""Parts of a network split over the processes that train it (FSDP2), and the way between parts and whole tensors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import QNetwork


def sharded_copy(network: QNetwork, mesh: Any) -> QNetwork:
    """`network` with bodies of its own that are split over processes; heads and embedding are the same tensors.

    Each block's weights are gathered when it is needed and dropped afterwards, in both directions.

    Args:
        network: has `bodies`. They are copied where they are, and each block goes to the mesh's device by itself.
        mesh: the processes, see `torch.distributed.device_mesh.init_device_mesh`.
    """
    made = copy.copy(network)
    bodies = {id(body) for body in network.bodies}
    made._modules = {
        name: _sharded(copy.deepcopy(module), mesh) if module is not None and id(module) in bodies else module
        for name, module in network._modules.items()
    }
    return made


def _sharded(body: nn.Module, mesh: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    # GPT-2 returns a view; what reads a body's hidden vectors changes nothing in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view", category=UserWarning)
    blocks: Iterable[nn.Module] = next((part for part in body.modules() if isinstance(part, nn.ModuleList)), ())
    for part in (*blocks, body):
        # The root too: what it gathered for a pass without gradients would otherwise outlive the next step.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    return body


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has a part of it only."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has; all of one that is not split."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


@torch.no_grad()
def gather(into: QNetwork, network: QNetwork) -> None:
    """Let the trained parameters of `into` be those of its sharded copy. All processes must call it."""
    for whole, part in zip(into.parameters(), network.parameters(), strict=True):
        if is_sharded(part) and part.requires_grad:
            whole.copy_(part.full_tensor())  # type: ignore[attr-defined]


@torch.no_grad()
def scatter(state: Mapping[str, Tensor], network: QNetwork) -> None:
    """Let `network` have the weights of a whole `state_dict`; every process takes its part, none sends any."""
    if not any(map(is_sharded, network.parameters())):
        network.load_state_dict(state)
        return
    for name, own in network.state_dict().items():
        local(own).copy_(local(_split_like(state[name], own)))


def gathered(value: Any, keeps: bool) -> Any:
    """A state of tensors, lists and dicts with whole tensors, on the CPU where they were split.

    All processes must call it, one after another tensor is gathered.

    Args:
        value: the state.
        keeps: this process wants it; the others get empty tensors.
    """
    if isinstance(value, dict):
        return {name: gathered(each, keeps) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [gathered(each, keeps) for each in value]
    if isinstance(value, Tensor) and is_sharded(value):
        whole: Tensor = value.full_tensor()  # type: ignore[attr-defined]
        return whole.cpu() if keeps else whole.new_empty(0, device="cpu")
    return value


def split_optimizer_state(state: dict[str, Any], parameters: Iterable[Tensor]) -> dict[str, Any]:
    """The `state_dict` of an optimiser with moments split as its parameters are.

    Args:
        state: with whole tensors.
        parameters: the optimiser's, in its order.
    """
    own = list(parameters)

    def split(number: int, moments: Mapping[str, Tensor]) -> dict[str, Any]:
        parameter = own[number]
        return {k: _split_like(v, parameter) if v.shape == parameter.shape else v for k, v in moments.items()}

    return {**state, "state": {number: split(number, moments) for number, moments in state["state"].items()}}


def _split_like(whole: Tensor, tensor: Tensor) -> Tensor:
    if not is_sharded(tensor):
        return whole
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    # No process sends: all of them have the whole tensor.
    return distribute_tensor(whole.detach().to(local(tensor)), mesh, placements, src_data_rank=None)
