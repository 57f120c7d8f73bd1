"""RLlib's DQN and PPO (new API stack) on TokenLM, with our networks and vector environment."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...envs import EnvConfig, TokenLMVectorEnv
from .adapter import Adapter, Callback, Self
from .features import PrefixEncoder

try:
    import ray
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.connector_v2 import ConnectorV2
    from ray.rllib.core import DEFAULT_MODULE_ID
    from ray.rllib.core.columns import Columns
    from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
    from ray.rllib.core.models.base import ENCODER_OUT
    from ray.rllib.core.rl_module.apis import ValueFunctionAPI
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.rllib.utils.schedules.scheduler import Scheduler
    from ray.tune.registry import register_env
except ModuleNotFoundError as error:
    raise ImportError(f'RLlib needs the library {error.name}; pip install "tokenlm[rllib]"') from None

MASK = "action_mask"


class _Stop(BaseException):
    """The callback stopped training. Not an `Exception`: RLlib would log it and might recreate the environment."""


class _Counted(TokenLMVectorEnv):
    """Counts environment steps; a row that only starts a new episode (NEXT_STEP) does not count."""

    env_steps = 0
    after_step: Callable[[], None] | None = None

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As `TokenLMVectorEnv.step`, then `after_step`."""
        taken = self.num_envs - int(self._over.sum())
        result = super().step(actions)
        self.env_steps += taken
        if self.after_step is not None:
            self.after_step()
        return result


class _EncoderOfBatch(nn.Module):
    """`PrefixEncoder` with RLlib's dicts as input and output."""

    def __init__(self, encoder: PrefixEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {ENCODER_OUT: self.encoder(batch[Columns.OBS])}


def _encoder(settings: dict[str, Any], vocab_size: int) -> _EncoderOfBatch:
    return _EncoderOfBatch(PrefixEncoder(settings["network"], settings["env"], vocab_size))


class QModule(DefaultDQNTorchRLModule):
    """RLlib's DQN module (dueling, double or distributional by its settings) with our encoder and linear heads."""

    def setup(self) -> None:
        """Make the networks."""
        self.action_dist_cls = TorchCategorical
        settings = self.model_config
        self.uses_dueling, self.uses_double_q = settings["dueling"], settings["double_q"]
        self.num_atoms, self.v_min, self.v_max = settings["num_atoms"], settings["v_min"], settings["v_max"]
        self.epsilon_schedule = Scheduler(fixed_value_or_schedule=settings["epsilon"], framework="torch")
        self.env_steps: Callable[[], int] | None = None  # RLlib's own counter restarts after `load`
        vocab_size = int(self.action_space.n)
        self.encoder = _encoder(settings, vocab_size)
        hidden = self.encoder.encoder.hidden_size
        self.af = nn.Linear(hidden, vocab_size * self.num_atoms)
        if self.uses_dueling:
            self.vf = nn.Linear(hidden, 1)

    def _forward_exploration(self, batch: dict[str, Any], t: int) -> dict[str, Any]:
        actions: dict[str, Any] = super()._forward_exploration(batch, self.env_steps() if self.env_steps else t)
        return actions


class PolicyModule(TorchRLModule, ValueFunctionAPI):
    """Policy and value heads on one of our encoders; invalid actions get the smallest finite logit."""

    def setup(self) -> None:
        """Make the networks."""
        self.action_dist_cls = TorchCategorical
        vocab_size = int(self.action_space.n)
        self.encoder = _encoder(self.model_config, vocab_size)
        hidden = self.encoder.encoder.hidden_size
        self.pi = nn.Linear(hidden, vocab_size)
        self.vf = nn.Linear(hidden, 1)

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        features = self.encoder(batch)[ENCODER_OUT]
        valid = batch[MASK].bool()
        # With -inf the entropy and the KL term would be NaN.
        logits = self.pi(features).masked_fill(~valid, torch.finfo(features.dtype).min)
        # RLlib stores all outputs with the episode, so the learner's batch has the masks.
        return {Columns.ACTION_DIST_INPUTS: logits, MASK: batch[MASK]}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        features = self.encoder(batch)[ENCODER_OUT]
        valid = batch[MASK].bool()
        logits = self.pi(features).masked_fill(~valid, torch.finfo(features.dtype).min)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.EMBEDDINGS: features}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """(B,) values in nats."""
        features = self.encoder(batch)[ENCODER_OUT] if embeddings is None else embeddings
        values: Tensor = self.vf(features).squeeze(-1)
        return values


class _MasksToModule(ConnectorV2):
    """Copies the action masks from the environment's infos into the batch of the policy."""

    def __call__(self, *, batch: dict[str, Any], episodes: list[Any], **_: Any) -> dict[str, Any]:
        for episode in self.single_agent_episode_iterator(episodes):
            self.add_batch_item(batch, MASK, episode.get_infos(-1)[MASK], episode)
        return batch


class _RLlib(Adapter):
    """An algorithm of RLlib in this process, without a cluster; `algorithm` is the library's object.

    The settings are the arguments of the `training` method of the library's configuration (`lr`, `train_batch_size`,
    …), and `rollout_fragment_length`: steps of each environment between updates, "auto" for the library's choice.
    `load` restores weights and counters, but not the replay and the optimiser.
    """

    config: ClassVar[type]
    module: ClassVar[type]
    steps_per_iteration: ClassVar[int] = 0

    algorithm: Any

    @property
    def env_steps(self) -> int:  # type: ignore[override]
        """Environment steps taken."""
        return self._env.env_steps

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """See `Adapter`; training ends with an iteration of the library, so it may take a few more steps."""
        environment = self._env  # type: ignore[attr-defined]

        def after_step() -> None:
            if callback is not None and callback(self) is False:
                raise _Stop

        environment.after_step = after_step
        end = self.env_steps + total_steps
        try:
            while self.env_steps < end:
                self.algorithm.train()  # type: ignore[attr-defined]
        except _Stop:
            # RLlib has not seen the last step of the running episodes, so the next rollout must start new ones.
            self.algorithm.env_runner._needs_initial_reset = True  # type: ignore[attr-defined]
        finally:
            environment.after_step = None
        return self

    def close(self) -> None:
        """Stop the library's workers and close the environments."""
        self.algorithm.stop()

    def _make(self, env: EnvConfig) -> None:
        if self.device.type not in ("cpu", "cuda"):
            raise ValueError(f"RLlib supports the devices 'cpu' and 'cuda', not {self.device.type!r}; use device='cpu'")
        if self.masked:
            env = dataclasses.replace(env, mask_in_info=True)
        name = "tokenlm"
        register_env(name, lambda context: _Counted(context["num_envs"], env))
        settings = dict(self.settings)
        fragment = settings.pop("rollout_fragment_length", "auto")
        module = RLModuleSpec(
            module_class=self.module, model_config={"network": self.network_config, "env": self.env_config}
        )
        config = self.config()
        self._refuse_unknown([*dir(config), "rollout_fragment_length"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # RLlib's deprecation warnings about its own code
            _start_ray()
            config = (
                config.environment(name)
                .framework("torch")
                .env_runners(
                    num_env_runners=0,
                    num_envs_per_env_runner=self.num_envs,
                    gym_env_vectorize_mode="vector_entry_point",
                    rollout_fragment_length=fragment,
                    env_to_module_connector=self._connector,
                )
                .learners(num_learners=0, num_gpus_per_learner=int(self.device.type == "cuda"))
                .training(**settings)
                .rl_module(rl_module_spec=module)
                .reporting(
                    min_sample_timesteps_per_iteration=self.steps_per_iteration * self.num_envs,
                    min_time_s_per_iteration=0,
                )
                .debugging(seed=self.seed, log_level="ERROR")
            )
            self.algorithm = config.build_algo()
        self._env: _Counted = self.algorithm.env_runner.env.unwrapped
        self._learner = self.algorithm.learner_group._learner  # the local learner, which has the latest weights

    @staticmethod
    def _connector(*_: Any) -> Any:
        """No extra connector between environment and module."""
        return []

    def _module(self) -> nn.Module:
        module: nn.Module = self._learner.module[DEFAULT_MODULE_ID].unwrapped()
        return module

    def _restore(self, saved: dict[str, Any]) -> None:
        self._env.env_steps = saved["env_steps"]
        self.algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.algorithm.learner_group, inference_only=True
        )


class RLlibDQN(_RLlib):
    """DQN of RLlib: by default double, dueling, with prioritised replay of transitions; no masks.

    Source: Hessel et al. 2018 (Rainbow), without noisy layers and, by default, not distributional.
    """

    values = True
    config = DQNConfig
    module = QModule
    steps_per_iteration = 16
    defaults: ClassVar[dict[str, Any]] = {"gamma": 1.0}

    @property
    def epsilon(self) -> float:
        """The current ε of the library's schedule."""
        schedule = self.algorithm.env_runner.module.epsilon_schedule
        schedule.update(self.env_steps)
        return float(schedule.get_current_value())

    def _make(self, env: EnvConfig) -> None:
        super()._make(env)
        self.algorithm.env_runner.module.env_steps = lambda: self.env_steps

    def _scores(self, windows: Tensor) -> Tensor:
        scores: Tensor = self._learner.module[DEFAULT_MODULE_ID].compute_q_values({Columns.OBS: windows})["qf_preds"]
        return scores


class RLlibPPO(_RLlib):
    """PPO of RLlib (Schulman et al. 2017), with the environment's action masks on the logits.

    By default the library clips the squared value error at 10, with zero gradient above. Returns here are tens of nats,
    so the error is not clipped.
    """

    masked = True
    config = PPOConfig
    module = PolicyModule
    defaults: ClassVar[dict[str, Any]] = {"gamma": 1.0, "vf_clip_param": 1e6}

    @staticmethod
    def _connector(*_: Any) -> Any:
        return _MasksToModule()

    def _scores(self, windows: Tensor) -> Tensor:
        module = self._learner.module[DEFAULT_MODULE_ID]
        scores: Tensor = module.pi(module.encoder({Columns.OBS: windows})[ENCODER_OUT])
        return scores


def _start_ray() -> None:
    """Start a local ray, as RLlib would, but without dashboard and log; it ends with the process."""
    # RLlib's deprecation messages about its own code.
    for name in ("ray", "ray.rllib", "ray.tune", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
