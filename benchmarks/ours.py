"""Our DQN learner with the interface of `peers.py`, on whole texts, and what all learners there have in common.

All have the same network (`windows.NETWORKS`), the plain DQN target, Adam, and a target network that is copied every
80,000 trained transitions, the default of stable-baselines3 (10,000 steps with 8 transitions each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokenlm.agents import AgentConfig
from tokenlm.agents.acting.valid_actions import ValidActions
from tokenlm.agents.dqn.config import Schedule
from tokenlm.agents.dqn.learner import Learner
from tokenlm.agents.networks import QNetwork
from tokenlm.agents.networks.making import make_q_network
from tokenlm.agents.replay.episodes import EpisodeBatch, EpisodeReplay

from windows import NETWORKS, RandomEpisodes, environment

LEARNING_RATE = 1e-4
GAMMA = 0.99
MAX_GRAD_NORM = 10.0
TARGET_TRANSITIONS = 80_000  # trained transitions between copies into the target network


@dataclass(frozen=True)
class Task:
    """Network, sizes and device of a comparison.

    Args:
        network: "lstm" or "transformer".
        vocab_size: V.
        length: T, actions per episode.
        device: "cpu" or "cuda".
        episodes: episodes in the replay.
    """

    network: str
    vocab_size: int
    length: int
    device: str = "cpu"
    episodes: int = 64

    @property
    def window(self) -> int:
        """Tokens per observation."""
        return self.length + 1

    def draw(self) -> RandomEpisodes:
        """The episodes in the replay."""
        return RandomEpisodes.draw(self.episodes, self.length, self.vocab_size)


class PeerLearner:
    """A learner with its own replay.

    Args:
        task: network, sizes and device.
        batch: transitions per update; determines how often the target network is copied.
    """

    def __init__(self, task: Task, batch: int) -> None:
        self.task = task
        self.copy_every = max(1, round(TARGET_TRANSITIONS / batch))

    @property
    def least(self) -> int:
        """Fewest transitions of an update."""
        return 2

    def update(self, transitions: int) -> None:
        """Make one update on the given number of transitions."""
        raise NotImplementedError

    def parameters(self) -> Iterable[nn.Parameter]:
        """The trained parameters."""
        raise NotImplementedError


class Ours(PeerLearner):
    """`tokenlm`'s learner on whole episodes.

    Args:
        task: network, sizes and device.
        batch: transitions per update.
        settings: of `AgentConfig`; they replace those of `our_settings`.
    """

    def __init__(self, task: Task, batch: int, **settings: Any) -> None:
        super().__init__(task, batch)
        env = environment(task.vocab_size, task.length)
        self.config = AgentConfig.of(None, {**our_settings(task.network, self.copy_every), **settings})
        device = torch.device(task.device)
        network = make_q_network(self.config.network, env, task.vocab_size, self.config.rule.heads()).to(device)
        self.learner = Learner(network, self.config, ValidActions.of(env, task.vocab_size, device))
        self.replay = EpisodeReplay(task.episodes, 1, task.length, task.vocab_size, device=device)
        drawn = task.draw()
        one = torch.ones(task.episodes, dtype=torch.int64)
        self.replay.add(drawn.tokens, drawn.tokens[:, 1:], drawn.rewards, one, one * task.length, one.bool())

    @property
    def least(self) -> int:
        """See `PeerLearner`: one episode."""
        return self.task.length

    def update(self, transitions: int) -> None:
        """See `PeerLearner`."""
        self.train(self.replay.rows(torch.randint(self.task.episodes, (transitions // self.task.length,))))

    def train(self, batch: EpisodeBatch) -> None:
        """Make one update on a batch of episodes."""
        self.learner.update(batch, 0.0)

    def parameters(self) -> Iterable[nn.Parameter]:
        """See `PeerLearner`."""
        return self.learner.network.parameters()


def our_settings(network: str, copy_every: int) -> dict[str, Any]:
    """Settings of `AgentConfig` that equal those of the other libraries, so that only the implementation differs."""
    return {
        "network": NETWORKS[network], "loss": "dqn", "gamma": GAMMA, "bound_values": False, "corpus_share": 0.0,
        "learning_rate": Schedule(LEARNING_RATE, LEARNING_RATE), "max_grad_norm": MAX_GRAD_NORM,
        "target_update_rate": 1.0, "target_update_interval": copy_every,
    }  # fmt: skip


class Materialised(Ours):
    """Ours with one causal pass per text, but with all (B, T, V) action values of both networks in memory."""

    def train(self, batch: EpisodeBatch) -> None:
        """See `Ours`."""
        learner = self.learner
        loss = materialised_loss(learner.network, learner.target_network, batch, learner.valid_actions.valid, GAMMA)
        learner.optimizer.zero_grad()
        loss.backward()
        learner.optimizer.step(LEARNING_RATE)
        learner.updates += 1
        if learner.updates % self.copy_every == 0:
            learner.target_network.load_state_dict(learner.network.state_dict())


def materialised_loss(
    network: QNetwork, target_network: QNetwork, batch: EpisodeBatch, valid: Tensor, gamma: float
) -> Tensor:
    """Mean of ½(r + γ max Q̄(s', ·) - Q(s, a))² over a batch, in plain PyTorch; a scalar."""
    values = network.head(network(batch.tokens))[:, :-1]  # (B, L, V)
    taken = values.gather(2, batch.actions[:, :, None]).squeeze(2)
    with torch.no_grad():
        next_values = target_network.head(target_network(batch.tokens))[:, 1:].masked_fill(~valid, -torch.inf)
        target = batch.rewards + gamma * ~batch.terminal * next_values.amax(2)
    return 0.5 * (target - taken)[batch.is_action].square().mean()


SB3 = "stable-baselines3"
OURS: dict[str, Callable[[Task, int], PeerLearner]] = {
    "ours, dqn": Ours,
    "ours, dqn, sparse Adam": lambda task, batch: Ours(task, batch, precision="auto", optimizer="sparse_adam"),
    "ours, soft Q (τ = 1)": lambda task, batch: Ours(task, batch, loss="soft_q", temperature=1.0),
    "ours, materialised": Materialised,
}
