"""Algorithms of stable-baselines3 and sb3-contrib on TokenLM, with our networks and vector environment."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any, ClassVar

import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor, nn

from ...envs import EnvConfig, TokenLMVectorEnv
from ..networks import LSTMConfig
from ..networks.prefixes import right_padded
from ..replay.demonstrations import Demonstrations
from .adapter import Adapter, Callback, Self
from .features import NewestToken, WindowFeatures
from .vec_env import TokenLMVecEnv

_OURS = {"policy", "env", "_init_setup_model"}  # arguments of the library's classes that are not settings


class _SB3(Adapter):
    """An algorithm of stable-baselines3; `model` is the library's object.

    The settings are the arguments of the library's class, and `normalize_reward`: divide rewards by a running standard
    deviation of the return (the library's `VecNormalize`). Reported scores and returns are always unnormalised.
    """

    library: ClassVar[str] = "stable_baselines3"
    algorithm: ClassVar[str]
    policy: ClassVar[str] = "MlpPolicy"  # the library's name for a policy on a features extractor

    model: Any

    @property
    def env_steps(self) -> int:  # type: ignore[override]
        """Environment steps taken."""
        return int(self.model.num_timesteps)

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """See `Adapter`."""
        # True would reset num_timesteps, and with it the count of steps and the library's schedules.
        self.model.learn(total_steps, callback=_AfterStep(self, callback), reset_num_timesteps=False)  # type: ignore[attr-defined]
        return self

    def _make(self, env: EnvConfig) -> None:
        kind = self._class()
        settings = dict(self.settings)
        normalize = settings.pop("normalize_reward", False)
        names = [*inspect.signature(kind).parameters, "normalize_reward"]
        self._refuse_unknown([name for name in names if name not in _OURS])
        native = TokenLMVectorEnv(self.num_envs, env, autoreset_mode=AutoresetMode.SAME_STEP)
        vec_env: VecEnv = TokenLMVecEnv(native)
        if normalize:
            vec_env = VecNormalize(vec_env, norm_obs=False, gamma=settings.get("gamma", 0.99))
        policy = {**self._policy(), **settings.pop("policy_kwargs", {})}
        self.model = kind(self.policy, vec_env, policy_kwargs=policy, seed=self.seed, device=self.device, **settings)
        if settings.get("tensorboard_log") is None:  # the library's own would leave an empty folder at every `learn`
            shown: list[KVWriter] = [HumanOutputFormat(sys.stdout)] if settings.get("verbose", 0) else []
            self.model.set_logger(Logger(None, shown))

    def _class(self) -> type[BaseAlgorithm]:
        try:
            found: type[BaseAlgorithm] = getattr(importlib.import_module(self.library), self.algorithm)
        except ModuleNotFoundError:
            raise ImportError(
                f'{self.algorithm} needs the library sb3-contrib; pip install "tokenlm[compare]"'
            ) from None
        return found

    def _policy(self) -> dict[str, Any]:
        """Settings of the library's policy: our network with a linear head."""
        features = {"network": self.network_config, "env": self.env_config, "vocab_size": self.world.vocab_size}
        return {
            "features_extractor_class": WindowFeatures,
            "features_extractor_kwargs": features,
            "net_arch": [],
        }

    def _module(self) -> nn.Module:
        module: nn.Module = self.model.policy
        return module

    def _restore(self, saved: dict[str, Any]) -> None:
        self.model.num_timesteps = saved["env_steps"]


class _AfterStep(BaseCallback):
    def __init__(self, agent: Any, function: Callback | None) -> None:
        super().__init__()
        self.agent = agent
        self.function = function

    def _on_step(self) -> bool:
        return self.function is None or self.function(self.agent) is not False


class _Values(_SB3):
    values = True

    @property
    def epsilon(self) -> float:
        """The current ε of the library's schedule."""
        return float(self.model.exploration_rate)

    def _pretrain(self, corpus: Demonstrations) -> None:
        for part in corpus.side_by_side(self.num_envs):
            infos = [{"TimeLimit.truncated": bool(cut)} for cut in part.truncated]
            over = part.terminated | part.truncated
            self.model.replay_buffer.add(part.observation, part.after, part.actions, part.rewards, over, infos)

    def _restore(self, saved: dict[str, Any]) -> None:
        super()._restore(saved)
        self.model.exploration_rate = saved["epsilon"]


class SB3DQN(_Values):
    """DQN of stable-baselines3 (Mnih et al. 2015), with uniform replay of transitions; no masks."""

    algorithm = "DQN"
    defaults: ClassVar[dict[str, Any]] = {"gamma": 1.0, "buffer_size": 100_000}

    def _scores(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.model.q_net(windows)
        return scores


class SB3QRDQN(_Values):
    """QR-DQN of sb3-contrib (Dabney et al. 2018), no masks; action values are means of quantiles."""

    library = "sb3_contrib"
    algorithm = "QRDQN"
    defaults: ClassVar[dict[str, Any]] = {"gamma": 1.0, "buffer_size": 100_000, "policy_kwargs": {"n_quantiles": 25}}

    def _scores(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.model.quantile_net(windows).mean(1)
        return scores


class _ActorCritic(_SB3):
    def _policy(self) -> dict[str, Any]:
        # The library's orthogonal initialisation would replace the Transformer's own.
        return {**super()._policy(), "ortho_init": self.network_config.name == "lstm"}

    def _pretrain(self, corpus: Demonstrations) -> None:
        policy = self.model.policy
        policy.set_training_mode(True)
        self._clone(corpus, policy.optimizer)

    def _scores(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.model.policy.get_distribution(windows).distribution.logits
        return logits


class SB3PPO(_ActorCritic):
    """PPO of stable-baselines3 (Schulman et al. 2017), no masks."""

    algorithm = "PPO"
    defaults: ClassVar[dict[str, Any]] = {"gamma": 1.0, "n_steps": 128, "batch_size": 256}


class SB3A2C(_ActorCritic):
    """A2C of stable-baselines3 (Mnih et al. 2016), no masks."""

    algorithm = "A2C"
    defaults: ClassVar[dict[str, Any]] = {"gamma": 1.0}


class SB3MaskablePPO(_ActorCritic):
    """MaskablePPO of sb3-contrib (Huang & Ontañón 2022), with the environment's action masks."""

    library = "sb3_contrib"
    algorithm = "MaskablePPO"
    masked = True
    defaults: ClassVar[dict[str, Any]] = SB3PPO.defaults


class SB3RecurrentPPO(_ActorCritic):
    """RecurrentPPO of sb3-contrib: its own LSTM over the last token of each window, no masks.

    In training the state is zero at the start of every episode, so it sees only the last token of a prompt; with
    `prompt_length=(0, 0)` nothing is lost. `predict` and `log_probs` run it over the whole window. The network must be
    "lstm".
    """

    library = "sb3_contrib"
    algorithm = "RecurrentPPO"
    policy = "MlpLstmPolicy"
    defaults: ClassVar[dict[str, Any]] = SB3PPO.defaults

    def _policy(self) -> dict[str, Any]:
        network = self.network_config
        if not isinstance(network, LSTMConfig):
            raise ValueError(f"RecurrentPPO has its own LSTM, so its network must be 'lstm', not {network.name!r}")
        return {
            "features_extractor_class": NewestToken,
            "features_extractor_kwargs": {
                "vocab_size": self.world.vocab_size,
                "embedding_size": network.embedding_size,
            },
            "net_arch": [],
            "lstm_hidden_size": network.hidden_size,
            "n_lstm_layers": network.num_layers,
        }

    def _scores(self, windows: Tensor) -> Tensor:
        policy = self.model.policy
        tokens, lengths = right_padded(windows)
        embedded = policy.features_extractor.embedding(tokens)  # (B, T, E)
        hidden, _ = policy.lstm_actor(embedded.transpose(0, 1))
        last = hidden[lengths - 1, torch.arange(len(tokens), device=tokens.device)]
        logits: Tensor = policy.action_net(policy.mlp_extractor.forward_actor(last))
        return logits
