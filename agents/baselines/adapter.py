"""What the adapters of other libraries' algorithms have in common: policy, sampling, saving."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...envs import EnvConfig, World, env_config_from, nearest
from ...envs.text import write_atomically, write_json
from ..acting.choosing import choose_actions
from ..devices import resolve_device
from ..networks import NetworkConfig, network_config
from ..protocol import BaseAgent, Callback
from ..replay.demonstrations import Demonstrations, demonstrations

Self = TypeVar("Self", bound="Adapter")
_CLONED = 256  # transitions in a batch of behaviour cloning


class Adapter(BaseAgent):
    """Another library's algorithm on a TokenLM environment, with the methods that `DQN` has too.

    A subclass makes the library's algorithm in `_make`, and says what it has learned in `_scores`.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        seed: seed of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        num_envs: episodes written side by side; None for the algorithm's own default.
        network: its name, or settings as of `tokenlm train`: {name: lstm, embedding_size: 128, hidden_size: 256, …}.
        settings: the library's own settings, over `defaults`.

    Attributes:
        env_steps: environment steps taken.
        values: whether `_scores` are action values, acted on ε-greedily, rather than logits of a policy.
        masked: whether the library's algorithm obeys action masks. One that does not learns with
            `invalid_action="random"`: a token that is not valid is carried out, and paid, as a random valid one.
        defaults: settings that differ from the library's: the discount is 1, for which the optimum is known.
    """

    values: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {}
    default_num_envs: ClassVar[int] = 16

    def __init__(
        self,
        env: str | EnvConfig | Any = "TokenLM-v0",
        *,
        seed: int = 0,
        device: str = "auto",
        num_envs: int | None = None,
        network: NetworkConfig | Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.env_config = env_config_from(env)
        self.world = World.of(self.env_config)
        self.tokenizer = self.world.tokenizer
        self.seed = seed
        self.device = resolve_device(device)
        self.num_envs = num_envs or self.default_num_envs
        self.network_config = network_config(network)
        self.settings = {**self.defaults, **settings}
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.valid = torch.from_numpy(self.world.valid).to(self.device)
        learned_in = self.env_config
        if not self.masked:
            learned_in = dataclasses.replace(learned_in, invalid_action="random")
        torch.manual_seed(seed)
        self._make(learned_in)

    world: World
    env_steps: int

    @property
    def epsilon(self) -> float:
        """Probability of a random action while learning; 0 for a policy that is random by itself."""
        return 0.0

    def _make(self, env: EnvConfig) -> None:
        """Make the environments to learn in from `env`, and the library's algorithm."""
        raise NotImplementedError

    def _module(self) -> nn.Module:
        """What `save` keeps."""
        raise NotImplementedError

    def _scores(self, windows: Tensor) -> Tensor:
        """Windows (B, L) int64 -> (B, V) logits of the policy, or action values in nats."""
        raise NotImplementedError

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Act and train for `total_steps` environment steps, rounded up to the library's whole rollouts.

        Args:
            total_steps: environment steps.
            callback: called with the agent after every step of the batch of environments; returning False stops.
        """
        raise NotImplementedError

    def pretrain(self: Self, transitions: int) -> Self:
        """Begin with so many transitions of corpus episodes: not counted as environment steps.

        A policy-gradient method learns them by cross-entropy (behaviour cloning); a method that learns values puts
        them into its replay, rewards included.
        """
        self._pretrain(demonstrations(self.world, self.env_config, transitions, self.seed))
        return self

    def _pretrain(self, corpus: Demonstrations) -> None:
        raise NotImplementedError

    def _clone(self, corpus: Demonstrations, optimizer: torch.optim.Optimizer) -> None:
        """Behaviour cloning: one pass of cross-entropy, for whose `_scores` are logits."""
        windows = torch.from_numpy(corpus.observation).to(self.device)
        actions = torch.from_numpy(corpus.actions).to(self.device)
        for rows in torch.arange(len(actions)).split(_CLONED):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self._scores(windows[rows]), actions[rows]).backward()
            optimizer.step()

    def _refuse_unknown(self, names: Collection[str]) -> None:
        """Raise ValueError for a setting that is none of `names`."""
        for name in self.settings:
            if name not in names:
                raise ValueError(f"{type(self).__name__} has no setting {name!r}{nearest(name, names)}")

    @torch.no_grad()
    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions for observations of the environment.

        Args:
            observation: (L,) or (B, L) int64, as the environment gives it.
            state: not used: the whole window is read at every call.
            episode_start: not used either.
            deterministic: the greedy action; otherwise one drawn from the policy of `log_probs`.
            action_masks: (V,) or (B, V) bool; without them all actions that are ever valid are allowed.

        Returns: actions, a scalar array for a single observation and (B,) otherwise, and `state` as it came.
        """
        windows, valid = self._inputs(observation, action_masks)
        temperature, epsilon = float(not (deterministic or self.values)), 0.0 if deterministic else self.epsilon
        scores = self._scored(windows).masked_fill(~valid, -torch.inf)
        actions, _ = choose_actions(scores, temperature, epsilon, self.generator)
        array = actions.cpu().numpy()
        return (array[0] if np.ndim(observation) == 1 else array), state

    @torch.no_grad()
    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s) over the valid actions, (B, V) in nats, -inf elsewhere; masks as in `predict`.

        A method that learns values learns a greedy policy; π is then the ε-greedy one it acts by while learning, with
        the present ε. At ε = 0 all but one action have -inf.
        """
        windows, valid = self._inputs(observation, action_masks)
        scores = self._scored(windows).double().masked_fill(~valid, -torch.inf)
        if not self.values:
            return torch.log_softmax(scores, -1).cpu().numpy()
        greedy = torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1])
        mixed = (1.0 - self.epsilon) * greedy + self.epsilon * valid / valid.sum(-1, keepdim=True)
        return mixed.log().cpu().numpy()

    @property
    def gamma(self) -> float:
        """The discount."""
        return float(self.settings.get("gamma", 1.0))

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors) and settings (JSON) into the folder `path`; what only learning needs is left."""
        folder = Path(path)
        values = {
            "class": type(self).__name__,
            "vocabulary": self.tokenizer.vocabulary.digest,
            "seed": self.seed,
            "num_envs": self.num_envs,
            "env_steps": self.env_steps,
            "epsilon": self.epsilon,
            "network": dataclasses.asdict(self.network_config),
            "settings": self.settings,
        }
        try:
            json.dumps(values)
        except TypeError as error:
            raise ValueError(f"only settings of numbers, text, lists and dicts can be saved: {error}") from None
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self._module().state_dict().items()}
        write_atomically(folder / "weights.safetensors", lambda p: save_file(weights, p))
        write_json(folder / "agent.json", values)

    @classmethod
    def load(cls: type[Self], path: str | Path, env: str | EnvConfig | Any, device: str = "auto") -> Self:
        """The agent that `save` wrote, in `env`, whose vocabulary must be the one it was trained with."""
        folder = Path(path)
        if not (folder / "agent.json").exists():
            raise FileNotFoundError(f"{folder} holds no saved agent (no agent.json); give the folder that save() wrote")
        saved = json.loads((folder / "agent.json").read_text(encoding="utf-8"))
        if saved["class"] != cls.__name__:
            raise ValueError(f"{folder} holds a {saved['class']}; load it with {saved['class']}.load")
        agent = cls(
            env, seed=saved["seed"], device=device, num_envs=saved["num_envs"], network=saved["network"],
            **saved["settings"],
        )  # fmt: skip
        if agent.tokenizer.vocabulary.digest != saved["vocabulary"]:
            raise ValueError(
                f"the agent in {folder} was trained with another vocabulary than the environment's "
                f"({len(agent.tokenizer.vocabulary)} tokens); use the corpus and tokenizer it was trained with"
            )
        agent._module().load_state_dict(load_file(folder / "weights.safetensors", device=str(agent.device)))
        agent._restore(saved)
        return agent

    def _restore(self, saved: dict[str, Any]) -> None:
        """Put back the counters of agent.json."""
        raise NotImplementedError

    def _scored(self, windows: Tensor) -> Tensor:
        module = self._module()
        was_training = module.training
        module.eval()
        scores = self._scores(windows)
        module.train(was_training)
        return scores

    def _inputs(self, observation: npt.ArrayLike, masks: npt.ArrayLike | None) -> tuple[Tensor, Tensor]:
        """Windows (B, L) int64 and valid actions (B, V) bool, on the device."""
        windows = torch.as_tensor(np.atleast_2d(np.asarray(observation, np.int64)), device=self.device)
        valid = self.valid if masks is None else torch.as_tensor(np.asarray(masks), device=self.device).bool()
        return windows, valid.expand(len(windows), -1)
