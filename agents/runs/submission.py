"""Submitted policies: a folder of runs, one for each world, or one with submission.yaml and a policy of one's own."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym

from ...envs import EnvConfig, nearest
from ...envs.arguments import check_settings, make_settings, refuse_code
from ...envs.targets.registry import SAMPLES_DOCUMENTS
from ...envs.text.yaml_files import read_mapping
from ..protocol import Agent
from .algorithms import algorithm, check_algorithm, make
from .config import RunConfig, run_config_of
from .folder import CONFIG
from .listing import find_runs, read_run
from .race.config import EntryConfig
from .search.config import settings_of
from .training import load_run

FILE = "submission.yaml"
RACED = range(10)  # target seeds of the racing worlds; tuning worlds begin at 100
EPISODES = 256
_PREFIX = "TokenLM"  # of our ids


@dataclass(frozen=True)
class SubmissionConfig:
    """The file submission.yaml.

    Args:
        id: a registered id.
        policy: "module:Class" of an `Agent` in a module beside the file, or the name of an algorithm that has nothing
            to learn. It is made as `Class(env_config, seed=0, device=…, **settings)`, once for each world.
        worlds: target seeds of the worlds that it is submitted for, 0 to 9.
        settings: of the policy.
        source: what it has learned from: "rewards", "corpus" (and rewards) or "p*"; stated, not checked.
    """

    id: str
    policy: str
    worlds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)
    source: Literal["rewards", "corpus", "p*"] = "rewards"

    def __post_init__(self) -> None:
        """Raise ValueError for values that cannot work."""
        check_settings(self)
        check_algorithm(self.policy)
        known = [name for name in gym.registry if name.startswith(_PREFIX)]
        if self.id not in known:
            raise ValueError(f"the id {self.id!r} is unknown{nearest(self.id, known)}")
        if not self.worlds:
            raise ValueError("worlds must name at least one target seed, as [0, 1, 2, 3, 4]")


@dataclass(frozen=True)
class Submitted:
    """A policy for one world.

    Args:
        env: the world's arguments.
        policy: what it is, in JSON values: the same in all worlds.
        source: what it has learned from, as of `EntryConfig.source`.
        load: loads or makes the policy; ValueError where that is not possible.
        summary: what the folder says of it; empty without.
        episodes: texts that the figures of the summary come from.
        seed: of their prompts.
    """

    env: EnvConfig
    policy: dict[str, Any]
    source: str
    load: Callable[[], Agent]
    summary: dict[str, Any] = field(default_factory=dict)
    episodes: int = EPISODES
    seed: int = 0

    @property
    def world(self) -> int:
        """Its target seed."""
        return self.env.target_seed


def read_submission(folder: str | Path, device: str = "auto", trust: bool = False) -> list[Submitted]:
    """The policies of a submission, by world.

    Args:
        folder: with submission.yaml; else one run, or several below it.
        device: "auto", "cpu", "cuda" or "mps".
        trust: import code that the folder names, and read files that were changed since they were saved.

    Raises FileNotFoundError where there is neither; ValueError for code without `trust`, for worlds that are no racing
    worlds, and for runs that differ in more than the world.
    """
    folder = Path(folder)
    if trust and str(folder.absolute()) not in sys.path:  # its module lies there
        sys.path.append(str(folder.absolute()))
    if (folder / FILE).is_file():
        found = _of_file(folder, device, trust)
    else:
        paths = [folder] if (folder / CONFIG).is_file() else [run.folder for run in find_runs(folder)]
        found = [_of_run(path, device, trust) for path in paths]
    found.sort(key=lambda each: each.world)
    _check(found, folder)
    return found


def id_of(env: EnvConfig) -> str:
    """The registered id with these arguments, whatever its world, split and masks; empty where there is none."""
    for name, spec in gym.registry.items():
        if name.startswith(_PREFIX) and _plain(EnvConfig.of(None, spec.kwargs)) == _plain(env):
            return name
    return ""


def _plain(env: EnvConfig) -> EnvConfig:
    return dataclasses.replace(env, target_seed=0, split="train", invalid_action="raise", mask_in_info=False)


def _of_run(path: Path, device: str, trust: bool) -> Submitted:
    config = run_config_of(read_mapping(path / CONFIG), str(path / CONFIG), trust)
    policy = {"policy": config.algorithm, "settings": settings_of(config), "total_steps": config.total_steps}
    source, found = EntryConfig(config.algorithm, settings_of(config)).source, read_run(path)
    if found.damage:
        raise ValueError(found.damage)

    def load() -> Agent:
        return _policy_of_run(path, config, device, trust)

    return Submitted(config.env, policy, source, load, found.summary, config.evaluation_episodes, config.seed)


def _policy_of_run(path: Path, config: RunConfig, device: str, trust: bool) -> Agent:
    if ":" in config.algorithm and not hasattr(algorithm(config.algorithm), "load"):
        return make(config.algorithm, config.env, config.seed, device, **config.algorithm_settings)
    agent: Agent = load_run(path, device, trust=trust)[0]
    return agent


def _of_file(folder: Path, device: str, trust: bool) -> list[Submitted]:
    path = folder / FILE
    config = make_settings(SubmissionConfig, read_mapping(path), str(path))
    if not trust:
        refuse_code({"policy": config.policy}, str(path))
    env, policy = EnvConfig.of(None, gym.spec(config.id).kwargs), {"policy": config.policy, "settings": config.settings}

    def of_world(world: int) -> Submitted:
        there = dataclasses.replace(env, target_seed=world)
        return Submitted(there, policy, config.source, lambda: make(config.policy, there, 0, device, **config.settings))

    return [of_world(world) for world in config.worlds]


def _check(found: list[Submitted], folder: Path) -> None:
    worlds = [each.world for each in found]
    drawn = found[0].env.target in SAMPLES_DOCUMENTS
    if drawn and (wrong := [world for world in worlds if world not in RACED]):
        raise ValueError(
            f"{folder} has the world of target seed {wrong[0]}, which is not raced; racing worlds are {RACED[0]} to "
            f"{RACED[-1]}, others are for tuning"
        )
    if len(set(worlds)) < len(worlds):
        twice = next(world for world in worlds if worlds.count(world) > 1)
        raise ValueError(f"{folder} has several policies for the world {twice}; submit one for each")
    for each in found[1:]:
        if (_plain(each.env), each.policy) != (_plain(found[0].env), found[0].policy):
            raise ValueError(
                f"the runs of the worlds {worlds[0]} and {each.world} in {folder} differ in more than world and seed; "
                "submit one algorithm with one set of settings"
            )
