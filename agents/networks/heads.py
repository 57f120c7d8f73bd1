"""The heads of a Q-network: action values, state values, behaviour policy, rewards; noisy layers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Heads:
    """Which heads a Q-network has.

    Args:
        initial_value: every action value before training, nats.
        value_scale: factor of the value head's output, nats.
        atoms: outputs per action: 1 for a value, more for a distribution of returns (small vocabularies).
        value_bins: outputs of the value head: 1 for a value, more for a histogram over `support`.
        support: lowest and highest return of a distribution or histogram, nats.
        quantiles: the atoms are quantiles; else they are logits over `support`.
        behaviour: weight of the advantage that the policy adds to log π_β, with a second V-wide head for the behaviour
            policy π_β; None for no such head.
        likelihood_ratio: the action head gives logits of p(a | s), and the advantage is p(a | s)/π_β(a | s) (Q-SFT).
        rewards: a V-wide head for the reward of each action, used for return decomposition.
        noisy: learned noise on the weights of all heads (Fortunato et al. 2018).
        layer_norm: a LayerNorm before the heads.
        num_actions: number of actions, more than V if some write phrases; None for V.
    """

    initial_value: float = 0.0
    value_scale: float = 1.0
    atoms: int = 1
    value_bins: int = 1
    support: tuple[float, float] = (-100.0, 0.0)
    quantiles: bool = False
    behaviour: float | None = None
    likelihood_ratio: bool = False
    rewards: bool = False
    noisy: bool = False
    layer_norm: bool = False
    num_actions: int | None = None

    def linear(self, inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
        """A linear layer, noisy if `noisy`, with small random weights and the given bias."""
        made = NoisyLinear(inputs, outputs) if self.noisy else nn.Linear(inputs, outputs)
        nn.init.normal_(made.weight, std=0.02)
        nn.init.constant_(made.bias, bias)
        return made


class NoisyLinear(nn.Linear):
    """Linear layer with learned, factorised Gaussian noise on its weights; no noise in eval mode.

    Source: Fortunato et al. 2018, "Noisy networks for exploration", eq. 9 to 11, σ₀ = 0.5.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        scale = 0.5 / math.sqrt(inputs)
        self.weight_scale = nn.Parameter(torch.full((outputs, inputs), scale))
        self.bias_scale = nn.Parameter(torch.full((outputs,), scale))
        self.register_buffer("noise_in", torch.zeros(inputs), persistent=False)
        self.register_buffer("noise_out", torch.zeros(outputs), persistent=False)

    def resample(self) -> None:
        """Draw new noise, and use it until `eval()`."""
        self.training = True
        for noise in (self.noise_in, self.noise_out):
            normal = torch.randn_like(noise)
            noise.copy_(normal.sign() * normal.abs().sqrt())

    def effective(self) -> tuple[Tensor, Tensor]:
        """(outputs, inputs) weights and (outputs,) biases with the current noise."""
        if not self.training:
            return self.weight, self.bias
        noise = torch.outer(self.noise_out, self.noise_in)
        return self.weight + self.weight_scale * noise, self.bias + self.bias_scale * self.noise_out

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(inputs, *self.effective())


def effective(head: nn.Linear) -> tuple[Tensor, Tensor]:
    """(outputs, D) weights and (outputs,) biases of a head, with the current noise if it is noisy."""
    return head.effective() if isinstance(head, NoisyLinear) else (head.weight, head.bias)
