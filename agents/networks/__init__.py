"""Q-networks over token prefixes."""

from .base import QNetwork, State, put_rows
from .config import NetworkConfig
from .heads import Heads
from .lstm import LSTMConfig, LSTMQNetwork
from .making import NETWORKS, make_q_network, network_config, saved_network
from .mlp import MLPConfig, MLPQNetwork
from .pretrained import PretrainedConfig
from .seq2seq_lstm import Seq2SeqLSTMConfig, Seq2SeqLSTMQNetwork
from .seq2seq_transformer import Seq2SeqTransformerConfig, Seq2SeqTransformerQNetwork
from .tabular import TabularConfig, TabularQNetwork
from .transformer import TransformerConfig, TransformerQNetwork

__all__ = [
    "NETWORKS",
    "Heads",
    "LSTMConfig",
    "LSTMQNetwork",
    "MLPConfig",
    "MLPQNetwork",
    "NetworkConfig",
    "PretrainedConfig",
    "QNetwork",
    "Seq2SeqLSTMConfig",
    "Seq2SeqLSTMQNetwork",
    "Seq2SeqTransformerConfig",
    "Seq2SeqTransformerQNetwork",
    "State",
    "TabularConfig",
    "TabularQNetwork",
    "TransformerConfig",
    "TransformerQNetwork",
    "make_q_network",
    "network_config",
    "put_rows",
    "saved_network",
]
