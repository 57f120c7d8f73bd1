"""The runs below a folder: how far they are, what they reached, what differs between their settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...envs.text.digests import check_figures
from ...envs.text.opening import parse_json
from ...envs.text.reading import read_lines
from ...envs.text.yaml_files import read_mapping
from .checked import SCHEDULE, check_run_settings, read_summary
from .folder import CONFIG, RESULTS, SUMMARY
from .report import shown
from .table import table

_INSIDE = ("best", "maximum-likelihood", "tokenizer", "tensorboard", "pretrained")  # folders of a run
# Settings that train the same.
_PLACE = ("name", "output", "checkpoint_seconds", "device", "threads", "samples", "track")
_MOST = 4  # differing settings that a line shows


@dataclass(frozen=True)
class FoundRun:
    """What the files of a run say.

    Args:
        folder: of the run.
        settings: with dots in their names; a schedule is one.
        rows: its evaluations.
        summary: its final figures; empty while it is unfinished.
        damage: why its files cannot be read; empty where they can.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    damage: str = ""

    @property
    def state(self) -> str:
        """Finished, or how far it is."""
        if self.damage:
            return "damaged"
        if self.summary:
            return "finished"
        done = (self.rows[-1].get("num_steps") if self.rows else None) or 0
        return f"unfinished at {done:,} of {self.settings.get('total_steps', 0):,} steps"

    def figure(self, name: str) -> Any:
        """A figure of the summary, or of the newest evaluation where the run is unfinished; None without."""
        known = self.summary or (self.rows[-1] if self.rows else {})
        return known.get(name)


def find_runs(folder: str | Path) -> list[FoundRun]:
    """The runs below a folder, by name; FileNotFoundError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}; `tokenlm train` makes runs/")
    found = [read_run(path) for path in sorted(_folders(folder))]
    if not found:
        raise FileNotFoundError(f"there is no run below {folder}; `tokenlm train quickstart` makes one in runs/")
    return found


def read_run(folder: str | Path) -> FoundRun:
    """What the files of one run say; FileNotFoundError where this is no run folder."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no run folder (no {CONFIG}); give one that `tokenlm train` wrote")
    try:
        settings = flat(read_mapping(folder / CONFIG))
        check_run_settings(settings, folder / CONFIG)
        check_figures(folder)
        rows = read_rows(folder / RESULTS) if (folder / RESULTS).exists() else []
        summary = read_summary(folder / SUMMARY) if (folder / SUMMARY).exists() else {}
    except (OSError, ValueError) as problem:
        return FoundRun(folder, {}, [], {}, str(problem))
    return FoundRun(folder, settings, rows, summary)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Evaluations, a line each; ValueError, naming the line, for one that is no JSON object of numbers."""
    rows = []
    for number, line in enumerate(read_lines(path, "json_bytes"), 1):
        row = parse_json(line, f"line {number} of {path}")
        if not isinstance(row, dict) or not all(isinstance(v, (int, float, type(None))) for v in row.values()):
            raise ValueError(f"line {number} of {path} holds no numbers by name; restore it from a copy")
        rows.append(row)
    return rows


def read_runs(folders: Sequence[str]) -> list[FoundRun]:
    """What the files of several runs say; as `read_run`, and ValueError where one cannot be read."""
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.damage:
            raise ValueError(run.damage)
    return runs


def without_evaluations(runs: Sequence[FoundRun]) -> list[str]:
    """A sentence for each run that has no evaluation, so that nothing of it can be drawn."""
    why = {True: f"no line in {RESULTS}", False: f"no {RESULTS}"}
    return [
        f"{run.folder} has {why[(run.folder / RESULTS).exists()]}, so there are no curves of it"
        for run in runs
        if not run.rows
    ]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dots in their names; a schedule stays one value."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value and set(value) != SCHEDULE:
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def differing(runs: Sequence[FoundRun]) -> list[str]:
    """Names of the settings that are not the same in all runs that can be read, in the order of config.yaml."""
    whole = [run for run in runs if not run.damage]
    names = dict.fromkeys(name for run in whole for name in run.settings if name not in _PLACE)
    return [name for name in names if len({setting(run.settings.get(name)) for run in whole}) > 1]


def setting(value: Any) -> str:
    """A setting in a few letters: `4e-3→1e-4` for a schedule."""
    if isinstance(value, dict) and set(value) == SCHEDULE:
        start, end = setting(value["start"]), setting(value["end"])
        until = "" if value["share"] == 1.0 else f" in {value['share']:g}"
        shape = "" if value["shape"] == "linear" else f" {value['shape']}"
        return start if start == end else f"{start}→{end}{until}{shape}"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def runs_table(runs: Sequence[FoundRun], below: Path) -> list[str]:
    """The table that `tokenlm runs` prints."""
    names = differing(runs)
    rows: list[tuple[str, ...]] = [("run", "state", "score", "regret", "perplexity", "p*", "seconds", "what differs")]
    for run in runs:
        figures = [_short(run.figure(name)) for name in _FIGURES]
        rows.append((str(run.folder.relative_to(below)), run.state, *figures, run.damage or _differences(run, names)))
    return table(rows, right=range(2, 2 + len(_FIGURES)))


_FIGURES = ("normalized_score", "regret", "perplexity", "target_perplexity", "wall_seconds")


def plain_run(run: FoundRun, names: Sequence[str]) -> dict[str, Any]:
    """A run as JSON values."""
    figures = {name: run.figure(name) for name in _FIGURES}
    settings = {name: run.settings[name] for name in names if name in run.settings}
    damage = {"damage": run.damage} if run.damage else {}
    return {"run": str(run.folder), "state": run.state, **damage, **figures, "differs": settings}


def _differences(run: FoundRun, names: Sequence[str]) -> str:
    own = [f"{name} {setting(run.settings[name])}" for name in names if name in run.settings]
    more = f", and {len(own) - _MOST} more" if len(own) > _MOST else ""
    return ", ".join(own[:_MOST]) + more


def _short(value: Any) -> str:
    return shown(value) if not isinstance(value, float) or abs(value) < 1_000 else f"{value:,.0f}"


def _folders(folder: Path) -> Iterator[Path]:
    """Folders of runs, without looking into them."""
    if (folder / CONFIG).is_file():
        yield folder
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in _INSIDE and not path.name.startswith("."):
            yield from _folders(path)
