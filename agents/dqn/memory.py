"""Memory that training takes, in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from ..networks.sharding import is_sharded, local
from ..replay.episodes import EpisodeReplay
from .learner import Learner


def memory_figures(
    learner: Learner, moments: int, replay: EpisodeReplay | None, corpus: EpisodeReplay | None
) -> dict[str, int]:
    """Bytes of what training keeps; what one update needs besides is not in it.

    Args:
        learner: both networks.
        moments: numbers that the optimiser keeps for each trained weight.
        replay: the agent's own episodes.
        corpus: the corpus' episodes.
    """
    weights = list(learner.network.parameters())
    trained = _bytes(local(p) for p in learner.trained.parameters() if p.requires_grad)
    copied = trained if learner.lags else 0  # frozen weights are shared with the target network
    copied += _bytes(local(p) for p in learner.trained.parameters() if is_sharded(p))
    return {
        "networks": _bytes(weights) + copied,
        "optimizer": trained * (moments + 1),  # and the gradients
        "replay": replay.num_bytes if replay else 0,
        "corpus": corpus.num_bytes if corpus else 0,
    }


def memory_text(figures: Mapping[str, int], episodes: int) -> str:
    """The figures in one line, with the episodes that the replay holds."""
    parts = [f"{name} {_readable(size)}" for name, size in figures.items() if size]
    rows = f" ({episodes:,} episodes)"
    return "memory: " + ", ".join(p + (rows if p.startswith("replay") else "") for p in parts)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _readable(size: float) -> str:
    power = min(3, max(0, (int(size).bit_length() - 1) // 10))
    value, unit = size / 1024**power, ("B", "KiB", "MiB", "GiB")[power]
    return f"{value:.0f} {unit}" if value >= 100 or power == 0 else f"{value:.1f} {unit}"
