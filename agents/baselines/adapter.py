"""`Adapter`, the base class of algorithms from other libraries: policy, sampling, saving."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...envs import EnvConfig, World, env_config_from, nearest
from ...envs.text import write_json
from ...envs.text.digests import check_digests, write_digests
from ...envs.text.files import read_json
from ..acting.choosing import choose_actions
from ..devices import resolve_device
from ..networks import NetworkConfig, network_config, saved_network
from ..networks.weights import FILE, read_weights, write_weights
from ..protocol import BaseAgent, Callback
from ..replay.demonstrations import Demonstrations, demonstrations

Self = TypeVar("Self", bound="Adapter")
_CLONED = 256  # transitions per batch of behaviour cloning


class Adapter(BaseAgent):
    """Another library's algorithm on a TokenLM environment, with the same methods as `DQN`.

    A subclass makes the library's algorithm in `_make`, and gives its logits or action values in `_scores`.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        seed: of all random numbers.
        device: "auto", "cpu", "cuda" or "mps".
        num_envs: parallel environments; None for the algorithm's default.
        network: its name, or settings as in `tokenlm train`: {name: lstm, embedding_size: 128, hidden_size: 256, …}.
        settings: the library's own settings, which replace `defaults`.

    Attributes:
        env_steps: environment steps taken.
        values: whether `_scores` are action values of an ε-greedy policy; else they are logits of a policy.
        masked: whether the library's algorithm supports action masks. If not, it trains with
            `invalid_action="random"`: an invalid token is replaced by a random valid one, with the reward of that one.
        defaults: settings that differ from the library's; the discount is 1, because the optimum is known for it.
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
    def has_perplexity(self) -> bool:  # type: ignore[override]
        """See `BaseAgent`; not for action values."""
        return not self.values

    @property
    def epsilon(self) -> float:
        """ε of the policy during training; 0 for stochastic policies."""
        return 0.0

    def _make(self, env: EnvConfig) -> None:
        """Make the training environments from `env`, and the library's algorithm."""
        raise NotImplementedError

    def _module(self) -> nn.Module:
        """The module whose weights `save` stores."""
        raise NotImplementedError

    def _scores(self, windows: Tensor) -> Tensor:
        """Windows (B, L) int64 -> (B, V) logits of the policy, or action values in nats."""
        raise NotImplementedError

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Train for `total_steps` environment steps, rounded up to whole rollouts of the library.

        Args:
            total_steps: environment steps.
            callback: called with the agent after every step of the vector environment; returning False stops.
        """
        raise NotImplementedError

    def pretrain(self: Self, transitions: int) -> Self:
        """Pretrain on `transitions` transitions of corpus episodes, which do not count as environment steps.

        Policy-gradient methods use behaviour cloning (cross-entropy). Value-based methods add the transitions to their
        replay, with rewards.
        """
        self._pretrain(demonstrations(self.world, self.env_config, transitions, self.seed))
        return self

    def _pretrain(self, corpus: Demonstrations) -> None:
        raise NotImplementedError

    def _clone(self, corpus: Demonstrations, optimizer: torch.optim.Optimizer) -> None:
        """Behaviour cloning: one pass of cross-entropy. `_scores` must be logits."""
        windows = torch.from_numpy(corpus.observation).to(self.device)
        actions = torch.from_numpy(corpus.actions).to(self.device)
        for rows in torch.arange(len(actions)).split(_CLONED):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self._scores(windows[rows]), actions[rows]).backward()
            optimizer.step()

    def _refuse_unknown(self, names: Collection[str]) -> None:
        """Raise ValueError for a setting that is not in `names`."""
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
            observation: (L,) or (B, L) int64, windows of the environment.
            state: not used; every call processes the whole window.
            episode_start: not used.
            deterministic: the greedy action; otherwise an action sampled from the policy of `log_probs`.
            action_masks: (V,) or (B, V) bool; if None, all actions that are valid in some state.

        Returns: actions, a scalar array for a single observation and (B,) otherwise, and `state` unchanged.
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
        """Log π(a | s), (B, V) in nats, -inf for actions that are not valid; masks as in `predict`.

        For value-based methods π is the ε-greedy policy with the current ε. At ε = 0 all actions but one have -inf.
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
        """Write weights (safetensors) and settings (JSON) into the folder `path`, without replay and optimiser."""
        folder = Path(path)
        values = {
            "format": 2,
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
        write_weights(folder, self._module().state_dict())
        write_json(folder / "agent.json", values)
        write_digests(folder, [folder / "agent.json", folder / FILE])

    @classmethod
    def load(
        cls: type[Self], path: str | Path, env: str | EnvConfig | Any, device: str = "auto", trust: bool = False
    ) -> Self:
        """Load a saved agent.

        Args:
            path: the folder that `save` wrote.
            env: its environment; the vocabulary must be the one that the agent was trained with.
            device: "auto", "cpu", "cuda" or "mps".
            trust: read files that were changed since they were saved.

        Raises ValueError for damaged files and another vocabulary.
        """
        folder = Path(path)
        if not (folder / "agent.json").exists():
            raise FileNotFoundError(f"{folder} has no saved agent (no agent.json); use the folder given to save()")
        saved = read_json(folder / "agent.json")
        if not trust and "format" in saved:  # earlier ones had neither format nor digests
            check_digests(folder, ("agent.json", FILE))
        try:
            return cls._loaded(folder, saved, env, device)
        except (KeyError, TypeError, AttributeError, RuntimeError) as problem:
            raise ValueError(f"the agent in {folder} is damaged ({problem}); restore it from a copy") from None

    @classmethod
    def _loaded(cls: type[Self], folder: Path, saved: dict[str, Any], env: Any, device: str) -> Self:
        if saved["class"] != cls.__name__:
            raise ValueError(f"{folder} has a saved {saved['class']}; load it with {saved['class']}.load")
        agent = cls(
            env, seed=saved["seed"], device=device, num_envs=saved["num_envs"], network=saved_network(saved["network"]),
            **saved["settings"],
        )  # fmt: skip
        if agent.tokenizer.vocabulary.digest != saved["vocabulary"]:
            raise ValueError(
                f"the agent in {folder} was trained with another vocabulary than that of the environment "
                f"({len(agent.tokenizer.vocabulary)} tokens); use the corpus and tokenizer it was trained with"
            )
        agent._module().load_state_dict(read_weights(folder, str(agent.device)))
        agent._restore(saved)
        return agent

    def _restore(self, saved: dict[str, Any]) -> None:
        """Restore the counters from agent.json."""
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
