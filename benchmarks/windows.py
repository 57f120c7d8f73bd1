"""Random episodes, as whole texts and as windows for other libraries, and networks over windows.

Other libraries use observations only: each transition stores two left-padded windows of T + 1 tokens, and every value
needs a pass over a whole window. The networks below are ours with one change: they give the hidden vector at the last
token of a window instead of all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from tokenlm.agents.networks import LSTMQNetwork, TransformerQNetwork
from tokenlm.agents.networks.lstm import LSTMConfig
from tokenlm.agents.networks.prefixes import right_padded
from tokenlm.agents.networks.transformer import TransformerConfig
from tokenlm.envs import EnvConfig, Vocabulary

CLASSES = {"lstm": LSTMQNetwork, "transformer": TransformerQNetwork}
NETWORKS = {
    "lstm": LSTMConfig(embedding_size=128, hidden_size=256),
    "transformer": TransformerConfig(hidden_size=256, num_layers=4, num_heads=4),
}
HIDDEN = 256


def environment(vocab_size: int, length: int) -> EnvConfig:
    """An environment whose episodes have exactly `length` actions and fit the window."""
    return EnvConfig(
        target="markov", vocab_size=vocab_size, order=1, ending="fixed", max_new_tokens=length,
        context_length=length + 1, prompt_length=(0, 0),
    )  # fmt: skip


@dataclass
class Transitions:
    """N transitions, as other libraries store them.

    Args:
        observations: (N, T + 1) int64 windows, left-padded.
        next_observations: (N, T + 1) int64.
        actions: (N,) int64.
        rewards: (N,) float32, nats.
        terminal: (N,) bool.
    """

    observations: Tensor
    next_observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminal: Tensor


@dataclass
class RandomEpisodes:
    """E texts of random words with random rewards.

    Args:
        tokens: (E, T + 1) int64, `<bos>` first.
        rewards: (E, T) float32, nats.
    """

    tokens: Tensor
    rewards: Tensor

    @classmethod
    def draw(cls, count: int, length: int, vocab_size: int, seed: int = 0) -> RandomEpisodes:
        """Sample `count` texts of `length` words."""
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(Vocabulary.FIRST_WORD, vocab_size, (count, length + 1), generator=generator)
        tokens[:, 0] = Vocabulary.BOS
        return cls(tokens, -8.0 * torch.rand((count, length), generator=generator))

    def transitions(self) -> Transitions:
        """All E · T transitions."""
        length = self.rewards.shape[1]
        padded = nn.functional.pad(self.tokens, (length, 0), value=Vocabulary.PAD)
        windows = padded.unfold(1, length + 1, 1)  # (E, T + 1, T + 1)
        terminal = torch.zeros_like(self.rewards, dtype=torch.bool)
        terminal[:, -1] = True
        return Transitions(
            windows[:, :-1].flatten(0, 1), windows[:, 1:].flatten(0, 1), self.tokens[:, 1:].flatten(),
            self.rewards.flatten(), terminal.flatten(),
        )  # fmt: skip


def spaces(vocab_size: int, length: int) -> tuple[Box, Discrete]:
    """Observation and action space of the windows."""
    return Box(0, vocab_size - 1, (length + 1,), "int64"), Discrete(vocab_size)


class WindowReader(nn.Module):
    """Left-padded windows (B, T + 1) -> (B, 256) hidden vectors at their last token.

    Args:
        network: "lstm" or "transformer".
        vocab_size: V.
        window: T + 1.
    """

    def __init__(self, network: str, vocab_size: int, window: int) -> None:
        super().__init__()
        config = NETWORKS[network]
        if network == "lstm":
            own = {"embedding_size": config.embedding_size}
        else:
            own = {"num_layers": config.num_layers, "num_heads": config.num_heads, "max_length": window}
        self.network = CLASSES[network](vocab_size, hidden_size=HIDDEN, **own)
        for head in ("head", "value_head"):  # the other library has its own
            setattr(self.network, head, nn.Identity())

    def forward(self, windows: Tensor) -> Tensor:
        """See the class."""
        tokens, lengths = right_padded(windows.long())
        hidden: Tensor = self.network(tokens)
        return hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]


class WindowQNetwork(nn.Sequential):
    """Left-padded windows (B, T + 1) -> (B, V) action values, the usual form of a DQN's network."""

    def __init__(self, network: str, vocab_size: int, window: int) -> None:
        super().__init__(WindowReader(network, vocab_size, window), nn.Linear(HIDDEN, vocab_size))
