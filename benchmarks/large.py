"""Arithmetic of memory, bandwidth and time for a language model that fills GPUs; no measurement, no random numbers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from cluster import Rates, Work


@dataclass(frozen=True)
class Model:
    """A transformer and its texts.

    Args:
        parameters: P, of the whole model.
        layers: blocks.
        width: D.
        key_heads: heads of the keys and values, of `head_size` numbers.
        vocab_size: V.
        length: T, tokens of a text.
    """

    parameters: float = 7e9
    layers: int = 32
    width: int = 4_096
    key_heads: int = 8
    head_size: int = 128
    vocab_size: int = 128_000
    length: int = 4_096


@dataclass(frozen=True)
class Device:
    """A GPU, by its data sheet: an H100 SXM with a link of 400 Gbit/s.

    Args:
        memory: bytes.
        memory_bandwidth: bytes/s.
        products: bfloat16 operations/s of matrix products.
        share: part of them that an update reaches, assumed.
        bandwidth: of the link to other machines, bytes/s in each direction.
        latency: seconds of a message.
        usable: part of the memory that weights and caches may fill.
    """

    memory: float = 80e9
    memory_bandwidth: float = 3.35e12
    products: float = 989e12
    share: float = 0.4
    bandwidth: float = 50e9
    latency: float = 10e-6
    usable: float = 0.9


TRAINED = {"weights": 4, "gradients": 4, "Adam": 8, "target network": 4}  # bytes a parameter, all in float32
_BF16, _F32 = 2, 4
_STORED = 4 + 4  # an id of 32 bits and a reward
TEXTS = 16  # of an update on one device


def training_bytes(model: Model, devices: float = 1, whole_copy: bool = False) -> float:
    """Weights, gradients, Adam's moments and target network of one device.

    Args:
        model: the model.
        devices: over which they are sharded.
        whole_copy: a copy of the weights that every device has to act with, in float32.
    """
    return model.parameters * (sum(TRAINED.values()) / devices + (TRAINED["weights"] if whole_copy else 0))


def fewest_devices(model: Model, device: Device, whole_copy: bool) -> int | None:
    """The fewest devices whose usable memory holds their shards; None where the whole copy alone is too large."""
    free = device.usable * device.memory - training_bytes(model, math.inf, whole_copy)
    return math.ceil(training_bytes(model) / free) if free > 0 else None


def cache_bytes(model: Model) -> float:
    """Keys and values of one text of T tokens, bfloat16."""
    return 2 * model.layers * model.key_heads * model.head_size * model.length * _BF16


def texts_at_once(model: Model, device: Device) -> int:
    """Texts whose keys and values fit beside bfloat16 weights on one device."""
    return int((device.usable * device.memory - _BF16 * model.parameters) / cache_bytes(model))


def token_seconds(model: Model, device: Device) -> float:
    """Seconds in which one device writes a token in each of its texts: it reads the weights and half-filled caches."""
    read = _BF16 * model.parameters + texts_at_once(model, device) * cache_bytes(model) / 2
    return read / device.memory_bandwidth


def head_flops(model: Model) -> float:
    """Operations for one transition over all V: log-sum-exp of the online network, forward and backward."""
    return 3 * 2 * model.width * model.vocab_size


def update_flops(model: Model) -> float:
    """Operations for one transition: online network forward and backward, target network forward, attention.

    A multiply-add counts as two. The target network's head is a gather.
    """
    body = model.parameters - 2 * model.vocab_size * model.width  # without embedding and head
    attention = 2 * 2 * model.width * model.length / 2 * model.layers
    return 4 * (2 * body + attention) + head_flops(model)


def learning_rate(model: Model, device: Device) -> float:
    """Transitions/s of one device."""
    return device.share * device.products / update_flops(model)


def reward_rate(model: Model, device: Device) -> float:
    """Tokens/s that one device rewards, p* being a model of the same size that reads finished texts."""
    return device.share * device.products / (2 * model.parameters)


def activation_bytes(model: Model) -> float:
    """What one text keeps for the backward pass with every block recomputed: the blocks' inputs, bfloat16."""
    return model.layers * model.length * model.width * _BF16


def logits_bytes(model: Model) -> float:
    """The (T, V) float32 tensor of one text, which the learner never makes."""
    return model.length * model.vocab_size * _F32


def text_bytes(model: Model) -> float:
    """One text in the replay or on its way there."""
    return model.length * _STORED


def rates_of(model: Model, device: Device) -> Rates:
    """The rates of `cluster.py`."""
    acting = texts_at_once(model, device) / token_seconds(model, device)
    return Rates(
        acting, reward_rate(model, device), learning_rate(model, device), device.bandwidth, device.latency
    )  # fmt: skip


def work_of(model: Model, device: Device) -> Work:
    """The work of `cluster.py`: bfloat16 weights and gradients on the way, sharded, every token trained once."""
    size = _BF16 * model.parameters
    return Work(
        weight_bytes=size, gradient_bytes=size, passes=3, batch=TEXTS * model.length, replay_ratio=1.0,
        length=model.length, token_bytes=_STORED, texts=texts_at_once(model, device), replay=1e3 * model.length,
        total_batch=64 * TEXTS * model.length, fewest=fewest_devices(model, device, whole_copy=True) or 1,
    )  # fmt: skip


def figures(model: Model | None = None, device: Device | None = None) -> dict[str, float | None]:
    """All figures of docs/scaling.md by name, in bytes, seconds, texts, devices and tokens/s."""
    model, device = model or Model(), device or Device()
    rates, work = rates_of(model, device), work_of(model, device)
    averaged = dataclasses.replace(work, gradient_bytes=_F32 * model.parameters)
    return {
        "training bytes": training_bytes(model),
        "training bytes, 8 devices and a whole copy": training_bytes(model, 8, whole_copy=True),
        "fewest devices, whole copy": fewest_devices(model, device, whole_copy=True),
        "fewest devices": fewest_devices(model, device, whole_copy=False),
        "logits bytes": logits_bytes(model),
        "activation bytes": activation_bytes(model),
        "cache bytes": cache_bytes(model),
        "texts at once": texts_at_once(model, device),
        "replay bytes of a million texts": 1e6 * text_bytes(model),
        "bytes of p* a token": _F32 * model.vocab_size,
        "seconds to average gradients": 2 * averaged.gradient_bytes / device.bandwidth,
        "seconds of sharded passes": work.passes * work.gradient_bytes / device.bandwidth,
        "seconds to send the weights": work.weight_bytes / device.bandwidth,
        "seconds to send a text": text_bytes(model) / device.bandwidth,
        "GFLOP a transition": update_flops(model) / 1e9,
        "head's share": head_flops(model) / update_flops(model),
        "transitions/s": rates.learning,
        "tokens/s written": rates.acting,
        "tokens/s rewarded": rates.environment,
        "seconds of an update": work.batch / rates.learning,
        "seconds of a text": token_seconds(model, device) * model.length,
        "updates while a text is written": token_seconds(model, device) * model.length * rates.learning / work.batch,
    }
