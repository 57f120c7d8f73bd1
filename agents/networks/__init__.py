"""Q-networks over token prefixes."""

from .base import QNetwork, State, put_rows
from .heads import Heads
from .lstm import LSTMQNetwork
from .making import NETWORKS, make_network
from .pretrained import PretrainedSettings
from .seq2seq_lstm import Seq2SeqLSTMQNetwork
from .seq2seq_transformer import Seq2SeqTransformerQNetwork
from .tabular import TabularQNetwork
from .transformer import TransformerQNetwork

__all__ = [
    "NETWORKS",
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
