"""Whether a trial is long enough for a learner with a target network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..search.space import Choices, Space

LEAST_UPDATES = 10  # of the target network in a trial: with fewer a search sees nothing of what bootstrapping does

# Settings that decide how often the target network is copied, with the libraries' defaults, and whether the interval is
# counted in environment steps (stable-baselines3) or in updates.
_INTERVAL = "target_update_interval"
_BY_STEPS = {_INTERVAL: 10_000, "learning_starts": 100}
_BY_UPDATES = {_INTERVAL: 100, "learning_starts": 1_000, "updates_per_step": 1, "num_envs": 16}
_DEFAULTS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("sb3-dqn", "sb3-qrdqn"), _BY_STEPS),
    **dict.fromkeys(("tianshou-dqn", "tianshou-rainbow", "torchrl-dqn"), _BY_UPDATES),
}


def target_updates(algorithm: str, settings: Mapping[str, Any], steps: int) -> float | None:
    """Copies into the target network in `steps` environment steps; None for an algorithm whose interval is not known.

    Args:
        algorithm: its name.
        settings: of the algorithm.
        steps: environment steps.
    """
    if algorithm not in _DEFAULTS:
        return None
    chosen = {name: settings.get(name, default) for name, default in _DEFAULTS[algorithm].items()}
    learning = max(0, steps - chosen["learning_starts"])
    if "updates_per_step" in chosen:
        learning = learning * chosen["updates_per_step"] / chosen["num_envs"]
    return float(learning / chosen[_INTERVAL])


def check_target_updates(name: str, algorithm: str, settings: Mapping[str, Any], space: Space, steps: int) -> None:
    """Raise ValueError where a trial may have fewer than ten updates of the target network.

    Args:
        name: of the entry.
        algorithm: its name.
        settings: the entry's own.
        space: what is searched; the worst choice of each setting counts.
        steps: environment steps of a trial.
    """
    slowest = dict(settings)
    for setting, part in space.parts.items():
        values = part.values if isinstance(part, Choices) else (part.low, part.high)
        if setting in _DEFAULTS.get(algorithm, ()):
            slowest[setting] = min(values) if setting == "updates_per_step" else max(values)
    found = target_updates(algorithm, slowest, steps)
    if found is not None and found < LEAST_UPDATES:
        raise ValueError(
            f"a trial of {name} has {steps:,} environment steps, in which its target network may be copied only "
            f"{int(found)} times, fewer than {LEAST_UPDATES}; search a smaller target_update_interval, or race longer"
        )
