"""A module of one's own as a Q-network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...envs import EnvConfig, Vocabulary
from ...envs.text import Tokenizer
from .base import QNetwork, State
from .config import NetworkConfig
from .heads import Heads


@dataclass(frozen=True)
class ModuleConfig(NetworkConfig):
    """A module of one's own, given in Python: `DQN(env, network=my_module)`.

    Args:
        module: name of its class, for the record.
    """

    name: str = "module"
    module: str = ""

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """Raise ValueError: a name does not say what the module is."""
        raise ValueError(
            f"the network is a module of your own ({self.module or 'unnamed'}), which only Python can give; use "
            "DQN(env, network=module) or DQN.load(folder, network=module)"
        )


class ModuleQNetwork(QNetwork):
    """Q-network around a causal `nn.Module`.

    The module maps (B, T) int64 tokens, right-padded with 0, to (B, T, D) float32 hidden vectors. Vector t may depend
    on the tokens up to t only. It has no recurrent state here: while acting it reads the whole text for every token.

    Args:
        vocab_size: V.
        module: the module.
        max_length: longest text in tokens.
        heads: which heads the network has.

    Raises ValueError for a module of another shape, and for one whose vectors depend on later tokens.
    """

    max_length: int

    def __init__(self, vocab_size: int, module: nn.Module, max_length: int, heads: Heads | None = None) -> None:
        super().__init__(vocab_size, _hidden_size(module, vocab_size), heads)
        self.module = module
        self.max_length = max_length

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        hidden: Tensor = self.norm_heads(self.module(tokens))
        return hidden

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`; the state is the (B, max_length) text and its (B,) length."""
        text = tokens.new_zeros((len(tokens), max(self.max_length, tokens.shape[1])))
        text[:, : tokens.shape[1]] = tokens
        return self._last(text, lengths), (text, lengths.clone())

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        text, lengths = state
        text[torch.arange(len(text), device=text.device), lengths] = tokens
        lengths = lengths + 1
        return self._last(text, lengths), (text, lengths)

    def _last(self, text: Tensor, lengths: Tensor) -> Tensor:
        hidden = self(text[:, : int(lengths.max())])
        return hidden[torch.arange(len(text), device=text.device), lengths - 1]


@torch.no_grad()
def _hidden_size(module: nn.Module, vocab_size: int) -> int:
    """D, from a trial of the module on random tokens."""
    trains = module.training
    module.eval()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    first = min(Vocabulary.FIRST_WORD, vocab_size - 1)
    tokens = torch.arange(first, first + 12, device=device).remainder(vocab_size).view(2, 6)
    hidden, shorter = module(tokens), module(tokens[:, :3])
    module.train(trains)
    if not isinstance(hidden, Tensor) or hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
        given = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
        raise ValueError(f"the module must map (B, T) tokens to (B, T, D) hidden vectors; of (2, 6) it made {given}")
    if not torch.allclose(hidden[:, :3], shorter, rtol=1e-3, atol=1e-4):
        raise ValueError(
            "the module is not causal: the hidden vectors of the first 3 tokens change when 3 more follow; vector t "
            "may depend on the tokens up to t only"
        )
    return int(hidden.shape[2])
