"""What an algorithm offers to be trained, evaluated and raced beside the others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..envs import EnvConfig, Vocabulary, World
from ..envs.forms import form_in
from .decoding import Prefixes, Reader, WindowReader, Writer
from .decoding.readers import WindowPolicy, masks_after, window_values
from .networks import QNetwork
from .networks.prefixes import windows_at
from .replay.episodes import EpisodeReplay

Callback = Callable[[Any], "bool | None"]
BLOCK = 1 << 22  # entries of a (states, V) block of values that may be in memory at once
_WINDOWS = 4096  # windows given to an agent at once


@runtime_checkable
class Agent(WindowPolicy, Protocol):
    """Three methods (`learn`, `predict`, `log_probs`) and a count of steps.

    `DQN` and every adapter have them, and so can a class of your own. A run or a race makes the agent as
    `YourAgent(env_config, seed=…, device=…, **settings)`, where `env_config` is an `EnvConfig`;
    `gym.make("TokenLM-v0", config=env_config)` is its environment. A class derived from `BaseAgent` can offer more:
    saving, a temperature, figures of its own.

    Attributes:
        env_steps: environment steps taken so far.
    """

    @property
    def env_steps(self) -> int:
        """Environment steps taken so far."""
        ...

    def learn(self, total_steps: int, callback: Callback | None = None) -> Any:
        """Act and train for `total_steps` environment steps more, or a few more than that.

        Args:
            total_steps: environment steps.
            callback: to be called with the agent now and then, best after every step; where it returns False, `learn`
                returns.
        """
        ...


class NotFinite(ArithmeticError):
    """A loss, reward, gradient or weight is not a number, or infinite.

    Args:
        message: which, where.
        batch: tensors of the batch by name, to look at; None without.
    """

    def __init__(self, message: str, batch: dict[str, Tensor] | None = None) -> None:
        super().__init__(message)
        self.batch = batch


class BaseAgent(Writer):
    """Defaults for all that training, evaluation and decoding ask; a subclass adds the methods of `Agent`.

    By default the agent reads windows, as the environment shows them. A network that carries a state overrides
    `reader` and `values_at`.

    A subclass calls `super().__init__(env_config, seed)`.

    Attributes:
        world: its world; None for an agent that only predicts.
        env_config: the environment's arguments.
        env_steps: environment steps taken.
        has_temperature: whether its policy has a temperature to choose.
        has_perplexity: whether its policy is a distribution that a text can be scored by; a greedy or ε-greedy one is
            none.
        resumable: whether `state_dict` and `load_state_dict` go on in the middle of training.
        progress: part of `train` that is done, 0 to 1.
        num_steps: environment steps of the present `train`.
        learning_seconds: time spent learning, callbacks left out.
        pretraining_seconds: the part of it that `pretrain` took before; the next `train` has so much less time.
        transitions_trained: transitions that entered an update; None where they are not counted.
        gamma: discount it learns with.
    """

    env_steps: int
    has_temperature = False
    has_perplexity = True
    resumable = False
    progress: float = 0.0
    num_steps: int = 0
    learning_seconds: float = 0.0
    pretraining_seconds: float = 0.0

    def __init__(self, env_config: EnvConfig, seed: int = 0) -> None:
        """Know the environment.

        Args:
            env_config: its arguments.
            seed: of the texts that are generated without one.
        """
        self.env_config = env_config
        self.world: World | None = World.of(env_config)
        self.tokenizer = self.world.tokenizer
        self.generator = torch.Generator().manual_seed(seed)

    def learn(self, total_steps: int, callback: Callback | None = None) -> Any:
        """See `Agent`."""
        raise NotImplementedError

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """See `Agent`."""
        raise NotImplementedError

    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """See `Agent`."""
        raise NotImplementedError

    @property
    def temperature(self) -> float:
        """τ of the policy; 1 for a policy that has none and is used as it is."""
        return 1.0

    @property
    def gamma(self) -> float:
        """The discount it learns with."""
        return 1.0

    @property
    def transitions_trained(self) -> int | None:
        """Transitions that entered an update so far; None where they are not counted."""
        return None

    def train(
        self,
        total_steps: int,
        callback: Callback | None = None,
        *,
        resume: bool = False,
        max_seconds: float | None = None,
    ) -> None:
        """`learn` up to a budget of environment steps or of seconds spent learning, whichever ends first.

        Args:
            total_steps: environment steps.
            callback: called with the agent now and then; returning False stops.
            resume: go on with the training that `load_state_dict` restored; for agents that are `resumable`.
            max_seconds: None for no limit.
        """
        first, began = self.env_steps, time.perf_counter()
        before, self.pretraining_seconds = self.learning_seconds - self.pretraining_seconds, 0.0

        def measure() -> None:
            nonlocal began
            now = time.perf_counter()
            self.learning_seconds += now - began
            began = now
            self.num_steps = self.env_steps - first
            spent = (self.learning_seconds - before) / max_seconds if max_seconds else 0.0
            self.progress = min(1.0, max(self.num_steps / max(1, total_steps), spent))

        def after_step(_: Any) -> bool:
            nonlocal began
            measure()
            goes_on = callback is None or callback(self) is not False
            began = time.perf_counter()
            return goes_on and self.progress < 1.0

        self.learn(total_steps, after_step)
        measure()

    def reader(self, prefixes: Prefixes, env: EnvConfig | None = None, greedy: bool = False) -> Reader:
        """See `Writer`."""
        env = env or self.env_config
        world = World.of(env)
        return WindowReader(self, world.valid, env, prefixes, greedy, form_in(world, env))

    def acting_reader(self, prefixes: Prefixes, env: EnvConfig, greedy: bool = False) -> Reader:
        """What acts in an environment after `prefixes`: the reader, unless the agent acts by phrases."""
        return self.reader(prefixes, env, greedy)

    def values_at(
        self,
        tokens: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        env: EnvConfig | None = None,
        written: npt.NDArray[np.int64] | None = None,
        greedy: bool = False,
    ) -> Iterator[Tensor]:
        """Values to act by in many states of whole texts, in blocks.

        Args:
            tokens: (R, T) int64 texts, right-padded.
            rows: (N,) text of each state.
            columns: (N,) newest token of each state: the state has read tokens[row, : column + 1].
            env: the environment's arguments; the agent's own if None.
            written: (N,) tokens written before, which say whether `<eos>` is valid; None: it is valid wherever it ever
                is.
            greedy: only the best action will be asked for.

        Yields: (n, V) values of the next n states, nats, as of `Reader`.
        """
        env = env or self.env_config
        world = World.of(env)
        valid, form = world.valid, form_in(world, env)
        at_once = max(1, min(_WINDOWS, BLOCK // len(valid)))
        for first in range(0, len(rows), at_once):
            part = slice(first, first + at_once)
            windows = windows_at(tokens, rows[part], columns[part], env.context_length)
            counts = None if written is None else written[part]
            masks = masks_after(valid, windows, counts, env, form)
            # Texts that begin alike share windows; each is read once.
            told = masks[:, Vocabulary.EOS] if form is None or counts is None else counts
            both = np.concatenate([windows, told[:, None]], axis=1)
            _, kept, place = np.unique(both, axis=0, return_index=True, return_inverse=True)
            values = window_values(self, windows[kept], masks[kept], greedy)
            yield torch.from_numpy(values[place.reshape(-1)])

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`; a policy without a temperature takes only 0 (greedy) and 1."""
        if asked not in (None, 0.0, 1.0):
            raise ValueError(f"{type(self).__name__} has no temperature; use 0 for greedy texts, not {asked}")
        return 1.0 if asked is None else float(asked)

    def network_policy(self) -> tuple[QNetwork, float]:
        """The network that the agent acts by, and τ of its policy π ∝ exp(`policy_values`/τ).

        Raises ValueError for an agent without such a network.
        """
        raise ValueError(
            f"{type(self).__name__} does not act by a network of this library, so its policy cannot be exported; "
            "export a run of dqn, reinforce or grpo"
        )

    def use_episodes(self, episodes: EpisodeReplay) -> None:
        """Learn from these episodes in place of the corpus's documents; before it first learns.

        Raises ValueError for an agent that learns from no episodes but its own.
        """
        raise ValueError(
            f"{type(self).__name__} cannot learn from given episodes; use the algorithm dqn with a corpus_share above 0"
        )

    def messages(self) -> list[str]:
        """Messages to print at the start of a run."""
        return []

    def figures(self) -> dict[str, Any]:
        """Figures of its own for the log of a run."""
        return {}

    def evaluating(self) -> AbstractContextManager[None]:
        """Counts the time inside as evaluation, where the agent counts times."""
        return contextlib.nullcontext()

    def save(self, path: str | Path) -> None:
        """Write the agent into the folder `path`; nothing by default."""

    def weights(self) -> dict[str, Tensor] | None:
        """Copies of the weights that it acts by, on the CPU; None for an agent that cannot take them back."""
        return None

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Act by `weights`, as of `weights()`; all counts stay.

        Raises NotImplementedError for an agent that has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no weights to take")

    def go_on_from(self, path: str | Path) -> None:
        """Take the weights and the counts that `save` wrote into `path`; optimiser and replay begin anew.

        Raises ValueError for another network or vocabulary, and for an agent that cannot.
        """
        raise ValueError(f"an agent of the class {type(self).__name__} cannot go on from a saved one")

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training; for agents that are `resumable`."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken; for agents that are `resumable`."""
        raise NotImplementedError


class _Completed(BaseAgent):
    """An agent of the three methods alone, with the defaults."""

    def __init__(self, agent: Agent, env: EnvConfig) -> None:
        super().__init__(env)
        self.agent = agent
        self.learn, self.predict, self.log_probs = agent.learn, agent.predict, agent.log_probs  # type: ignore[method-assign]

    @property
    def env_steps(self) -> int:  # type: ignore[override]
        """See `Agent`."""
        return self.agent.env_steps


def complete(agent: Agent, env: EnvConfig | None = None) -> BaseAgent:
    """The agent with all defaults of `BaseAgent`.

    Args:
        agent: of any algorithm.
        env: its environment's arguments; needed for an agent of the three methods alone.

    Raises ValueError where the environment is not known.
    """
    if isinstance(agent, BaseAgent):
        return agent
    if env is None:
        raise ValueError("this agent does not know its environment; pass env=…, an EnvConfig")
    return _Completed(agent, env)
