"""Studies of Optuna: one sampler, one pruner and one way to go on for `tokenlm tune` and for races."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .space import Space

REASON = "reason"  # attribute of a trial that failed by its settings: why. One whose process was killed has none
JUDGED_BY = "judged_by"  # attribute of a complete trial: its figure, and whether less of it is better
_OF = "of"  # attribute of a study: what it searches


def new_study(
    space: Space, first: Mapping[str, Any], trials: int, path: Path | None = None, prunes: bool = False
) -> Any:
    """A study that maximises, with a tree-structured Parzen estimator (Bergstra et al. 2011).

    Args:
        space: what is searched.
        first: settings to begin with, as far as the space holds them.
        trials: how many there will be; the first third, at most ten, is drawn at random.
        path: SQLite file that keeps the study; an existing one is taken up. None: in memory.
        prunes: end a trial early that is worse than the median of the others at the same evaluation.

    Raises ImportError without Optuna.
    """
    optuna = load_optuna()
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2) if prunes else optuna.pruners.NopPruner()
    storage = None
    if path is not None:
        patient = {"connect_args": {"timeout": 120}}  # seconds; workers write to one file
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=patient)
    study = optuna.create_study(
        storage=storage, pruner=pruner, study_name="search", direction="maximize", load_if_exists=True
    )
    study.sampler = _sampler(trials, 0)
    if not study.trials and (known := space.stored(first)):
        study.enqueue_trial(known)
    return study


def ask(study: Any, space: Space, trials: int, seed: Sequence[int] = (0,)) -> tuple[Any, dict[str, Any]]:
    """A new trial of a study and its settings.

    They depend on `seed`, on the number of trials so far and on their results, not on the process: a search that goes
    on after a stop does not draw the same settings again.

    Args:
        study: see `new_study`.
        space: what is searched.
        trials: as given to `new_study`.
        seed: of what is drawn; workers side by side need different ones.
    """
    study.sampler = _sampler(trials, int(np.random.SeedSequence([*seed, len(study.trials)]).generate_state(1)[0]))
    trial = study.ask()
    return trial, space.suggest(trial)


def finished(study: Any) -> int:
    """Trials that count: complete, pruned, or failed by their own settings."""
    states = load_optuna().trial.TrialState
    counting = (states.COMPLETE, states.PRUNED)
    return sum(t.state in counting or (t.state == states.FAIL and REASON in t.user_attrs) for t in study.trials)


def fail_killed(study: Any) -> int:
    """Fail the trials that a killed process left running, and let their settings be tried again; how many."""
    states = load_optuna().trial.TrialState
    left = [trial for trial in study.trials if trial.state == states.RUNNING]
    for trial in left:
        study.tell(trial.number, state=states.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
    return len(left)


def check_same(study: Any, what: Mapping[str, Any], folder: Path) -> None:
    """Note what a study searches; ValueError where it is another search than the one that was begun."""
    wanted = json.loads(json.dumps(what))
    before = study.user_attrs.get(_OF)
    if before is None:
        study.set_user_attr(_OF, wanted)
    elif before != wanted:
        different = [name for name in wanted if before.get(name) != wanted[name]]
        raise ValueError(
            f"{folder} holds a search with another {', '.join(different)}; give the same to go on, choose another "
            "--name, or remove the folder"
        )


def load_optuna() -> Any:
    """The library, which is optional."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ImportError('a search of settings needs the library optuna; pip install "tokenlm[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(trials: int, seed: int) -> Any:
    return load_optuna().samplers.TPESampler(n_startup_trials=max(2, min(10, trials // 3)), seed=seed)
