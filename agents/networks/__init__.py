"""Q-networks over token prefixes."""

from __future__ import annotations

from typing import Any

from ...envs import nearest
from .base import QNetwork, State, put_rows
from .heads import Heads
from .lstm import LSTMQNetwork
from .tabular import TabularQNetwork
from .transformer import TransformerQNetwork

NETWORKS: dict[str, type[QNetwork]] = {
    "lstm": LSTMQNetwork,
    "transformer": TransformerQNetwork,
    "tabular": TabularQNetwork,
}


def make_network(name: str, vocab_size: int, **settings: Any) -> QNetwork:
    """The network called `name`: "lstm", "transformer" or "tabular"; `settings` are its constructor's."""
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is unknown{nearest(name, NETWORKS)}; use one of {', '.join(NETWORKS)}")
    return NETWORKS[name](vocab_size, **settings)


__all__ = [
    "Heads",
    "LSTMQNetwork",
    "QNetwork",
    "State",
    "TabularQNetwork",
    "TransformerQNetwork",
    "make_network",
    "put_rows",
]
