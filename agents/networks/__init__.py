"""Q-networks over token prefixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...envs import nearest
from .base import QNetwork, State, put_rows
from .heads import Heads
from .lstm import LSTMQNetwork
from .pretrained import PretrainedQNetwork, PretrainedSettings, is_encoder_decoder
from .pretrained_causal import PretrainedCausalQNetwork
from .pretrained_seq2seq import PretrainedSeq2SeqQNetwork
from .seq2seq_lstm import Seq2SeqLSTMQNetwork
from .seq2seq_transformer import Seq2SeqTransformerQNetwork
from .tabular import TabularQNetwork
from .transformer import TransformerQNetwork


def _pretrained(
    vocab_size: int, settings: PretrainedSettings, saved: Path | None = None, **others: Any
) -> PretrainedQNetwork:
    """The kind of network that the model is."""
    kind = PretrainedSeq2SeqQNetwork if is_encoder_decoder(settings, saved) else PretrainedCausalQNetwork
    return kind(vocab_size, settings, saved=saved, **others)


NETWORKS: dict[str, Callable[..., QNetwork]] = {
    "lstm": LSTMQNetwork,
    "transformer": TransformerQNetwork,
    "seq2seq_lstm": Seq2SeqLSTMQNetwork,
    "seq2seq_transformer": Seq2SeqTransformerQNetwork,
    "pretrained": _pretrained,
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
    "PretrainedSettings",
    "QNetwork",
    "Seq2SeqLSTMQNetwork",
    "Seq2SeqTransformerQNetwork",
    "State",
    "TabularQNetwork",
    "TransformerQNetwork",
    "make_network",
    "put_rows",
]
