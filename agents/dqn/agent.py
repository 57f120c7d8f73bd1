"""`DQN`: learn, predict, generate, save, load."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ...envs import EnvConfig, Phrases, World, env_config_from
from ...envs.arguments import whole_number
from ...envs.text import Tokenizer
from ..acting.phrases import make_phrases
from ..acting.valid_actions import ValidActions
from ..devices import resolve_device
from ..evaluation.evaluate import evaluate
from ..evaluation.history import History
from ..networks import QNetwork, make_q_network
from ..networks.module import ModuleConfig
from ..replay.corpus import corpus_replay
from ..replay.episodes import EpisodeBatch, EpisodeReplay
from ..replay.sampling import BatchSampler, episode_priorities
from . import experience, saving
from .actors import ActorsConfig, RemoteCollector
from .collector import Collector
from .config import AgentConfig
from .imagination import Imagination
from .learner import Learner
from .memory import memory_figures, memory_text
from .policy import QPolicy
from .pretraining import pretrain, start_at_frequencies
from .ranks import ranks
from .state import state_of, take_state
from .stopwatch import Stopwatch

_APART = 1_000_003  # between the seeds of two processes
_PRIORITY_MIXTURE = 0.9  # R2D2's share of the largest TD error in an episode's priority

Callback = Callable[["DQN"], bool | None]


class DQN(QPolicy):
    """Deep Q-network over token prefixes, with episode replay, a target network and a temperature.

    At temperature 0 this is the DQN of Mnih et al. 2015 on sequences; at τ > 0 its Bellman operator is the soft one
    of Haarnoja et al. 2017, whose fixed point under log-likelihood rewards and γ = τ = 1 is the language model p*.

    Processes joined by torch.distributed (see `tokenlm.agents.runs.ranks`) train one network: `num_envs`,
    `batch_size` and `replay_capacity` are those of each, steps and transitions are counted over all.

    Args:
        env: a registered id ("TokenLM-v0"), an `EnvConfig`, or an environment made from one; None for an agent that
            only predicts and generates (then `tokenizer` and `env_config` are needed, as `load` passes them).
        config: the learner's settings, or
        settings: the same as keywords, over `config`, those of the rule among them: `learning_rate=1e-3,
            network="transformer", loss="ilql", expectile=0.9`. `network` may be a module of your own, see
            `ModuleQNetwork`; `phrases` may be the `Phrases` themselves. `predict`
            chooses phrases where it is given masks that have them (those of `PhraseActions`); texts are scored, and
            written by `generate`, by single tokens.
        seed: seed of everything random; on the CPU one seed gives one result, bit for bit.
        device: "auto", "cpu", "cuda" or "mps".
        saved: folder whose weights `load` will put in, so that no pretrained weights are read.
    """

    resumable = True

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
        module = settings.get("network")
        if isinstance(module, nn.Module):
            settings = {**settings, "network": ModuleConfig(module=type(module).__name__)}
        phrases = settings.get("phrases")
        if isinstance(phrases, Phrases):
            settings = {**settings, "phrases": len(phrases)}
        self.config = AgentConfig.of(config, settings)
        self.seed = seed
        self.ranks = ranks()
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
        given = phrases if isinstance(phrases, Phrases) else None
        self.phrases = make_phrases(
            self.config.phrases.count, self.config.phrases.length, env_config, self.world, given
        )
        start = Path(self.config.start_from) if self.config.start_from is not None and saved is None else None
        heads = dataclasses.replace(self.config.rule.heads(), rewards=self.config.rewards.redistribute)
        self.network = make_q_network(
            self.config.network, env_config, vocab_size, heads, tokenizer=tokenizer, saved=saved or start,
            phrases=self.phrases, module=module if isinstance(module, nn.Module) else None,
        )  # fmt: skip
        if start is not None:
            saving.take_weights(self.network, start, tokenizer)
        self.network.to(self.device)
        parts = (env_config, vocab_size, self.device, tokenizer, self.phrases)
        self.valid_actions = ValidActions.of(*parts)
        self.valid_tokens = ValidActions.of(*parts, single=True)
        self.stopwatch = Stopwatch(self.device)
        self.learner = Learner(self.network, self.config, self.valid_actions, self.stopwatch, self.ranks)
        self.last_metrics: dict[str, Tensor] = {}
        self.env_steps_before = 0
        self._progress_before = 0.0  # of the training before it was loaded
        self.history = History()
        self._owed = 0.0
        self._all_have_episodes = self.ranks is None
        if self.ranks is not None and self.ranks.rank:  # the weights are the same, what is acted and drawn is not
            torch.manual_seed(self.own_seed)
            self.generator.manual_seed(self.own_seed)
        self._begun = saved is not None  # pretraining is done, or the weights are loaded
        self._episodes: EpisodeReplay | None = None  # in place of the corpus's
        self.replay: EpisodeReplay | None = None
        self.sampler: BatchSampler | None = None
        self.collector: Collector | RemoteCollector | None = None
        self.actors = ActorsConfig()
        self.imagination: Imagination | None = None

    def use_actors(self, actors: ActorsConfig) -> None:
        """Let actors on Ray write the texts that this agent learns from; before it first learns.

        Each has `num_envs` environments on a CPU. A run is no longer reproducible, and one that is taken up again
        begins with new texts.

        Raises ValueError where actors cannot write what the rule learns from.
        """
        config = self.config
        refused = {
            f"the rule {config.loss}, which learns from the newest texts alone": not config.rule.replays,
            f"the rule {config.loss}, which learns from the corpus alone": config.settled().corpus_share == 1,
            "a network given in Python, which other processes cannot make": isinstance(config.network, ModuleConfig),
            "several learning processes": self.ranks is not None,
            "an agent that has begun to act": self.collector is not None,
        }
        if actors.count and (given := next((what for what, is_so in refused.items() if is_so), None)):
            raise ValueError(f"actors cannot serve {given}; set actors.count to 0")
        self.actors = actors

    def use_episodes(self, episodes: EpisodeReplay) -> None:
        """See `BaseAgent`."""
        if not self.config.settled().corpus_share or self.phrases is not None:
            raise ValueError(
                "given episodes stand in for those of the corpus: the agent needs a corpus_share above 0 and no phrases"
            )
        self._episodes = episodes

    def learn(
        self,
        total_steps: int,
        callback: Callback | None = None,
        progress_bar: bool = False,
        resume: bool = False,
        max_seconds: float | None = None,
    ) -> DQN:
        """Act and train for `total_steps` environment steps; schedules run over these steps.

        The schedules of an agent that was loaded go on from where they were when it was saved: those of a finished one
        stay at their end, because a learning rate begun anew would spoil what was learned.

        Args:
            total_steps: environment steps; a rule that learns from the corpus alone does not act and makes the updates
                that so many steps would bring.
            callback: called after every step of the batch of environments; returning False stops.
            progress_bar: show progress, rate and time left.
            resume: go on with the training that `load_state_dict` restored, up to `total_steps` in all.
            max_seconds: stop after this time spent learning, if that comes first. Schedules then run over whichever
                budget is further on, so a run is no longer reproducible bit for bit.

        Figures are kept in `history`. Warns, without a callback, where learning_starts comes later than the end.
        """
        whole_number("total_steps", total_steps, 0)
        self.prepare()
        if callback is None and (problem := self.config.too_few_steps(self.num_steps + total_steps)):
            warnings.warn(problem, stacklevel=2)
        first, began = (0 if resume else self.num_steps), time.perf_counter()
        before = 0.0 if resume else self.learning_seconds
        done = self.num_steps - first
        behind = 0.0 if resume else self._progress_before
        if not max_seconds or not resume:
            self.progress = behind + (1.0 - behind) * min(1.0, done / max(1, total_steps))
        self.history.begin()
        if not self._begun:
            self._begin(began + max_seconds if max_seconds else None)
            self.learning_seconds += self._seconds_since(began)
            began = time.perf_counter()
        if self.ranks is not None:
            self.ranks.take_first(self.learner.whole_tensors())
        with tqdm(total=total_steps, initial=done, unit="step", disable=not progress_bar, unit_scale=True) as bar:
            while self.num_steps - first < total_steps:
                self._act()
                self._train()
                self.learning_seconds += self._seconds_since(began)
                spent = (self.learning_seconds - before) / max_seconds if max_seconds else 0.0
                part = min(1.0, max((self.num_steps - first) / total_steps, spent))
                self.progress = behind + (1.0 - behind) * part
                self.history.add(self, part)
                if callback is not None and callback(self) is False:
                    break
                began = time.perf_counter()
                bar.update(min(self.num_steps - first, total_steps) - bar.n)
                if progress_bar and self.collector is not None:
                    bar.set_postfix({"return": f"{self.collector.mean_return:.2f}"}, refresh=False)
                if spent >= 1.0:
                    break
        return self

    def train(
        self,
        total_steps: int,
        callback: Callback | None = None,
        *,
        resume: bool = False,
        max_seconds: float | None = None,
    ) -> None:
        """See `BaseAgent`; schedules run over whichever budget is further on."""
        self.learn(total_steps, callback, resume=resume, max_seconds=max_seconds)

    @property
    def env_steps(self) -> int:  # type: ignore[override]
        """Environment steps taken, those before the agent was saved and loaded included."""
        return self.env_steps_before + (self.collector.steps * self._size if self.collector else 0)

    @property
    def transitions_trained(self) -> int:
        """Transitions that entered an update so far."""
        return self.learner.transitions_trained

    @property
    def temperature(self) -> float:
        """τ now: that of the value and of the policy."""
        return self.config.temperatures(self.progress)

    @property
    def gamma(self) -> float:
        """The discount."""
        return self.config.gamma

    @property
    def policy_network(self) -> QNetwork:
        """What predicts, writes and is saved: the newest weights, or with `averaged` their Polyak average."""
        return self.learner.target_network if self.config.averaged else self.network

    def messages(self) -> list[str]:
        """See `BaseAgent`: memory, and how the network was made."""
        return [memory_text(self.memory(), self.replay.capacity if self.replay else 0), *self.network.notes]

    def memory(self) -> dict[str, int]:
        """Bytes of what training keeps, see `memory_figures`; an agent that has not begun counts as if it had."""
        self.prepare()
        corpus = self.sampler.corpus if self.sampler else None
        return memory_figures(self.learner, self.config.optimizer.moments, self.replay, corpus)

    def figures(self) -> dict[str, Any]:
        """See `BaseAgent`: updates, rates, metrics of the last update, shares of the time."""
        trained, seconds, collector = self.transitions_trained, self.learning_seconds, self.collector
        return {
            "updates": self.learner.updates,
            "transitions_trained": trained,
            "transitions_per_second": round(trained / seconds) if seconds else 0,
            "temperature": self.temperature,
            "training_return": collector.mean_return if collector and collector.recent_returns else None,
            **{name: float(value) for name, value in self.last_metrics.items()},
            **{f"time_{part}": share for part, share in self.stopwatch.shares().items()},
            **(collector.figures() if collector else {}),
        }

    def figures_of_learning(self) -> dict[str, Any]:
        """The columns of `history`, now."""
        collector, config, done = self.collector, self.config, self.progress
        return {
            "num_steps": self.num_steps,
            "learning_seconds": self.learning_seconds,
            "transitions_trained": self.transitions_trained,
            "training_return": collector.mean_return if collector and collector.recent_returns else None,
            "temperature": self.temperature,
            "epsilon": config.epsilon(done),
            "learning_rate": config.learning_rate(done),
            **self.last_metrics,
        }

    def plot(self) -> Any:
        """`history` as a matplotlib Figure: return and loss over environment steps."""
        return self.history.plot()

    def evaluate(self, **how: Any) -> dict[str, Any]:
        """Perplexity, returns, regret and the task's metrics on held-out documents; `how` as of `evaluate`."""
        return evaluate(self, **how)

    def evaluating(self) -> AbstractContextManager[None]:
        """See `BaseAgent`."""
        return self.stopwatch.time("evaluation")

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors), configuration and tokenizer into the folder `path`."""
        saving.save_agent(self, Path(path))

    def weights(self) -> dict[str, Tensor]:
        """See `BaseAgent`."""
        state: dict[str, Tensor] = self.policy_network.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `BaseAgent`."""
        self.policy_network.load_state_dict(weights)

    def go_on_from(self, path: str | Path) -> None:
        """See `BaseAgent`."""
        saving.restore(self, Path(path))
        self._begun = True

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: str | EnvConfig | gym.Env | gym.vector.VectorEnv | None = None,
        device: str = "auto",
        trust: bool = False,
        network: nn.Module | None = None,
    ) -> DQN:
        """The agent that `save` wrote.

        Args:
            path: the folder.
            env: an environment to go on learning in; None for an agent that only predicts and generates.
            device: "auto", "cpu", "cuda" or "mps".
            trust: import code that the folder names, and read files that were changed since they were saved.
            network: the module, of an agent that was made with one of your own.

        Raises ValueError for damaged files, for another vocabulary than that of `env`, and, without `trust`, for names
        of code.
        """
        return saving.load_agent(cls, Path(path), env, device, trust, network)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training; raises NotFinite where it would keep what is not a number.

        Where several processes train, all of them must call it; the first one's holds what each has of its own.
        """
        self.prepare()
        self.learner.check_finite()
        return {**state_of(self), "owed": self._owed, "begun": self._begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken.

        Of fewer processes than then, some parts of the replay are dropped; of more, the new ones begin with none.
        """
        self.prepare()
        take_state(self, state)
        self._owed, self._begun = float(state["owed"]), bool(state["begun"])

    def prepare(self) -> None:
        """Make what only training needs: corpus episodes, replay and environments."""
        if self.sampler is not None:
            return
        world, config = self._learned_world, self.config.settled()
        corpus = None
        if config.corpus_share:
            corpus = self._episodes
            if corpus is None:
                corpus = corpus_replay(world, self.env_config, self.seed, self.device, self.phrases, config.gamma)
        if config.corpus_share != 1:
            self.replay = experience.make_replay(self, world)
            self.collector = experience.make_collector(self, self.replay)
            self.imagination = experience.make_imagination(self, world, self.replay)
        generator = torch.Generator().manual_seed(self.own_seed + 1)
        self.sampler = BatchSampler(
            self.replay, corpus, config.batch_size, config.corpus_share or 0.0, generator, config.priority_exponent,
            config.importance_exponent,
        )  # fmt: skip

    @property
    def _size(self) -> int:
        """Processes that train the network."""
        return 1 if self.ranks is None else self.ranks.size

    @property
    def own_seed(self) -> int:
        """Seed of what this process acts and draws."""
        return self.seed + (0 if self.ranks is None else _APART * self.ranks.rank)

    def _seconds_since(self, began: float) -> float:
        """Seconds since `began`, the same in every process, for schedules depend on it."""
        seconds = time.perf_counter() - began
        return seconds if self.ranks is None else self.ranks.first(seconds)

    @property
    def _learned_world(self) -> World:
        if self.world is None:
            raise ValueError("this agent has no environment to learn in; load it with DQN.load(path, env=…)")
        return self.world

    def _begin(self, deadline: float | None) -> None:
        """What comes before the first update: the head at the frequencies of the corpus, and pretraining."""
        self._begun = True
        config = self.config
        corpus = self.sampler.corpus if self.sampler else None
        if corpus is None and config.pretrain:  # needed for this alone
            corpus = corpus_replay(self._learned_world, self.env_config, self.seed, self.device)
        if corpus is None:
            return
        rule = config.rule
        logits = rule.maximum_likelihood or rule.heads().likelihood_ratio
        if config.network.unigram_bias and config.start_from is None and (logits or rule.starts_from_likelihood):
            weight = 1.0 if logits or config.pretrain else self.env_config.log_prob_weight / rule.sharpening
            start_at_frequencies(self.learner, corpus, weight)
        if config.pretrain:
            generator = torch.Generator().manual_seed(self.seed + 2)
            pretrain(
                self.learner, config, corpus, generator, lambda: deadline is None or time.perf_counter() < deadline
            )

    def _act(self) -> None:
        if self.collector is not None:
            with self.stopwatch.time("acting"):
                self.collector.step(self.temperature, self.config.epsilon(self.progress))
        if self.imagination is not None:
            with self.stopwatch.time("imagining"):
                self.imagination.act(self.temperature, self.config.epsilon(self.progress), self.progress)
        self.num_steps += self.config.num_envs * self._size
        if self.num_steps >= self.config.learning_starts:
            self._owed += self.config.num_envs * self._size * self.config.replay_ratio

    def _train(self) -> None:
        if not self._all_have_episodes and self.ranks is not None:  # an update needs a batch in every process
            self._all_have_episodes = self.ranks.all(bool(self.replay) or bool(self.config.settled().corpus_share))
        while self._all_have_episodes and self._owed > 0 and (batch := self._sample()) is not None:
            before = self.learner.transitions_trained
            metrics = self.learner.update(batch, self.progress)
            self._owed -= max(1, self.learner.transitions_trained - before)
            if self.config.priority_exponent and self.sampler and batch.rows is not None and len(self.learner.errors):
                priorities = episode_priorities(self.learner.errors, batch.is_action, _PRIORITY_MIXTURE)
                self.sampler.update_priorities(batch.rows, priorities)
            self.last_metrics = metrics

    def _sample(self) -> EpisodeBatch | None:
        with self.stopwatch.time("replay"):
            imagined = self.imagination.sample() if self.imagination else None
            if imagined is not None or self.sampler is None:
                return imagined
            batch = self.sampler.sample()
            return self.imagination.paid(batch) if self.imagination and batch else batch
