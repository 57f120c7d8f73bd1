"""Feature extractors for other libraries: our networks over windows of tokens."""

from __future__ import annotations

import gymnasium as gym
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from ...envs import EnvConfig
from ..networks.config import NetworkConfig
from ..networks.making import make_q_network
from ..networks.prefixes import right_padded


class PrefixEncoder(nn.Module):
    """A Q-network without its heads, over whole windows: (B, L) token ids of any dtype -> (B, D).

    Args:
        network: settings of the network.
        env: the environment's arguments, which determine the longest text.
        vocab_size: V.
    """

    def __init__(self, network: NetworkConfig, env: EnvConfig, vocab_size: int) -> None:
        super().__init__()
        self.network = make_q_network(network, env, vocab_size)
        self.hidden_size = self.network.hidden_size
        del self.network.head, self.network.value_head  # the library has its own

    def forward(self, windows: Tensor) -> Tensor:
        """Left-padded windows (B, L) -> (B, D) hidden vectors at the last token."""
        return self.network.read_last(*right_padded(windows.long()))


class WindowFeatures(BaseFeaturesExtractor):
    """`PrefixEncoder` as a features extractor of stable-baselines3, which gives ids as floats (exact below 2²⁴)."""

    def __init__(self, observation_space: gym.Space, network: NetworkConfig, env: EnvConfig, vocab_size: int) -> None:
        encoder = PrefixEncoder(network, env, vocab_size)
        super().__init__(observation_space, encoder.hidden_size)
        self.encoder = encoder

    def forward(self, observations: Tensor) -> Tensor:
        """(B, L) -> (B, D)."""
        features: Tensor = self.encoder(observations)
        return features


class NewestToken(BaseFeaturesExtractor):
    """Embedding of the last token only, for recurrent policies."""

    def __init__(self, observation_space: gym.Space, vocab_size: int, embedding_size: int) -> None:
        super().__init__(observation_space, embedding_size)
        self.embedding = nn.Embedding(vocab_size, embedding_size)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, L) -> (B, embedding_size)."""
        features: Tensor = self.embedding(observations[:, -1].long())
        return features
