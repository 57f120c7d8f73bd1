"""Going on with a finished run: its weights, with learning rate, exploration and temperature as they ended."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from ...envs.text.files import read_json
from ...envs.text.yaml_files import read_mapping
from .config import RunConfig, plain, run_config_of
from .folder import CONFIG, SUMMARY

_SCHEDULES = ("learning_rate", "epsilon", "temperature")  # of the agent
_LONGER = ("name", "output", "total_steps", "max_seconds", "continues", "checkpoint_seconds", "samples")


def going_on(config: RunConfig, folder: Path) -> RunConfig:
    """The settings of a run that goes on with the finished one in `folder`, beside it.

    Schedules keep the values that they ended with: begun anew, a high learning rate would spoil what was learned.

    Args:
        config: the settings of the run in `folder`, with more steps.
        folder: of the finished run.
    """
    if config.algorithm != "dqn":
        raise ValueError(f"a run of {config.algorithm} cannot be continued; only those of dqn can")
    settings = config.agent
    known = {name: getattr(settings, name) for name in _SCHEDULES}
    ends = {name: schedule.end for name, schedule in known.items() if schedule is not None}
    agent = dataclasses.replace(settings, **ends)
    return dataclasses.replace(placed(config, folder), agent=agent, max_seconds=None, continues=str(folder.absolute()))


def placed(config: RunConfig, folder: Path) -> RunConfig:
    """The settings of the run in `folder` with the place where it lies now; it may have been moved or renamed."""
    own = folder.name == config.name or re.fullmatch(rf"{re.escape(config.name)}-\d+", folder.name)
    return dataclasses.replace(config, output=str(folder.parent), name=config.name if own else folder.name)


def check_longer(config: RunConfig, folder: Path) -> RunConfig:
    """`config`, which goes on with the run in `folder`; ValueError where that has made as many steps already."""
    made = steps_made(folder)
    if config.total_steps <= made:
        raise ValueError(
            f"{folder} is finished after {made:,} steps; say how far it is to go in all, --total_steps {2 * made:_}"
        )
    return config


def settings_of(folder: Path) -> RunConfig:
    """The settings of the run in a folder; FileNotFoundError where this is no run folder."""
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no run folder (no {CONFIG}); give one that `tokenlm train` wrote")
    return run_config_of(read_mapping(folder / CONFIG), str(folder / CONFIG), trust=True)


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder has come to its end."""
    return (folder / SUMMARY).is_file()


def steps_made(folder: Path) -> int:
    """Environment steps of the run in a folder."""
    saved = read_json(folder / "agent.json")
    return int(saved["num_steps"]) if isinstance(saved, dict) and isinstance(saved.get("num_steps"), int) else 0


def finished_run_of(config: RunConfig) -> Path:
    """The longest finished run whose settings are those of `config`, but for its length and schedules.

    Raises FileNotFoundError where there is none.
    """
    base = Path(config.output) / config.name
    found = [path for path in (base, *base.parent.glob(f"{base.name}-*")) if is_finished(path)]
    same = [path for path in found if _trained(_saved(path)) == _trained(plain(config))]
    if not same:
        raise FileNotFoundError(
            f"no run with these settings is finished at {base}; name it: --continue RUN (`tokenlm runs` lists them)"
        )
    return max(same, key=steps_made)


def _saved(folder: Path) -> dict[str, Any]:
    try:
        return read_mapping(folder / CONFIG)
    except (OSError, ValueError):
        return {}


def _trained(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in _LONGER}
    agent = kept.get("agent")
    if isinstance(agent, dict):
        kept["agent"] = {name: value for name, value in agent.items() if name not in _SCHEDULES}
    return kept


def place_notice(config: RunConfig, folder: Path) -> str:
    """Why a run goes to `folder`, which is not the one that its name says; empty where it is."""
    base = Path(config.output) / config.name
    if folder == base or config.continues is not None:
        return ""
    same = [path for path in _numbered(base, folder) if _whole(_saved(path)) == _whole(plain(config))]
    if finished := [path for path in same if is_finished(path)]:
        return (
            f"{finished[-1]} is finished, so this is a new run, {folder}; to go on with that one give --continue and "
            "more --total_steps"
        )
    if same:
        return f"{same[-1]} has a saved agent but no {SUMMARY}; it is left as it is, and this run goes to {folder}"
    return f"{base} is a run with other settings; this one goes to {folder}"


def _numbered(base: Path, before: Path) -> list[Path]:
    """The folders of a name, up to the one before `before`."""
    found = [base]
    while (path := base.with_name(f"{base.name}-{len(found) + 1}")) != before:
        found.append(path)
    return found


def _whole(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in ("output", "name", "checkpoint_seconds")}
