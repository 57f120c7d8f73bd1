"""DQN of TorchRL on TokenLM, with our networks and vector environment."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .features import PrefixEncoder
from .off_policy import Array, OffPolicy, Transitions

try:
    from tensordict import TensorDict
    from torchrl.data import Categorical, LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.modules import QValueActor
    from torchrl.objectives import DQNLoss, HardUpdate
except ModuleNotFoundError:
    raise ImportError('the DQN of TorchRL needs the library; pip install "tokenlm[compare]"') from None


logging.getLogger("torchrl").setLevel(logging.WARNING)  # it logs every replay that is made


class TorchRLDQN(OffPolicy):
    """DQN of TorchRL (Mnih et al. 2015; optionally double), with action masks.

    Settings, in addition to those of `OffPolicy`:
        double_dqn: the online network chooses the next action, the target network gives its value.
        loss_function: "l2", "l1" or "smooth_l1".
        max_grad_norm: gradients are clipped to this norm.
    """

    defaults: ClassVar[dict[str, Any]] = {
        **OffPolicy.defaults,
        "double_dqn": False,
        "loss_function": "smooth_l1",
        "max_grad_norm": 10.0,
    }

    def _make_learner(self) -> None:
        s = self.settings
        encoder = PrefixEncoder(self.network_config, self.env_config, self.world.vocab_size)
        self.network = nn.Sequential(encoder, nn.Linear(encoder.hidden_size, self.world.vocab_size)).to(self.device)
        self.actor = QValueActor(
            self.network,
            in_keys=["observation"],
            spec=Categorical(self.world.vocab_size, device=self.device),
            action_mask_key="action_mask",
        )
        self.loss = DQNLoss(self.actor, loss_function=s["loss_function"], delay_value=True, double_dqn=s["double_dqn"])
        self.loss.make_value_estimator(gamma=s["gamma"])
        self.target_updater = HardUpdate(self.loss, value_network_update_interval=s["target_update_interval"])
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=s["learning_rate"])
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(s["buffer_size"], device=self.device), batch_size=s["batch_size"]
        )

    def _module(self) -> nn.Module:
        return self.network

    def _scores(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.network(windows)
        return scores

    def _act(self, observation: Array, masks: Array) -> Array:
        actions, _ = self.predict(observation, action_masks=masks)
        return actions

    def _remember(self, transitions: Transitions) -> None:
        t = transitions
        over = t.terminated | t.truncated
        after = {
            "observation": t.after,
            "action_mask": t.masks_after,
            "reward": t.rewards[:, None],
            "done": over[:, None],
            "terminated": t.terminated[:, None],
        }
        batch = {
            "observation": t.observation,
            "action_mask": t.masks,
            "action": t.actions,
            "next": {name: torch.from_numpy(array) for name, array in after.items()},
        }
        tensors = {name: value if isinstance(value, dict) else torch.from_numpy(value) for name, value in batch.items()}
        self.buffer.extend(TensorDict(tensors, [len(over)]))

    def _update(self) -> None:
        loss = self.loss(self.buffer.sample())["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.loss.parameters(), self.settings["max_grad_norm"])
        self.optimizer.step()
        self.target_updater.step()
