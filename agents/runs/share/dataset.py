"""Episodes as a Minari data set, and back as a replay that our offline rules learn from."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ....envs import EnvConfig, Vocabulary, World
from ...acting.choosing import choose_actions
from ...evaluation.playing import started
from ...networks.prefixes import windows_at
from ...protocol import BaseAgent
from ...replay.episodes import EpisodeReplay

_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+-v\d+")
_ID = "TokenLM-v0"
_BLOCK = 1_024  # episodes that an agent writes side by side


@torch.no_grad()
def written_episodes(agent: BaseAgent, config: EnvConfig, count: int, seed: int, temperature: float) -> EpisodeReplay:
    """Episodes that an agent writes in its environment, token by token.

    Args:
        agent: of any algorithm.
        config: the environment's arguments.
        count: episodes.
        seed: of prompts and actions.
        temperature: τ that it acts at, nats; 0 is greedy.

    Raises ValueError for an agent that acts by phrases.
    """
    world = World.of(config)
    replay = _empty(world, config, count)
    generator = torch.Generator().manual_seed(seed)
    tau = agent.policy_temperature(temperature)
    for first in range(0, count, _BLOCK):
        rows = min(_BLOCK, count - first)
        running = started(world, config, rows, seed + first)
        windows = running.observe()
        prompts = [window[window != Vocabulary.PAD] for window in windows]
        reader = agent.acting_reader([prompt.tolist() for prompt in prompts], config, tau == 0.0)
        if not reader.by_token:
            raise ValueError("episodes of an agent that acts by phrases are not written; use a run with phrases 0")
        tokens = np.zeros((rows, replay.tokens.shape[1]), np.int64)
        lengths = np.array([len(prompt) for prompt in prompts])
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        actions, rewards = np.zeros((rows, config.max_new_tokens), np.int64), np.zeros((rows, config.max_new_tokens))
        new, ended, active = np.zeros(rows, np.int64), np.zeros(rows, np.bool_), np.ones(rows, np.bool_)
        step = 0
        while active.any():
            values = reader.values(torch.from_numpy(running.action_masks())).cpu()
            chosen = choose_actions(values, tau, generator=generator)[0].numpy()
            reward, terminated, truncated, _ = running.step(chosen, active)
            appended = running.observe()[:, -1]
            actions[active, step], rewards[active, step] = chosen[active], reward[active]
            tokens[active, (lengths + step)[active]] = appended[active]
            new += active
            ended |= terminated
            active = active & ~(terminated | truncated)
            step += 1
            if active.any():
                reader.step(torch.from_numpy(appended))
        arrays = (tokens, actions, rewards.astype(np.float32), lengths, new, ended)
        replay.add(*(torch.from_numpy(array) for array in arrays))
    return replay


def write_dataset(name: str, replay: EpisodeReplay, config: EnvConfig, algorithm: str, description: str) -> Any:
    """Write episodes as a Minari data set on this machine.

    Every observation is the window that the environment shows, (L,) int64 left-padded with 0; actions are token ids.
    The environment's arguments stand in the data set's specification, so that `recover_environment` makes it again.

    Args:
        name: "NAME-v0", with the folders before it that Minari calls name spaces.
        replay: the episodes, of single tokens.
        config: the environment's arguments.
        algorithm: what wrote them.
        description: of the data set.

    Returns: the `minari.MinariDataset`.
    Raises ValueError for a name that Minari does not take or that exists, ImportError without the library.
    """
    minari = _library()
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a Minari data set; one ends in its version, as tokenlm/zh-v0 does")
    if name in minari.list_local_datasets():
        raise ValueError(f"the data set {name} exists; choose another name, or `minari delete {name}` first")
    world = World.of(config)
    spaces = {
        "observation_space": gym.spaces.Box(0, world.vocab_size - 1, (config.context_length,), np.int64),
        "action_space": gym.spaces.Discrete(world.vocab_size),
    }
    buffers, specification = list(_buffers(minari, replay, config)), _specification(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about authors and links that are not given
        try:
            return minari.create_dataset_from_buffers(
                name, buffers, env=specification, algorithm_name=algorithm, description=description, **spaces
            )
        except BaseException:
            if name in minari.list_local_datasets():
                minari.delete_dataset(name)  # a part of it
            raise


def read_dataset(name: str, config: EnvConfig, device: torch.device | str = "cpu") -> EpisodeReplay:
    """The episodes of a Minari data set that `write_dataset` or any other collector of this environment wrote.

    Args:
        name: of the data set, on this machine.
        config: the environment's arguments; its windows and vocabulary must be those of the data set.
        device: of the replay.

    Raises ValueError for a data set that is not there, or of another environment.
    """
    minari = _library()
    if name not in minari.list_local_datasets():
        raise ValueError(f"there is no data set {name} on this machine; `minari list local` shows those that are")
    dataset, world = minari.load_dataset(name), World.of(config)
    shape, size = dataset.observation_space.shape, getattr(dataset.action_space, "n", None)
    if shape != (config.context_length,) or size != world.vocab_size:
        raise ValueError(
            f"the data set {name} has windows of shape {shape} and {size} actions, and the environment windows of "
            f"({config.context_length},) and {world.vocab_size} actions; use the environment that it was written in"
        )
    replay = _empty(world, config, dataset.total_episodes, device)
    for episode in dataset.iterate_episodes():
        first = episode.observations[0]
        prompt, new = first[first != Vocabulary.PAD], episode.observations[1:, -1]
        count = len(episode.actions)
        if count > config.max_new_tokens:
            raise ValueError(f"{name} has an episode of {count} tokens, but max_new_tokens is {config.max_new_tokens}")
        tokens = np.zeros((1, replay.tokens.shape[1]), np.int64)
        tokens[0, : len(prompt)], tokens[0, len(prompt) : len(prompt) + count] = prompt, new
        actions, rewards = (np.zeros((1, config.max_new_tokens)) for _ in range(2))
        actions[0, :count], rewards[0, :count] = episode.actions, np.reshape(episode.rewards, -1)
        numbers = [torch.tensor([value]) for value in (len(prompt), count, bool(episode.terminations[-1]))]
        replay.add(torch.from_numpy(tokens), torch.from_numpy(actions), torch.from_numpy(rewards), *numbers)
    return replay


def _empty(world: World, config: EnvConfig, count: int, device: torch.device | str = "cpu") -> EpisodeReplay:
    keeps_actions = config.transition == "teacher"
    sizes = (count, config.context_length, config.max_new_tokens, world.vocab_size)
    return EpisodeReplay(*sizes, keeps_actions=keeps_actions, device=device)


def _buffers(minari: Any, replay: EpisodeReplay, config: EnvConfig) -> Iterator[Any]:
    """The episodes of a replay as Minari's buffers."""
    for row in range(len(replay)):
        batch = replay.rows(torch.tensor([row]))
        is_action = batch.is_action[0]
        actions, rewards = batch.actions[0][is_action], batch.rewards[0][is_action]
        first, count = int(is_action.nonzero()[0]), int(is_action.sum())
        columns = np.arange(first, first + count + 1)
        terminated = np.zeros(count, np.bool_)
        terminated[-1] = bool(replay.terminated[row])
        yield minari.data_collector.EpisodeBuffer(
            id=row,
            observations=windows_at(_plain(batch.tokens), np.zeros_like(columns), columns, config.context_length),
            actions=_plain(actions),
            rewards=_plain(rewards).astype(np.float64),
            terminations=terminated,
            truncations=(np.arange(count) == count - 1) & ~terminated,
            infos={},
        )


def _plain(values: Tensor) -> Any:
    return values.cpu().numpy()


def _specification(config: EnvConfig) -> Any:
    """The environment's specification, with those arguments that are not the defaults."""
    arguments = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value != default:
            is_part = dataclasses.is_dataclass(value) and not isinstance(value, type)
            arguments[field.name] = dataclasses.asdict(value) if is_part else value
    try:
        arguments = json.loads(json.dumps(arguments))
    except TypeError:
        raise ValueError(
            "the environment has arguments that only Python knows, such as texts or an object as its target; give the "
            "corpus as a file and the target by name"
        ) from None
    return dataclasses.replace(gym.spec(_ID), kwargs={**gym.spec(_ID).kwargs, **arguments}, max_episode_steps=None)


def _library() -> Any:
    try:
        import minari
        import minari.data_collector
    except ImportError:
        raise ImportError('Minari data sets need the library minari; pip install "tokenlm[minari]"') from None
    return minari
