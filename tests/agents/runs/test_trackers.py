"""Figures of a run in CSV, W&B, SwanLab and MLflow, all offline; a tracker that fails ends no run."""

import csv
import json
import socket

import pytest

from tokenlm.agents import RunConfig
from tokenlm.agents.runs.share import trackers
from tokenlm.agents.runs.table import comma_separated
from tokenlm.cli import main


@pytest.fixture
def train(config, tmp_path, monkeypatch, capsys):
    """Trains with a tracker, in a folder of its own and without any network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "SWANLAB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*address):
        raise AssertionError(f"a connection to {address} was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    said = []

    def run(*words):
        """The folder of the run."""
        main(["train", config, "--output", str(tmp_path), *words])
        said.append(capsys.readouterr().out)
        return tmp_path / "run"

    run.said = said
    return run


def rows_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_csv_has_every_figure_of_the_json_lines(train):
    folder = train()
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = rows_of(folder)
    assert len(table) == len(rows) == 3
    for line, row in zip(table, rows, strict=True):
        assert {name: value for name, value in line.items() if value} == {
            name: str(value) for name, value in row.items() if value is not None
        }
    assert comma_separated([{"a": 1}, {"b": "x,y", "a": None}]) == 'a,b\n1,\n,"x,y"\n'


def test_mlflow_keeps_the_figures_in_a_file(train):
    mlflow = pytest.importorskip("mlflow")
    folder = train("--track", "mlflow")
    assert "takes no more figures" not in train.said[0]
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("tokenlm").experiment_id])
    found = client.get_metric_history(run.info.run_id, "sampled_return")
    rows = rows_of(folder)
    assert [(point.step, point.value) for point in found] == [(row["num_steps"], row["sampled_return"]) for row in rows]
    assert run.data.params["agent.network.hidden_size"] == "4"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert run.data.metrics["test/greedy_return"] == summary["greedy_return"]
    assert run.info.status == "FINISHED"


def test_wandb_keeps_the_figures_offline(train):
    wandb = pytest.importorskip("wandb")
    folder = train("--track", "wandb")
    assert "takes no more figures" not in train.said[0]
    wandb.teardown()  # as at the end of a process: until its service has written everything
    (log,) = [path.read_bytes() for path in folder.rglob("*.wandb")]
    for row in rows_of(folder):
        assert json.dumps(row["sampled_return"]).encode() in log


def test_swanlab_keeps_the_figures_offline(train):
    pytest.importorskip("swanlab")
    folder = train("--track", "swanlab")
    assert "takes no more figures" not in train.said[0]
    logs = [path.read_bytes() for path in (folder / "swanlab").rglob("*") if path.is_file()]
    assert any(b"sampled_return" in log for log in logs)


def test_a_tracker_that_fails_ends_no_run(train, monkeypatch):
    class Failing:
        def __init__(self, folder, name, settings):
            assert settings["agent.network.name"] == "lstm"

        def add(self, values, step):
            assert all(isinstance(value, int | float) for value in values.values())
            raise ConnectionError("the server is away")

        def finish(self):
            raise AssertionError("it has failed before")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Failing)
    folder = train("--track", "wandb")
    assert (folder / "summary.json").exists()
    assert "wandb takes no more figures (the server is away)" in train.said[0]


def test_a_tracker_that_is_not_there_is_named_with_its_extra(train, monkeypatch, capsys):
    def missing(*_):
        raise ImportError("swanlab")

    monkeypatch.setitem(trackers.TRACKERS, "swanlab", missing)
    with pytest.raises(SystemExit):
        train("--track", "swanlab")
    assert 'pip install "tokenlm[swanlab]"' in capsys.readouterr().err
    with pytest.raises(ValueError, match="track 'board' is unknown; use one of wandb, swanlab, mlflow"):
        RunConfig(track="board")
    with pytest.raises(SystemExit):
        train("--track", "board")
    assert "track" in capsys.readouterr().err
