"""DQN learners of other libraries, on windows, with the interface, the network and the settings of `ours.py`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from ours import GAMMA, LEARNING_RATE, SB3, PeerLearner, Task
from windows import HIDDEN, WindowQNetwork, WindowReader, spaces


class WindowFeatures(BaseFeaturesExtractor):
    """Features extractor for stable-baselines3's DQN, which adds its own linear layer with V outputs."""

    def __init__(self, observation_space: gym.Space, network: str, vocab_size: int, window: int) -> None:
        super().__init__(observation_space, HIDDEN)
        self.reader = WindowReader(network, vocab_size, window)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, T + 1) ids, as floats from stable-baselines3 -> (B, 256)."""
        hidden: Tensor = self.reader(observations)
        return hidden


def sb3_dqn(env: Any, task: Task, **settings: Any) -> SB3DQN:
    """stable-baselines3's DQN with the benchmark's network and `settings`; all else has the library's defaults."""
    policy = {
        "features_extractor_class": WindowFeatures,
        "features_extractor_kwargs": {
            "network": task.network,
            "vocab_size": task.vocab_size,
            "window": task.window,
        },
        "net_arch": [],
    }
    return SB3DQN("MlpPolicy", env, policy_kwargs=policy, device=task.device, seed=0, **settings)


class _SpacesOnly(gym.Env[Any, Any]):
    """An environment that is never stepped, because the benchmark fills the replay."""

    def __init__(self, task: Task) -> None:
        self.observation_space, self.action_space = spaces(task.vocab_size, task.length)


def _fill(buffer: ReplayBuffer, task: Task) -> ReplayBuffer:
    stored = task.draw().transitions()
    arrays = [a.numpy()[:, None] for a in (stored.observations, stored.next_observations, stored.actions)]
    rewards, terminal = stored.rewards.numpy()[:, None], stored.terminal.numpy()[:, None]
    for row in range(len(rewards)):
        buffer.add(*(a[row] for a in arrays), rewards[row], terminal[row], [{}])
    return buffer


class StableBaselines3(PeerLearner):
    """stable-baselines3's own `DQN.train`."""

    def __init__(self, task: Task, batch: int) -> None:
        super().__init__(task, batch)
        size = task.episodes * task.length
        self.model = sb3_dqn(_SpacesOnly(task), task, buffer_size=size)
        self.model.set_logger(configure(None, []))
        _fill(self.model.replay_buffer, task)

    def update(self, transitions: int) -> None:
        """See `PeerLearner`."""
        self.model.train(gradient_steps=1, batch_size=transitions)

    def parameters(self) -> Iterable[nn.Parameter]:
        """See `PeerLearner`."""
        return self.model.policy.parameters()


class CleanRL(PeerLearner):
    """The algorithm of CleanRL's `dqn.py`, with the same replay as there, that of stable-baselines3."""

    def __init__(self, task: Task, batch: int, replay: ReplayBuffer | None = None) -> None:
        super().__init__(task, batch)
        self.network = WindowQNetwork(task.network, task.vocab_size, task.window).to(task.device)
        self.target_network = copy.deepcopy(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.replay = replay or _fill(cleanrl_replay(task, task.episodes * task.length), task)
        self.updates = 0

    def update(self, transitions: int) -> None:
        """See `PeerLearner`."""
        data = self.replay.sample(transitions)
        with torch.no_grad():
            next_values = self.target_network(data.next_observations).max(dim=1).values
            target = data.rewards.flatten() + GAMMA * next_values * (1 - data.dones.flatten())
        taken = self.network(data.observations).gather(1, data.actions).squeeze(1)
        loss = F.mse_loss(taken, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % self.copy_every == 0:
            self.target_network.load_state_dict(self.network.state_dict())

    def parameters(self) -> Iterable[nn.Parameter]:
        """See `PeerLearner`."""
        return self.network.parameters()


def cleanrl_replay(task: Task, size: int) -> ReplayBuffer:
    """An empty replay of windows."""
    return ReplayBuffer(
        size, *spaces(task.vocab_size, task.length), device=task.device, handle_timeout_termination=False
    )


class Tianshou(PeerLearner):
    """Tianshou's `DQN.update`, without double Q-learning."""

    def __init__(self, task: Task, batch: int) -> None:
        super().__init__(task, batch)
        from tianshou.algorithm import DQN
        from tianshou.algorithm.algorithm_base import policy_within_training_step
        from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
        from tianshou.algorithm.optim import AdamOptimizerFactory
        from tianshou.data import Batch
        from tianshou.data import ReplayBuffer as TianshouReplay

        class Model(nn.Module):
            """Tianshou's interface: (observations, state, info) -> (values, state)."""

            def __init__(self) -> None:
                super().__init__()
                self.values = WindowQNetwork(task.network, task.vocab_size, task.window)

            def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
                """(B, T + 1) -> (B, V)."""
                return self.values(torch.as_tensor(obs, device=task.device)), state

        observations, actions = spaces(task.vocab_size, task.length)
        policy = DiscreteQLearningPolicy(
            model=Model().to(task.device), action_space=actions, observation_space=observations
        )
        self.algorithm: Any = DQN(
            policy=policy, optim=AdamOptimizerFactory(lr=LEARNING_RATE), gamma=GAMMA,
            target_update_freq=self.copy_every, is_double=False,
        )  # fmt: skip
        stored = task.draw().transitions()
        self.replay = TianshouReplay(size=len(stored.rewards))
        for row in range(len(stored.rewards)):
            self.replay.add(
                Batch(
                    obs=stored.observations[row].numpy(), act=int(stored.actions[row]),
                    rew=float(stored.rewards[row]), terminated=bool(stored.terminal[row]), truncated=False,
                    obs_next=stored.next_observations[row].numpy(), info={},
                )
            )  # fmt: skip
        self.training = policy_within_training_step

    def update(self, transitions: int) -> None:
        """See `PeerLearner`."""
        with self.training(self.algorithm.policy):
            self.algorithm.update(self.replay, transitions)

    def parameters(self) -> Iterable[nn.Parameter]:
        """See `PeerLearner`."""
        parameters: Iterable[nn.Parameter] = self.algorithm.parameters()
        return parameters


class TorchRL(PeerLearner):
    """TorchRL's `DQNLoss` on its replay of tensors."""

    def __init__(self, task: Task, batch: int) -> None:
        super().__init__(task, batch)
        from tensordict import TensorDict
        from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
        from torchrl.modules import QValueActor
        from torchrl.objectives import DQNLoss, HardUpdate

        stored = task.draw().transitions()
        size = len(stored.rewards)
        self.replay = TensorDictReplayBuffer(storage=LazyTensorStorage(size, device=task.device))
        next_state = {
            "observation": stored.next_observations,
            "reward": stored.rewards[:, None],
            "terminated": stored.terminal[:, None],
            "done": stored.terminal[:, None],
        }
        data = {"observation": stored.observations, "action": stored.actions, "next": next_state}
        self.replay.extend(TensorDict(data, batch_size=[size]))
        network = WindowQNetwork(task.network, task.vocab_size, task.window).to(task.device)
        actor = QValueActor(network, in_keys=["observation"], action_space="categorical")
        self.loss = DQNLoss(actor, action_space="categorical", delay_value=True)
        self.loss.make_value_estimator(gamma=GAMMA)
        self.target_updater = HardUpdate(self.loss, value_network_update_interval=self.copy_every)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    def update(self, transitions: int) -> None:
        """See `PeerLearner`."""
        loss = self.loss(self.replay.sample(transitions))["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.target_updater.step()

    def parameters(self) -> Iterable[nn.Parameter]:
        """See `PeerLearner`."""
        parameters: Iterable[nn.Parameter] = self.loss.parameters()
        return parameters


PEERS: dict[str, Callable[[Task, int], PeerLearner]] = {
    SB3: StableBaselines3,
    "CleanRL's algorithm": CleanRL,
    "Tianshou": Tianshou,
    "TorchRL": TorchRL,
}
