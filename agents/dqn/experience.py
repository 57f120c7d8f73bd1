"""What an agent learns from: its replay, what plays into it, and imagined texts."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from ...envs import EnvConfig, Phrases, TokenLMDeviceEnv, World
from ..acting.exploration import make_counts
from ..replay.episodes import EpisodeReplay
from .actors import Outbox, RemoteCollector
from .collector import Collector, PhraseCollector
from .config import AgentConfig
from .imagination import Imagination


def make_replay(agent: Any, world: World) -> EpisodeReplay:
    """An empty replay for the episodes of `agent`, a `DQN`; raises ValueError where it cannot hold those side by side.

    Its prompts are at most as long as those of `world`.
    """
    config, env, phrases = agent.config, agent.env_config, agent.phrases
    capacity = config.replay_capacity // env.max_new_tokens
    if not config.rule.replays:  # only the episodes just written
        capacity = max(config.num_envs, config.batch_size)
    if capacity < config.num_envs:
        raise ValueError(
            f"a replay_capacity of {config.replay_capacity:,} tokens holds {capacity} episodes of "
            f"{env.max_new_tokens} tokens, fewer than the {config.num_envs} environments write at a time; make it "
            f"at least {config.num_envs * env.max_new_tokens:,}"
        )
    longest = int(world.documents[env.split].longest_prompt.max()) + 1
    return EpisodeReplay(
        capacity,
        min(longest, env.context_length),
        env.max_new_tokens,
        agent.network.num_actions,
        keeps_actions=env.transition == "teacher" or phrases is not None,
        keeps_durations=phrases is not None,
        device=agent.device,
    )


def make_collector(agent: Any, store: EpisodeReplay | Outbox) -> Collector | RemoteCollector:
    """What plays with the network of `agent`, a `DQN`, and keeps the episodes in `store`."""
    config, env = agent.config, agent.env_config
    if agent.actors.count and isinstance(store, EpisodeReplay):
        return RemoteCollector(
            agent.actors,
            functools.partial(collector_of_actor, type(agent), env, config, agent.phrases),
            agent.network, store, lambda: agent.learner.updates, config.num_envs, agent.own_seed,
        )  # fmt: skip
    place = "cpu" if agent.device.type == "mps" else agent.device  # which has no float64
    played = TokenLMDeviceEnv(config.num_envs, env, device=place)
    counts = make_counts(config.exploration, env, agent.network.num_actions, agent.device)
    parts = (played, agent.network, store, agent.valid_actions, agent.generator, agent.own_seed, counts)
    if agent.phrases is None:
        return Collector(*parts)
    return PhraseCollector(*parts, phrases=agent.phrases, gamma=config.gamma)


def collector_of_actor(
    kind: type[Any], env: EnvConfig, config: AgentConfig, phrases: Phrases | None, seed: int, outbox: Outbox
) -> Any:
    """What an actor's process acts with; the learner, of the class `kind`, sends it the weights."""
    own: dict[str, Any] = {} if phrases is None else {"phrases": phrases}
    agent = kind(env, dataclasses.replace(config, start_from=None), seed=seed, device="cpu", **own)
    return make_collector(agent, outbox)


def make_imagination(agent: Any, world: World, replay: EpisodeReplay) -> Imagination | None:
    """Imagined texts of `agent`, a `DQN`, paid by a model of the rewards in `replay`; None where none are wanted."""
    config = agent.config
    if not config.rewards.imagine:
        return None
    return Imagination(
        config.rewards, agent.env_config, world, agent.network, replay, agent.valid_actions, agent.generator,
        config.num_envs, config.batch_size, agent.own_seed + 3,
    )  # fmt: skip
