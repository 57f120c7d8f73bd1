"""Actors on Ray: processes that write texts with a copy of the weights, for one learner that receives finished ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...envs.arguments import check_settings, number
from ...envs.text.limits import limited, limits_here
from ..networks import QNetwork
from ..replay.episodes import EpisodeReplay
from .collector import Collector

_STEPS = 8  # tokens that an actor writes in each of its environments before it answers
_PATIENCE = 900.0  # seconds without any answer, on a busy machine too
_APART = 7_368_787  # between the seeds of two actors
_RECENT = 200  # texts whose ages are averaged


@dataclass(frozen=True)
class ActorsConfig:
    """Processes that act on Ray while this one learns.

    Every actor has `num_envs` environments of its own. It answers with the texts that it has finished, and at most
    `ahead` answers of it may wait: then it stops until the learner takes one.

    Args:
        count: actors; 0 for none, so that this process acts itself.
        address: of a Ray cluster ("auto", "HOST:6379", "ray://HOST:10001"); None to start Ray on this machine.
        staleness: oldest weights, in updates, that may have chosen a token of a text when it arrives; older texts are
            dropped.
        refresh: updates between two copies of the weights.
        ahead: see above.
    """

    count: int = number(0, 0)
    address: str | None = None
    staleness: int = number(256, 0)
    refresh: int = number(4, 1)
    ahead: int = number(2, 1)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_settings(self)


class Outbox:
    """Keeps finished texts until they are sent; takes the place of an actor's replay.

    Args:
        prompt_size: longest prompt in tokens.
    """

    def __init__(self, prompt_size: int) -> None:
        self.prompt_size = prompt_size
        self._episodes: list[dict[str, Tensor | None]] = []

    def add(
        self,
        tokens: Tensor,
        actions: Tensor,
        rewards: Tensor,
        prompt_lengths: Tensor,
        lengths: Tensor,
        terminated: Tensor,
        durations: Tensor | None = None,
    ) -> None:
        """See `EpisodeReplay`."""
        self._episodes.append(
            {
                "tokens": tokens, "actions": actions, "rewards": rewards, "prompt_lengths": prompt_lengths,
                "lengths": lengths, "terminated": terminated, "durations": durations,
            }
        )  # fmt: skip

    def taken(self) -> dict[str, Tensor]:
        """All texts since the last call, as arguments of `EpisodeReplay.add`; empty for none."""
        parts, self._episodes = self._episodes, []
        names = [name for name, value in parts[0].items() if value is not None] if parts else []
        return {name: torch.cat([part[name] for part in parts]) for name in names}  # type: ignore[misc]


class Actor:
    """What runs in a process of its own.

    Args:
        make: makes the collector for a seed and an outbox.
        seed: of this actor.
        prompt_size: longest prompt in tokens.
    """

    def __init__(self, make: Callable[[int, Outbox], Collector], seed: int, prompt_size: int) -> None:
        torch.set_num_threads(1)
        self.outbox = Outbox(prompt_size)
        self.collector = make(seed, self.outbox)
        self.version = -1
        self.began_with = torch.zeros_like(self.collector.written)

    def act(
        self, weights: list[Any], version: int, temperature: float, epsilon: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Write `_STEPS` tokens in every environment.

        Args:
            weights: reference of a `state_dict` in Ray's store, in a list so that it is fetched only when it is new.
            version: updates that made these weights.
            temperature: of the policy.
            epsilon: chance to explore.

        Returns: finished texts, and for each the version of the weights that chose its first token.
        """
        if version != self.version:
            import ray

            self.collector.network.load_state_dict(ray.get(weights[0]))
            self.version = version
        ages = []
        for _ in range(_STEPS):
            self.began_with[self.collector.written == 0] = version
            self.collector.step(temperature, epsilon)
            ages.append(self.began_with[self.collector.written == 0].clone())  # those that have ended and begun anew
        return self.outbox.taken(), torch.cat(ages)


class RemoteCollector:
    """Fills the replay with the texts of actors; for the learner it is a `Collector`.

    A step takes as many tokens as the learner's environments would write in one, and waits for actors where none have
    arrived. An actor that is lost is replaced by a new one; its unfinished texts and unsent answers are lost with it.

    Args:
        config: how many actors, and where.
        make: makes an actor's collector, see `Actor`; it is sent to other processes.
        network: whose weights act.
        replay: where texts go.
        updates: how many updates the network has had.
        num_envs: environments of one actor.
        seed: of all actors; each has its own from it.

    Raises ImportError without Ray.
    """

    def __init__(
        self,
        config: ActorsConfig,
        make: Callable[[int, Outbox], Collector],
        network: QNetwork,
        replay: EpisodeReplay,
        updates: Callable[[], int],
        num_envs: int,
        seed: int,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ImportError('actors need the library ray; pip install "tokenlm[ray]"') from None
        if not ray.is_initialized():
            # The address of another program's Ray, which the environment may name, is not taken by chance.
            own: dict[str, Any] = {"include_dashboard": False} if config.address is None else {}
            ray.init(address=config.address or "local", log_to_driver=False, **own)
        self.ray = ray
        self.config, self.network, self.replay = config, network, replay
        self.make = partial(limited, limits_here(), make)
        self.updates, self.num_envs, self.seed = updates, num_envs, seed
        self.steps = self.episodes = self.dropped = self.replaced = 0
        self.recent_returns: list[float] = []
        self._recent_ages: list[int] = []
        self.oldest = 0
        self._due = 0  # tokens taken that no step has counted yet
        self._version = -1
        self._weights: Any = None  # reference in Ray's store
        self._actors: list[Any] = []
        self._waiting: dict[Any, Any] = {}  # answer -> the actor that owes it
        self._how = (1.0, 0.0)

    def step(self, temperature: float, epsilon: float) -> None:
        """Take the tokens of one step of `num_envs` environments."""
        self._how = temperature, epsilon
        while len(self._actors) < self.config.count:
            self._start()
        while self._due < self.num_envs:
            self._receive()
        self._due -= self.num_envs

    def _start(self) -> None:
        seed = self.seed + _APART * (len(self._actors) + 1 + self.config.count * self.replaced)
        # On a machine of its own Ray need not refuse more actors than cores.
        actor = self.ray.remote(num_cpus=0 if self.config.address is None else 1)(Actor).remote(
            self.make, seed, self.replay.prompt_size
        )
        self._actors.append(actor)
        for _ in range(self.config.ahead):
            self._ask(actor)

    def _ask(self, actor: Any) -> None:
        now = self.updates()
        if self._weights is None or now - self._version >= self.config.refresh:
            weights = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
            self._version, self._weights = now, self.ray.put(weights)
        self._waiting[actor.act.remote([self._weights], self._version, *self._how)] = actor

    def _receive(self) -> None:
        """Take one answer, and let its actor go on."""
        answers, _ = self.ray.wait(list(self._waiting), timeout=_PATIENCE)
        if not answers:
            raise TimeoutError(
                f"no actor has answered for {_PATIENCE:.0f} seconds; does the Ray cluster have {self.config.count} "
                "free CPUs?"
            )
        actor = self._waiting.pop(answers[0])
        try:
            texts, versions = self.ray.get(answers[0])
        except self.ray.exceptions.RayActorError:
            self._replace(actor)
            return
        self._ask(actor)
        if len(versions):
            self._keep(texts, versions)

    def _replace(self, actor: Any) -> None:
        self._waiting = {answer: owing for answer, owing in self._waiting.items() if owing is not actor}
        self._actors.remove(actor)
        self.replaced += 1
        self._start()

    def _keep(self, texts: dict[str, Tensor], versions: Tensor) -> None:
        ages = self.updates() - versions
        fresh = ages <= self.config.staleness
        self.steps += int(texts["lengths"].sum())
        self.dropped += int((~fresh).sum())
        kept = {name: value[fresh] for name, value in texts.items()}
        for some in torch.arange(len(kept["lengths"])).split(self.replay.capacity):
            self.replay.add(**{name: value[some] for name, value in kept.items()})
        self._due += int(kept["lengths"].sum())
        self.episodes += len(kept["lengths"])
        ages = ages[fresh]
        self.oldest = max([self.oldest, *ages.tolist()])
        self._recent_ages = (self._recent_ages + ages.tolist())[-_RECENT:]
        self.recent_returns = (self.recent_returns + kept["rewards"].sum(1).tolist())[-_RECENT:]

    @property
    def mean_return(self) -> float:
        """Mean return of the last texts, nats; nan before the first."""
        return float(np.mean(self.recent_returns)) if self.recent_returns else float("nan")

    def figures(self) -> dict[str, float | None]:
        """Ages, in updates, of the weights that began the last texts and the oldest kept so far; texts dropped; actors
        replaced.
        """
        return {
            "staleness": float(np.mean(self._recent_ages)) if self._recent_ages else None,
            "staleness_max": self.oldest,
            "stale_texts_dropped": self.dropped,
            "actors_replaced": self.replaced,
        }

    def state_dict(self) -> dict[str, Any]:
        """Counters; texts that actors are writing are not kept."""
        counted = ("steps", "episodes", "dropped", "replaced", "oldest", "_due")
        return {**{name: getattr(self, name) for name in counted}, "recent_returns": list(self.recent_returns)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting; the actors begin new texts."""
        for name, value in state.items():
            setattr(self, name, value)
