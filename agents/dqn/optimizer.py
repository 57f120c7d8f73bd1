"""The optimiser step, dense or over the rows that a batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...envs.arguments import check_settings, number
from ..devices import fuses
from ..networks import QNetwork
from ..networks.sharding import is_sharded, local, split_optimizer_state


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser and its settings.

    Args:
        name: "adam", "adamw", "sgd", or "sparse_adam": Adam that moves only the rows of the embedding that a batch
            reads, and without dueling only the rows of the action head that it takes; for large vocabularies.
        head_rate: learning rate of the heads, in units of the agent's `learning_rate`. An LSTM's hidden vectors are
            small, so the head's weights have far to go: with a large vocabulary and little time, 10 reaches in one
            minute what 1 reaches in two. On a small corpus learned to the end it gains nothing.
        weight_decay: of AdamW and SGD.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
    """

    name: Literal["adam", "adamw", "sgd", "sparse_adam"] = "adam"
    head_rate: float = number(1.0, 0.0)
    weight_decay: float = number(0.0, 0.0, 1.0)
    max_grad_norm: float | None = number(10.0, 1e-9)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_settings(self)
        if self.name in ("adam", "sparse_adam") and self.weight_decay:
            raise ValueError(f"{self.name} has no weight_decay; use adamw or sgd, not weight_decay {self.weight_decay}")

    @property
    def moments(self) -> int:
        """Numbers that it keeps for each trained weight."""
        return 1 if self.name == "sgd" else 2


class Optimizer:
    """torch's optimisers under one schedule and one gradient norm; with `head_rate` the heads in a group of their own.

    With "sparse_adam" the gradients of the embedding, and of the action head where only taken actions train it, hold
    the rows of the batch's tokens alone, and so do their steps (`torch.optim.SparseAdam`: the moments of other rows do
    not change). Adam would pass over all V rows of six arrays for every batch.

    Args:
        network: what is trained.
        config: which optimiser.
        learning_rate: step size at the beginning.
        reads_all_actions: the gradient reaches all V outputs of the action head, not those of taken actions alone.
    """

    def __init__(
        self, network: QNetwork, config: OptimizerConfig, learning_rate: float, reads_all_actions: bool = True
    ) -> None:
        sparse = sparse_weights(network, config, reads_all_actions)
        rows = {id(p) for p in sparse}
        self.parameters = list(network.parameters())
        self.max_grad_norm = config.max_grad_norm
        heads = {id(p) for p in network.head_parameters()} if config.head_rate != 1.0 else set()
        # Split tensors and whole ones cannot be moved in one call, and a checkpoint has the same groups for both.
        bodies = {id(p) for body in network.bodies for p in body.parameters()}

        def groups(parameters: Sequence[Tensor]) -> list[dict[str, Any]]:
            others: dict[str, Any] = {"params": [p for p in parameters if id(p) not in heads | bodies]}
            of_bodies = {"params": [p for p in parameters if id(p) in bodies]}
            of_heads = {"params": [p for p in parameters if id(p) in heads], "factor": config.head_rate}
            return [group for group in (others, of_bodies, of_heads) if group["params"]]

        self.dense = _dense(groups([p for p in self.parameters if id(p) not in rows]), config, learning_rate)
        self.sparse = torch.optim.SparseAdam(groups(sparse), lr=learning_rate) if sparse else None

    @property
    def _all(self) -> list[torch.optim.Optimizer]:
        return [self.dense] if self.sparse is None else [self.dense, self.sparse]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> Tensor | None:
        """Move the parameters by their gradients, scaled down to a common norm of `max_grad_norm` where there is one.

        Returns: what that norm was, a scalar; None without clipping.
        """
        norm = None if self.max_grad_norm is None else self._clip(self.max_grad_norm)
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group.get("factor", 1.0)
            optimizer.step()
        return norm

    def _clip(self, max_norm: float) -> Tensor:
        gradients: list[Tensor] = []
        parts: list[Tensor] = []
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
                gradients.append(parameter.grad._values())
            else:
                (parts if is_sharded(parameter) else gradients).append(parameter.grad)
        norm = nn.utils.get_total_norm(gradients)
        if parts:
            norm = torch.hypot(norm, nn.utils.get_total_norm(parts).full_tensor())  # type: ignore[attr-defined]
        torch._foreach_mul_([*gradients, *map(local, parts)], (max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        return {"dense": self.dense.state_dict(), "sparse": self.sparse and self.sparse.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        parameters = [p for group in self.dense.param_groups for p in group["params"]]
        self.dense.load_state_dict(split_optimizer_state(state["dense"], parameters))
        if self.sparse is not None:
            self.sparse.load_state_dict(state["sparse"])


def sparse_weights(network: QNetwork, config: OptimizerConfig, reads_all_actions: bool) -> list[Tensor]:
    """Let the weights of `network` that "sparse_adam" moves row by row have sparse gradients; which ones."""
    return network.use_sparse_gradients(with_head=not reads_all_actions) if config.name == "sparse_adam" else []


def _dense(groups: list[dict[str, Any]], config: OptimizerConfig, rate: float) -> torch.optim.Optimizer:
    fused = fuses(groups[0]["params"][0].device)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=config.weight_decay, fused=fused)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=config.weight_decay, fused=fused)
    return torch.optim.Adam(groups, lr=rate, fused=fused)
