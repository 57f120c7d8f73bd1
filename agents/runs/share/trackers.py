"""A run's figures for W&B, SwanLab or MLflow, offline unless their own settings say otherwise."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from ....envs.text import write_json
from ....envs.text.files import read_json

TrackerName = Literal["wandb", "swanlab", "mlflow"]
_IDENTITY = "track.json"  # which of the tracker's runs this one is, so that a run that goes on goes on there too
_PROJECT = "tokenlm"


class Tracker(Protocol):
    """Where the figures of a run go."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add numbers by name at an environment step."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


class WandB:
    """Weights & Biases. Offline, into the folder `wandb`, unless WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), name=name, config=settings, dir=str(folder),
            mode=cast(Any, os.environ.get("WANDB_MODE", "offline")), id=_identity(folder), resume="allow",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, disable_git=True),
        )  # fmt: skip

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class SwanLab:
    """SwanLab. Into the folder `swanlab` alone, unless SWANLAB_MODE says otherwise."""

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        import swanlab

        self._library = swanlab
        (folder / "swanlab").mkdir(exist_ok=True)
        swanlab.init(
            project=os.environ.get("SWANLAB_PROJECT", _PROJECT), experiment_name=name, config=settings,
            logdir=str(folder / "swanlab"), mode=os.environ.get("SWANLAB_MODE", "offline"),
        )  # fmt: skip

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._library.log(dict(values), step=step)

    def finish(self) -> None:
        """See `Tracker`."""
        self._library.finish()


class MLflow:
    """MLflow. Into the database mlflow.db of the run's folder, unless MLFLOW_TRACKING_URI says otherwise."""

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        self._client = MlflowClient(tracking_uri=place)
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        identity = _identity(folder)
        found = self._client.search_runs([number], f"tags.tokenlm = '{identity}'")
        self._run = (
            found[0] if found else self._client.create_run(number, run_name=name, tags={"tokenlm": identity})
        ).info
        if not found:
            for key, value in settings.items():
                self._client.log_param(self._run.run_id, key, value)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._client.log_metric(self._run.run_id, name, value, step=step)

    def finish(self) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run.run_id)


TRACKERS: dict[str, Callable[[Path, str, dict[str, Any]], Tracker]] = {
    "wandb": WandB,
    "swanlab": SwanLab,
    "mlflow": MLflow,
}


@contextmanager
def tracked(
    name: TrackerName | None, folder: Path, run: str, settings: dict[str, Any], say: Callable[[str], None]
) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """What takes the figures of a run: values by name and the step; with no name it takes none.

    Args:
        name: of the tracker; None for none.
        folder: of the run.
        run: its name.
        settings: of the run, with dots in their names.
        say: says a sentence. A tracker that fails while the run goes on ends with one, and the run goes on.

    Raises ImportError without the library, ValueError where the tracker cannot begin.
    """
    if name is None:
        yield lambda values, step: None
        return
    try:
        with _without_warnings():
            tracker: Tracker | None = TRACKERS[name](folder, run, settings)
    except ImportError:
        raise ImportError(f'--track {name} needs the library {name}; pip install "tokenlm[{name}]"') from None
    except Exception as problem:  # whatever these libraries raise
        raise ValueError(f"{name} cannot begin: {_first_line(problem)}") from None

    def give_up(problem: Exception) -> None:
        nonlocal tracker
        tracker = None
        say(f"{name} takes no more figures ({_first_line(problem)}); the run goes on without it")

    def add(values: Mapping[str, Any], step: int) -> None:
        try:
            if tracker is not None:
                with _without_warnings():
                    tracker.add(numbers_of(values), step)
        except Exception as problem:  # a server that does not answer must not end a training
            give_up(problem)

    try:
        yield add
    finally:
        try:
            if tracker is not None:
                with _without_warnings():
                    tracker.finish()
        except Exception as problem:
            give_up(problem)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings inside: those of a tracker about its own libraries help nobody here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among values by name."""
    return {k: v for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _identity(folder: Path) -> str:
    path = folder / _IDENTITY
    if not path.exists():
        write_json(path, {"id": uuid.uuid4().hex[:16]})
    return str(read_json(path)["id"])


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
