"""Q-networks over token prefixes."""

from __future__ import annotations

from typing import Any

from ...envs import nearest
from .base import QNetwork, State, put_rows
from .lstm import LSTMQNetwork
from .transformer import TransformerQNetwork

NETWORKS: dict[str, type[QNetwork]] = {"lstm": LSTMQNetwork, "transformer": TransformerQNetwork}


def make_network(name: str, vocab_size: int, **settings: Any) -> QNetwork:
    """The network called `name`, "lstm" or "transformer"; `settings` are its constructor's."""
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is unknown{nearest(name, NETWORKS)}; use one of {', '.join(NETWORKS)}")
    return NETWORKS[name](vocab_size, **settings)


__all__ = ["LSTMQNetwork", "QNetwork", "State", "TransformerQNetwork", "make_network", "put_rows"]
