"""The networks of an update where processes split them among each other."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist

from ..networks import QNetwork
from ..networks.sharding import sharded_copy
from .config import AgentConfig


def sharded_networks(network: QNetwork, config: AgentConfig, lags: bool) -> tuple[QNetwork, QNetwork]:
    """Split the network that is trained and its target network; returns the parts that this process has.

    `network` itself stays whole, to act with. While parts are made the whole copies are on the CPU.

    Args:
        network: the same in all processes.
        config: the learner's settings.
        lags: the target network is a network of its own.

    Raises ValueError for settings that need a whole target network or updates of one process alone.
    """
    if config.averaged:
        raise ValueError("a sharded network cannot act with averaged weights; set averaged or network.sharded to false")
    if config.pretrain:
        raise ValueError("a sharded network cannot be pretrained; set pretrain to 0 or network.sharded to false")
    from torch.distributed.device_mesh import init_device_mesh

    device = network.head.weight.device
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where parts go; by default all processes' would go to the first one
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    network.to("cpu")
    trained = sharded_copy(network, mesh)
    target = trained
    if lags:
        target = sharded_copy(copy.deepcopy(network), mesh).requires_grad_(False).eval().to(device)
    network.to(device)
    return trained, target
