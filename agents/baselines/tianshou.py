"""DQN and Rainbow of Tianshou 2 on TokenLM, with our networks and vector environment."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .features import PrefixEncoder
from .off_policy import Array, OffPolicy, Transitions

try:
    from tianshou.algorithm.modelfree.c51 import C51Policy
    from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
    from tianshou.algorithm.modelfree.rainbow import RainbowDQN
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Batch, PrioritizedVectorReplayBuffer, VectorReplayBuffer
    from tianshou.utils.net.discrete import NoisyLinear
    from tianshou.utils.torch_utils import policy_within_training_step
except ModuleNotFoundError:
    raise ImportError('the algorithms of Tianshou need the library; pip install "tokenlm[compare]"') from None


class TianshouDQN(OffPolicy):
    """DQN of Tianshou (Mnih et al. 2015; double by default, van Hasselt et al. 2016), with action masks.

    Settings, in addition to those of `OffPolicy`:
        n_step: steps of the n-step targets.
        is_double: the online network chooses the next action, the target network gives its value.
        huber_loss_delta: threshold of the Huber loss, nats; None for the squared error.
    """

    defaults: ClassVar[dict[str, Any]] = {
        **OffPolicy.defaults,
        "n_step": 1,
        "is_double": True,
        "huber_loss_delta": None,
    }

    def _make_learner(self) -> None:
        s = self.settings
        self.algorithm = self._algorithm().to(self.device)
        prioritized = {"alpha": s["priority_exponent"], "beta": s["importance_exponent"]} if self._prioritized else {}
        kind = PrioritizedVectorReplayBuffer if self._prioritized else VectorReplayBuffer
        self.buffer = kind(s["buffer_size"], self.num_envs, **prioritized)

    _prioritized = False

    def _algorithm(self) -> Any:
        model = _Values(PrefixEncoder(self.network_config, self.env_config, self.world.vocab_size))
        policy = DiscreteQLearningPolicy(model=model, action_space=self._env.single_action_space)
        rest = {name: self.settings[name] for name in ("is_double", "huber_loss_delta")}
        return DQN(policy=policy, **self._common(), **rest)

    def _common(self) -> dict[str, Any]:
        s = self.settings
        return {
            "optim": AdamOptimizerFactory(lr=s["learning_rate"]),
            "gamma": s["gamma"],
            "n_step_return_horizon": s["n_step"],
            "target_update_freq": s["target_update_interval"],
        }

    def _module(self) -> nn.Module:
        module: nn.Module = self.algorithm.policy
        return module

    def _scores(self, windows: Tensor) -> Tensor:
        values, _ = self.algorithm.policy.model(windows)
        scores: Tensor = self.algorithm.policy.compute_q_value(values, None)
        return scores

    def _act(self, observation: Array, masks: Array) -> Array:
        policy, batch = self.algorithm.policy, Batch(obs=Batch(obs=observation, mask=masks), info=Batch())
        policy.set_eps_training(self.epsilon)
        with torch.no_grad(), policy_within_training_step(policy):
            actions: Array = policy.add_exploration_noise(policy(batch).act, batch)
        return actions

    def _remember(self, transitions: Transitions) -> None:
        t = transitions
        batch = Batch(
            obs=Batch(obs=t.observation, mask=t.masks),
            act=t.actions,
            rew=t.rewards,
            terminated=t.terminated,
            truncated=t.truncated,
            obs_next=Batch(obs=t.after, mask=t.masks_after),
        )
        self.buffer.add(batch)

    def _update(self) -> None:
        with policy_within_training_step(self.algorithm.policy):
            self.algorithm.update(self.buffer, self.settings["batch_size"])


class TianshouRainbow(TianshouDQN):
    """Rainbow of Tianshou (Hessel et al. 2018): C51, noisy dueling heads, n-step targets, prioritised replay.

    Settings, in addition to those of `OffPolicy`:
        n_step: steps of the n-step targets.
        num_atoms, v_min, v_max: number, lowest and highest of the atoms, nats.
        noisy_std: initial standard deviation of the noisy layers; ε is used as well, as in Tianshou's examples.
        priority_exponent, importance_exponent: of prioritised replay.
    """

    defaults: ClassVar[dict[str, Any]] = {
        **OffPolicy.defaults,
        "n_step": 3,
        "num_atoms": 51,
        "v_min": -100.0,
        "v_max": 0.0,
        "noisy_std": 0.5,
        "priority_exponent": 0.6,
        "importance_exponent": 0.4,
    }
    _prioritized = True

    def _algorithm(self) -> Any:
        s = self.settings
        encoder = PrefixEncoder(self.network_config, self.env_config, self.world.vocab_size)
        model = _NoisyAtoms(encoder, self.world.vocab_size, s["num_atoms"], s["noisy_std"])
        support = {name: s[name] for name in ("num_atoms", "v_min", "v_max")}
        policy = C51Policy(model=model, action_space=self._env.single_action_space, **support)
        return RainbowDQN(policy=policy, **self._common())


class _Values(nn.Module):
    """Linear action values on our network, with Tianshou's interface of a model."""

    def __init__(self, encoder: PrefixEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.hidden_size, encoder.network.vocab_size)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        hidden = self.encoder(torch.as_tensor(obs, device=self.head.weight.device))
        return self.head(hidden), state


class _NoisyAtoms(nn.Module):
    """Dueling C51 with noisy layers on our network: (B, V, atoms) probabilities."""

    def __init__(self, encoder: PrefixEncoder, vocab_size: int, atoms: int, noisy_std: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.shape = (vocab_size, atoms)
        self.advantage = NoisyLinear(encoder.hidden_size, vocab_size * atoms, noisy_std)
        self.value = NoisyLinear(encoder.hidden_size, atoms, noisy_std)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        hidden = self.encoder(torch.as_tensor(obs, device=self.value.mu_W.device))
        advantage = self.advantage(hidden).unflatten(-1, self.shape)
        logits = self.value(hidden)[:, None] + advantage - advantage.mean(1, keepdim=True)
        return logits.softmax(-1), state
