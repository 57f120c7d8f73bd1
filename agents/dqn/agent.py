"""`DQN`: learn, predict, generate, save, load."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from ...envs import EnvConfig, Phrases, TokenLMDeviceEnv, World
from ...envs.text import Tokenizer
from ..acting.choosing import choose_actions
from ..acting.valid_actions import make_rules
from ..decoding import NetworkReader, Prefixes, Writer
from ..devices import resolve_device
from ..networks import QNetwork, put_rows
from ..networks.making import make_q_network
from ..networks.prefixes import right_padded
from ..replay.corpus import corpus_replay
from ..replay.episodes import EpisodeBatch, EpisodeReplay
from ..replay.sampling import BatchSampler, episode_priorities
from . import saving as checkpoints
from .collector import Collector, PhraseCollector
from .config import AgentConfig
from .construction import make_counts, make_phrases, make_replay
from .learner import Learner
from .pretraining import pretrain
from .rules import make_heads
from .stopwatch import Stopwatch

_PRIORITY_MIXTURE = 0.9  # R2D2's share of the largest TD error in an episode's priority

Callback = Callable[["DQN"], bool | None]


class DQN(Writer):
    """Deep Q-network over token prefixes, with episode replay, a target network and a temperature.

    At temperature 0 this is the DQN of Mnih et al. 2015 on sequences; at τ > 0 its Bellman operator is the soft one
    of Haarnoja et al. 2017, whose fixed point under log-likelihood rewards and γ = τ = 1 is the language model p*.

    Args:
        env: a registered id ("TokenLM-v0"), an `EnvConfig`, or an environment made from one; None for an agent that
            only predicts and generates (then `tokenizer` and `env_config` are needed, as `load` passes them).
        config: the learner's settings, or
        settings: the same as keywords, over `config`: `learning_rate=3e-4, network="transformer", temperature=0.5`;
            `phrases` may be the `Phrases` themselves. `predict` chooses phrases where it is given masks that have them
            (those of `PhraseActions`); texts are scored, and written by `generate`, by single tokens.
        seed: seed of everything random; on the CPU one seed gives one result, bit for bit.
        device: "auto", "cpu", "cuda" or "mps".
        saved: the folder whose weights `load` will put in, so that no pretrained ones are read.
    """

    def __init__(
        self,
        env: str | EnvConfig | gym.Env | gym.vector.VectorEnv | None = "TokenLM-v0",
        config: AgentConfig | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        tokenizer: Tokenizer | None = None,
        env_config: EnvConfig | None = None,
        saved: Path | None = None,
        **settings: Any,
    ) -> None:
        phrases = settings.get("phrases")
        if isinstance(phrases, Phrases):
            settings = {**settings, "phrases": len(phrases)}
        self.config = AgentConfig.of(config, settings)
        self.seed = seed
        self.device = resolve_device(device)
        self.world: World | None = None
        if env is not None:
            env_config = env_config_from(env)
            self.world = World.of(env_config)
            tokenizer = self.world.tokenizer
        if tokenizer is None or env_config is None:
            raise ValueError("an agent without an environment needs a tokenizer and an env_config; use DQN.load(path)")
        self.env_config = env_config
        self.tokenizer = tokenizer
        torch.manual_seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        vocab_size = len(self.tokenizer.vocabulary)
        self.phrases = make_phrases(
            self.config, env_config, self.world, phrases if isinstance(phrases, Phrases) else None
        )
        start = Path(self.config.start_from) if self.config.start_from is not None and saved is None else None
        self.network = make_q_network(
            self.config.network, env_config, vocab_size, make_heads(self.config), tokenizer=tokenizer,
            saved=saved or start, phrases=self.phrases,
        )  # fmt: skip
        if start is not None:
            checkpoints.take_weights(self.network, start, tokenizer)
        self.network.to(self.device)
        self.rules = make_rules(env_config, vocab_size, self.device, self.tokenizer, self.phrases, single=True)
        self.decision_rules = make_rules(env_config, vocab_size, self.device, self.tokenizer, self.phrases)
        self.stopwatch = Stopwatch(self.device)
        self.learner = Learner(self.network, self.config, self.decision_rules, self.stopwatch)
        self.num_steps = 0
        self.progress = 0.0
        self.learning_seconds = 0.0
        self.last_metrics: dict[str, Tensor] = {}
        self.env_steps_before = 0
        self._owed = 0.0
        self._begun = saved is not None  # whether there is nothing to pretrain any more
        self.replay: EpisodeReplay | None = None
        self.sampler: BatchSampler | None = None
        self.collector: Collector | None = None

    def learn(
        self,
        total_steps: int,
        callback: Callback | None = None,
        progress_bar: bool = False,
        resume: bool = False,
        max_seconds: float | None = None,
    ) -> DQN:
        """Act and train for `total_steps` environment steps; schedules run over these steps.

        Args:
            total_steps: environment steps; with loss "cross_entropy", which does not act, as many updates as that
                many steps would have brought.
            callback: called after every step of the batch of environments; returning False stops.
            progress_bar: show progress, rate and time left.
            resume: go on with the course that `load_state_dict` restored, up to `total_steps` in all.
            max_seconds: stop after so much time spent learning, if that comes first; schedules then run over
                whichever of the two is further on, so a run is no longer the same bit for bit.
        """
        self.prepare()
        first, began = (0 if resume else self.num_steps), time.perf_counter()
        before = 0.0 if resume else self.learning_seconds
        done = self.num_steps - first
        self.progress = min(1.0, done / total_steps) if not max_seconds or not resume else self.progress
        if self.config.pretrain and not self._begun:
            self._pretrain(began + max_seconds if max_seconds else None)
            now = time.perf_counter()
            self.learning_seconds, began = self.learning_seconds + now - began, now
        self._begun = True
        with tqdm(total=total_steps, initial=done, unit="step", disable=not progress_bar, unit_scale=True) as bar:
            while self.num_steps - first < total_steps:
                self._act()
                self._train()
                now = time.perf_counter()
                self.learning_seconds += now - began
                spent = (self.learning_seconds - before) / max_seconds if max_seconds else 0.0
                self.progress = min(1.0, max((self.num_steps - first) / total_steps, spent))
                if callback is not None and callback(self) is False:
                    break
                began = time.perf_counter()
                bar.update(min(self.num_steps - first, total_steps) - bar.n)
                if progress_bar and self.collector is not None:
                    bar.set_postfix({"return": f"{self.collector.mean_return:.2f}"}, refresh=False)
                if spent >= 1.0:
                    break
        return self

    @property
    def env_steps(self) -> int:
        """Environment steps taken, those before the agent was saved and loaded included."""
        return self.env_steps_before + (self.collector.steps if self.collector else 0)

    @property
    def transitions_trained(self) -> int:
        """Transitions that entered an update so far."""
        return self.learner.transitions_trained

    @property
    def temperature(self) -> float:
        """τ now: that of the value and of the policy."""
        return self.config.at("temperature", self.progress)

    def predict(
        self,
        observation: npt.ArrayLike,
        state: tuple[Tensor, ...] | None = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], tuple[Tensor, ...]]:
        """Actions for observations of the environment.

        Args:
            observation: (L,) or (B, L) int64, as the environment gives it.
            state: what the last call returned, to read only the newest token; None to read the whole window.
            episode_start: (B,) bool, rows whose window is to be read afresh although `state` is given.
            deterministic: the greedy action; otherwise one drawn from the Boltzmann policy.
            action_masks: (V,) or (B, V) bool; without them all actions that are ever valid are allowed.

        Returns: actions, a scalar array for a single observation and (B,) otherwise, and the new state.
        """
        windows = torch.as_tensor(np.asarray(observation), dtype=torch.int64, device=self.device)
        single = windows.ndim == 1
        windows = windows[None] if single else windows
        network = self.policy_network.eval()
        with torch.no_grad():
            hidden, state = self._read(windows, state, episode_start)
            valid = self._valid(action_masks)
            temperature = 0.0 if deterministic else self.temperature
            values = network.policy_values(hidden, valid)
            actions, _ = choose_actions(values, temperature, generator=self.generator)
        array = actions.cpu().numpy()
        return (array[0] if single else array), state

    @torch.no_grad()
    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s) of the Boltzmann policy, (B, V) in nats, -inf for masked actions, for windows (B, L) int64.

        At temperature 0 all but the greedy action have -inf. Masks as in `predict`; with masks that have phrases
        (B, V + P).
        """
        width = self.network.vocab_size if action_masks is None else np.shape(action_masks)[-1]
        windows = torch.as_tensor(np.atleast_2d(np.asarray(observation, np.int64)), device=self.device)
        valid = self._valid(action_masks)
        valid = valid.expand(len(windows), -1)
        network = self.policy_network.eval()
        hidden, _ = network.encode(*right_padded(windows))
        values = network.policy_values(hidden, valid).double().masked_fill(~valid, -torch.inf)
        if self.temperature > 0:
            return torch.log_softmax(values / self.temperature, -1)[:, :width].cpu().numpy()
        best = torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1])
        return torch.where(best.bool(), 0.0, -torch.inf).double()[:, :width].cpu().numpy()

    def reader(self, prefixes: Prefixes, greedy: bool = False) -> NetworkReader:
        """See `Writer`."""
        return NetworkReader(self.policy_network, self.rules, prefixes, self.env_config.context_length)

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`."""
        return self.temperature if asked is None else asked

    @property
    def policy_network(self) -> QNetwork:
        """What predicts, writes and is saved: the newest weights, or with `averaged` their Polyak average."""
        return self.learner.target_network if self.config.averaged else self.network

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors), configuration and tokenizer into the folder `path`."""
        checkpoints.save_agent(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: str | EnvConfig | gym.Env | gym.vector.VectorEnv | None = None,
        device: str = "auto",
    ) -> DQN:
        """The agent that `save` wrote; with `env`, one that can go on learning there.

        Raises ValueError where the environment's vocabulary is not the one the agent was trained with.
        """
        return checkpoints.load_agent(cls, Path(path), env, device)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training; `load_state_dict` goes on exactly there."""
        self.prepare()
        return {
            "learner": self.learner.state_dict(),
            "replay": self.replay.state_dict() if self.replay else None,
            "collector": self.collector.state_dict() if self.collector else None,
            "generator": self.generator.get_state(),
            "sampler": self.sampler.state_dict() if self.sampler else None,
            "torch_generator": torch.get_rng_state(),
            "num_steps": self.num_steps,
            "progress": self.progress,
            "learning_seconds": self.learning_seconds,
            "owed": self._owed,
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.prepare()
        self.learner.load_state_dict(state["learner"])
        if self.replay is not None and self.collector is not None:
            self.replay.load_state_dict(state["replay"])
            self.collector.load_state_dict(state["collector"])
        self.generator.set_state(state["generator"])
        if self.sampler is not None:
            self.sampler.load_state_dict(state["sampler"])
        torch.set_rng_state(state["torch_generator"])
        self.num_steps, self.progress = int(state["num_steps"]), float(state["progress"])
        self.learning_seconds, self._owed = float(state["learning_seconds"]), float(state["owed"])
        self._begun = bool(state.get("begun", True))  # checkpoints of before had nothing to pretrain

    def prepare(self) -> None:
        """Make what only training needs: the corpus episodes, the replay and the environments."""
        if self.sampler is not None:
            return
        world, config = self._learned_world, self.config
        share = config.share_of_corpus
        where = (world, self.env_config, self.seed, self.device)
        corpus = corpus_replay(*where, self.phrases, config.gamma) if share else None
        if share < 1:
            place = "cpu" if self.device.type == "mps" else self.device  # which has no float64
            env = TokenLMDeviceEnv(config.num_envs, self.env_config, device=place)
            self.replay = make_replay(config, self.env_config, world, self.device, self.phrases)
            counts = make_counts(config, self.env_config, self.network.num_actions, self.device)
            parts = (env, self.network, self.replay, self.decision_rules, self.generator, self.seed, counts)
            if self.phrases is None:
                self.collector = Collector(*parts)
            else:
                self.collector = PhraseCollector(*parts, phrases=self.phrases, gamma=config.gamma)
        generator = torch.Generator().manual_seed(self.seed + 1)
        self.sampler = BatchSampler(
            self.replay, corpus, config.batch_size, share, generator, config.priority_exponent,
            config.importance_exponent,
        )  # fmt: skip

    @property
    def _learned_world(self) -> World:
        if self.world is None:
            raise ValueError("this agent has no environment to learn in; load it with DQN.load(path, env=…)")
        return self.world

    def _pretrain(self, deadline: float | None) -> None:
        corpus = self.sampler.corpus if self.sampler else None
        if corpus is None:  # made for this alone, and kept no longer
            corpus = corpus_replay(self._learned_world, self.env_config, self.seed, self.device)
        generator = torch.Generator().manual_seed(self.seed + 2)
        pretrain(self.learner, corpus, generator, lambda: deadline is None or time.perf_counter() < deadline)

    def _act(self) -> None:
        if self.collector is not None:
            with self.stopwatch.time("acting"):
                self.collector.step(self.temperature, self.config.at("epsilon", self.progress))
        self.num_steps += self.config.num_envs
        if self.num_steps >= self.config.learning_starts:
            self._owed += self.config.num_envs * self.config.replay_ratio

    def _train(self) -> None:
        while self._owed > 0 and (batch := self._sample()) is not None:
            before = self.learner.transitions_trained
            metrics = self.learner.update(batch, self.progress)
            self._owed -= max(1, self.learner.transitions_trained - before)
            if self.config.priority_exponent and self.sampler and batch.rows is not None and len(self.learner.errors):
                priorities = episode_priorities(self.learner.errors, batch.is_action, _PRIORITY_MIXTURE)
                self.sampler.update_priorities(batch.rows, priorities)
            self.last_metrics = metrics

    def _sample(self) -> EpisodeBatch | None:
        with self.stopwatch.time("replay"):
            return self.sampler.sample() if self.sampler else None

    def _valid(self, action_masks: npt.ArrayLike | None) -> Tensor:
        """(V + P,) or (B, V + P) bool; masks without phrases allow none."""
        if action_masks is None:
            return self.rules.valid
        valid = torch.as_tensor(np.asarray(action_masks), device=self.device).bool()
        return torch.nn.functional.pad(valid, (0, self.network.num_actions - valid.shape[-1]))

    def _read(
        self, windows: Tensor, state: tuple[Tensor, ...] | None, episode_start: npt.ArrayLike | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        # A phrase has written more than the newest token.
        if state is None or self.phrases is not None:
            return self.policy_network.encode(*right_padded(windows))
        hidden, state = self.policy_network.step(windows[:, -1], state)
        if episode_start is not None and np.any(episode_start):
            rows = torch.as_tensor(np.flatnonzero(episode_start), device=self.device)
            fresh, new = self.policy_network.encode(*right_padded(windows[rows]))
            hidden[rows] = fresh
            put_rows(state, rows, new)
        return hidden, state


def env_config_from(env: str | EnvConfig | gym.Env | gym.vector.VectorEnv) -> EnvConfig:
    """The arguments of a TokenLM environment: of a registered id, or of one that was made."""
    if isinstance(env, EnvConfig):
        return env
    if isinstance(env, str):
        env = gym.make(env)
    config = getattr(env.unwrapped, "config", None)
    if not isinstance(config, EnvConfig):
        raise ValueError(
            f"the agents learn on TokenLM environments, not on {env}; make it with gym.make('TokenLM-v0', …)"
        )
    return config
