"""The policy of a Q-network as one linear layer on its hidden vectors: the output head of a language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import QNetwork


@torch.no_grad()
def linear_policy(network: QNetwork, temperature: float) -> tuple[Tensor, Tensor]:
    """Weights and biases with weights @ hidden + biases = log π(token) + a constant of the state.

    The policy is π ∝ exp(values/τ), and τ goes into the weights. A dueling network's state value is such a constant.

    Args:
        network: its action and behaviour heads are read, without noise.
        temperature: τ, nats; at 0, where the policy is greedy, the values themselves are given.

    Returns: (V, D) and (V,) float64 on the CPU, for tokens only, not phrases.
    Raises ValueError where the policy is not linear in the hidden vectors.
    """
    heads = network.heads
    weight, bias = network.head.weight.double(), network.head.bias.double()
    if heads.quantiles:
        weight, bias = (part.unflatten(0, (network.num_actions, heads.atoms)).mean(1) for part in (weight, bias))
    elif heads.atoms > 1:
        raise ValueError(
            "values that are means of a softmax over returns are not linear in the hidden vectors, so no language "
            "model's head gives this policy; train with another loss, which soft_q is, or quantile"
        )
    if network.behaviour_head is not None and heads.behaviour is not None:
        if heads.likelihood_ratio:
            raise ValueError(
                "a policy weighed by likelihood ratios is not linear in the hidden vectors, so no language model's head"
                " gives it; train with another loss"
            )
        weight = network.behaviour_head.weight.double() + heads.behaviour * weight
        bias = network.behaviour_head.bias.double() + heads.behaviour * bias
    scale = temperature if temperature > 0.0 else 1.0
    size = network.vocab_size
    return weight[:size].cpu() / scale, bias[:size].cpu() / scale


def without_bias(norm: nn.Module, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The same head without biases, where the normalisation before it allows that.

    A bias equal for all tokens changes no policy. After a LayerNorm γ∘n + β the entries of n sum to 0, so the vector
    1/γ has the same product with every hidden vector, 1/γ · β. The bias is put there, with β := γ, which makes it D.

    Args:
        norm: the normalisation whose output is the head's input.
        weight: (V, D) float64.
        bias: (V,) float64.

    Returns: the weights (V, D); the normalisation's new β (D,), None for the old one; and the bias (V,) that is left,
        None where none is.
    """
    bias = bias - bias.mean()
    if bias.abs().max() < 1e-7:
        return weight, None, None
    if not isinstance(norm, nn.LayerNorm) or norm.bias is None or not norm.weight.all():
        return weight, None, bias
    gain, shift = norm.weight.detach().double().cpu(), norm.bias.detach().double().cpu()
    bias = bias + weight @ (shift - gain)
    return weight + torch.outer(bias, 1.0 / gain) / len(gain), gain, None
