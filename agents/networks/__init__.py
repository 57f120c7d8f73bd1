"""Q-networks over token prefixes."""

from __future__ import annotations

from typing import Any

from ...envs import nearest
from .base import QNetwork, State, put_rows
from .heads import Heads
from .lstm import LSTMQNetwork
from .seq2seq_lstm import Seq2SeqLSTMQNetwork
from .seq2seq_transformer import Seq2SeqTransformerQNetwork
from .tabular import TabularQNetwork
from .transformer import TransformerQNetwork

NETWORKS: dict[str, type[QNetwork]] = {
    "lstm": LSTMQNetwork,
    "transformer": TransformerQNetwork,
    "seq2seq_lstm": Seq2SeqLSTMQNetwork,
    "seq2seq_transformer": Seq2SeqTransformerQNetwork,
    "tabular": TabularQNetwork,
}


def make_network(name: str, vocab_size: int, **settings: Any) -> QNetwork:
    """The network called `name`, one of NETWORKS; `settings` are its constructor's."""
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is unknown{nearest(name, NETWORKS)}; use one of {', '.join(NETWORKS)}")
    return NETWORKS[name](vocab_size, **settings)


__all__ = [
    "Heads",
    "LSTMQNetwork",
    "QNetwork",
    "Seq2SeqLSTMQNetwork",
    "Seq2SeqTransformerQNetwork",
    "State",
    "TabularQNetwork",
    "TransformerQNetwork",
    "make_network",
    "put_rows",
]
