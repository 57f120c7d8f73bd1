"""The settings of a Q-network, part of the learner's (`configuration`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ...envs import nearest
from ...envs.typed import check_types

Precision = Literal["float32", "bfloat16"]
Network = Literal["lstm", "transformer", "seq2seq_lstm", "seq2seq_transformer", "pretrained", "tabular"]
Positions = Literal["rotary", "learned"]


@dataclass(frozen=True)
class NetworkConfig:
    """The Q-network.

    Args:
        name: "lstm" (embedding, LSTM, linear), "transformer" (causal, pre-norm), for tasks of pairs "seq2seq_lstm"
            (bidirectional encoder, decoder with attention) and "seq2seq_transformer" (encoder–decoder), "pretrained"
            (a Hugging Face model), or "tabular" (a row of values for each prefix; tiny environments only).
        embedding_size: width of the LSTM's embedding; the Transformer's is hidden_size.
        hidden_size: width of the hidden state that the head reads.
        num_layers: layers of the LSTM or Transformer, of encoder and decoder each.
        num_heads: attention heads of the Transformer.
        positions: how the Transformer sees positions, "rotary" or "learned".
        dropout: dropout probability while training.
        initial_value: what every Q-value is before training, in nats.
        value_scale: nats that one unit of the value head stands for. Returns paid at the end run to hundreds of nats,
            and a head that grows to them more slowly than the policy leaves the policy to explain them.
        noisy: learned noise on the heads' weights, which explores (Fortunato et al. 2018).
        skip: the heads of the LSTM see the newest token's embedding too, so that what one token says of the next
            need not pass the gates.
        layer_norm: a LayerNorm before the heads of the LSTM; the loss "pqn" has one in any case.
        chunk_length: for long text, tokens whose inner states an LSTM's backward pass keeps at a time, running each
            chunk twice; gradients are the same. None keeps all.
        attention_window: for long text, tokens that each token of "transformer" sees, itself included; memory and
            time then grow with length × window. None for all tokens before it.
        embedding_file: word vectors to begin the token embedding with: word2vec or GloVe text, or a .npy array with a
            row for each token id. Their length must be that of the embedding.
        pretrained: local folder, or name on the Hugging Face hub, of the model of the network "pretrained": causal
            (GPT-2, Llama, …), or for tasks of pairs encoder–decoder (T5, BART, …). Its sizes and dropout are its own;
            a learning rate around 1e-4 suits it.
        lora_rank: train additions of this rank to the pretrained model's linear layers, and the heads, alone (Hu et
            al. 2022); None trains all of it.
        gradient_checkpointing: run the pretrained model's layers again for the backward pass instead of keeping them.
        weight_dtype: of the pretrained model's weights; "bfloat16" with lora_rank only, for an update to a weight of
            so few digits is mostly lost.
    """

    name: Network = "lstm"
    embedding_size: int = 128
    hidden_size: int = 256
    num_layers: int = 1
    num_heads: int = 4
    positions: Positions = "rotary"
    dropout: float = 0.0
    initial_value: float = 0.0
    value_scale: float = 1.0
    noisy: bool = False
    skip: bool = False
    layer_norm: bool = False
    chunk_length: int | None = None
    attention_window: int | None = None
    embedding_file: str | None = None
    pretrained: str | None = None
    lora_rank: int | None = None
    gradient_checkpointing: bool = False
    weight_dtype: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_types(self)
        for name in ("chunk_length", "attention_window", "lora_rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None, not {value}")
        if (self.name == "pretrained") != (self.pretrained is not None):
            raise ValueError(
                f"the network 'pretrained' and the setting pretrained, its model, go together; network {self.name!r} "
                f"has pretrained {self.pretrained!r}"
            )
        if self.weight_dtype not in get_args(Precision):
            raise ValueError(
                f"weight_dtype {self.weight_dtype!r} is unknown; use one of {', '.join(get_args(Precision))}"
            )
        if self.weight_dtype != "float32" and self.lora_rank is None:
            raise ValueError(
                "weights in bfloat16 lose most of each update, so they are for lora_rank, where others are trained; "
                "for faster products alone use precision bfloat16"
            )
        if self.embedding_file is not None and self.name in ("pretrained", "tabular"):
            raise ValueError(f"embedding_file is for networks with an embedding of their own, not {self.name!r}")


def network_config(network: NetworkConfig | Mapping[str, Any] | None) -> NetworkConfig:
    """`NetworkConfig` from its fields; an unknown one raises ValueError naming the nearest."""
    if isinstance(network, NetworkConfig):
        return network
    names = [f.name for f in dataclasses.fields(NetworkConfig)]
    for name in network or {}:
        if name not in names:
            raise ValueError(f"the network has no setting {name!r}{nearest(name, names)}")
    return NetworkConfig(**(network or {}))
