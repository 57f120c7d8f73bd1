"""An LSTM's policy as an ONNX file, with its state going in and coming out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import QNetwork
from .linear_policy import linear_policy
from .lstm import LSTMQNetwork

INPUTS, OUTPUTS = ("tokens", "h", "c"), ("logits", "h_next", "c_next")
_OPERATORS, _FORMAT = 17, 8  # versions of ONNX's operators and files


def write_onnx(network: QNetwork, temperature: float, path: Path) -> tuple[int, int]:
    """Write the policy to an ONNX file.

    Inputs: `tokens` (B, T) int64, and the state `h` and `c` (B, layers, D) float32, zeros before the first token.
    Outputs: `logits` (B, T, V), log π up to a constant of the state; `h_next` and `c_next`.

    The graph is written operator by operator, because torch's exporter fixes T.

    Args:
        network: an `LSTMQNetwork`.
        temperature: τ of the policy, nats; see `linear_policy`.
        path: the file.

    Returns: layers and D of the state.
    Raises ValueError for another network or a policy that is not linear, ImportError without the library.
    """
    if not isinstance(network, LSTMQNetwork):
        raise ValueError(f"only an lstm is written as ONNX, not a {type(network).__name__}")
    try:
        import onnx
    except ImportError:
        raise ImportError('the export of an lstm needs the library onnx; pip install "tokenlm[onnx]"') from None
    graph = _Graph(onnx)
    layers, size = network.lstm.num_layers, network.lstm.hidden_size
    embedded = graph.node("Gather", graph.weight(network.embedding.weight), "tokens")
    x = graph.node("Transpose", embedded, perm=[1, 0, 2])  # (T, B, E), as ONNX's LSTM reads
    states: tuple[list[str], list[str]] = ([], [])
    for layer in range(layers):
        number = graph.numbers([layer])
        before = [graph.node("Transpose", graph.node("Gather", part, number, axis=1), perm=[1, 0, 2]) for part in "hc"]
        weights = [graph.weight(part) for part in _gates(network.lstm, layer)]
        x, *after = graph.nodes("LSTM", 3, x, *weights, "", *before, hidden_size=size)
        x = graph.node("Squeeze", x, graph.numbers([1]))  # (T, B, D), of one direction
        for kept, part in zip(states, after, strict=True):
            kept.append(part)
    hidden = graph.node("Transpose", x, perm=[1, 0, 2])
    if network.skip:
        hidden = graph.node("Concat", hidden, embedded, axis=-1)
    if isinstance(network.norm_heads, nn.LayerNorm):
        norm = network.norm_heads
        hidden = graph.node(
            "LayerNormalization", hidden, graph.weight(norm.weight), graph.weight(norm.bias), epsilon=norm.eps
        )
    weight, bias = linear_policy(network, temperature)
    product = graph.node("MatMul", hidden, graph.weight(weight.T))
    graph.node("Add", product, graph.weight(bias - bias.mean()), name="logits")
    for name, parts in zip(OUTPUTS[1:], states, strict=True):
        graph.node("Transpose", graph.node("Concat", *parts, axis=0), perm=[1, 0, 2], name=name)
    state = ["batch", layers, size]
    graph.write(path, {"tokens": ["batch", "length"], "h": state, "c": state},
                {"logits": ["batch", "length", network.vocab_size], "h_next": state, "c_next": state})  # fmt: skip
    return layers, size


def _gates(lstm: nn.LSTM, layer: int) -> list[Tensor]:
    """Weights of the inputs, of the state, and biases: torch has the gates in the order i f g o, ONNX i o f g."""
    found = []
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        i, f, g, o = getattr(lstm, f"{name}_l{layer}").detach().chunk(4)
        found.append(torch.cat([i, o, f, g])[None])
    return [*found[:2], torch.cat(found[2:], 1)]


class _Graph:
    """Nodes and weights of an ONNX graph, each result with a name of its own."""

    def __init__(self, onnx: Any) -> None:
        self._onnx, self._nodes, self._weights = onnx, list[Any](), list[Any]()

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one result."""
        return self.nodes(operator, 1, *inputs, name=name, **attributes)[0]

    def nodes(self, operator: str, count: int, *inputs: str, name: str = "", **attributes: Any) -> list[str]:
        """Add a node with `count` results."""
        results = [name or f"{operator}_{len(self._nodes)}_{n}" for n in range(count)]
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, results, **attributes))
        return results

    def weight(self, values: Tensor) -> str:
        """Add a weight, in float32."""
        return self._constant(values.detach().float().cpu().contiguous())

    def numbers(self, values: list[int]) -> str:
        """Add whole numbers."""
        return self._constant(torch.tensor(values))

    def _constant(self, values: Tensor) -> str:
        name = f"constant_{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(values.numpy(), name))
        return name

    def write(self, path: Path, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> None:
        """Check the graph and write it; shapes by name, the inputs `tokens` int64, all others float32."""
        onnx, kinds = self._onnx, self._onnx.TensorProto

        def described(name: str, shape: list[Any]) -> Any:
            return onnx.helper.make_tensor_value_info(name, kinds.INT64 if name == "tokens" else kinds.FLOAT, shape)

        ends = [[described(*each) for each in end.items()] for end in (inputs, outputs)]
        graph = onnx.helper.make_graph(self._nodes, "policy", *ends, self._weights)
        version = [onnx.helper.make_opsetid("", _OPERATORS)]
        model = onnx.helper.make_model(graph, opset_imports=version, ir_version=_FORMAT, producer_name="tokenlm")
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
