"""What an agent takes of memory, in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from .agent import DQN


def memory_figures(agent: DQN) -> dict[str, int]:
    """Bytes of what training keeps: both networks, the optimiser, the replay, the corpus' episodes.

    What one update needs besides is not in it. An agent that has not begun to train counts as if it had.
    """
    agent.prepare()
    learner = agent.learner
    weights = list(learner.network.parameters())
    trained = _bytes(p for p in weights if p.requires_grad)
    copied = trained if learner.has_target_network else 0  # what is not trained, the target network shares
    moments = {"adam": 2, "adamw": 2, "sparse_adam": 2, "sgd": 1}[agent.config.optimizer]
    corpus = agent.sampler.corpus if agent.sampler else None
    return {
        "networks": _bytes(weights) + copied,
        "optimizer": trained * (moments + 1),  # and the gradients
        "replay": agent.replay.num_bytes if agent.replay else 0,
        "corpus": corpus.num_bytes if corpus else 0,
    }


def memory_text(agent: DQN) -> str:
    """The figures in one line."""
    figures = memory_figures(agent)
    parts = [f"{name} {_readable(size)}" for name, size in figures.items() if size]
    rows = f" ({agent.replay.capacity:,} episodes)" if agent.replay else ""
    return "memory: " + ", ".join(p + (rows if p.startswith("replay") else "") for p in parts)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _readable(size: float) -> str:
    power = min(3, max(0, (int(size).bit_length() - 1) // 10))
    value, unit = size / 1024**power, ("B", "KiB", "MiB", "GiB")[power]
    return f"{value:.0f} {unit}" if value >= 100 or power == 0 else f"{value:.1f} {unit}"
