"""What lies in a run folder in place of a file: a pipe is not waited for, a folder not removed."""

import dataclasses
import json
import os

import pytest

from tokenlm.agents import RunConfig
from tokenlm.agents.runs.checkpoints import Checkpoints, read_tensors, write_tensors
from tokenlm.agents.runs.folder import RunFolder
from tokenlm.agents.runs.listing import read_run

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as files")
NAME = "state-000007-0123456789abcdef.pt"
THINGS = {"pipe": os.mkfifo, "folder": lambda path: path.mkdir()} if hasattr(os, "mkfifo") else {}


@pytest.mark.parametrize("thing", THINGS)
def test_a_checkpoint_that_is_no_file_is_named_and_left(thing, tmp_path):
    THINGS[thing](tmp_path / NAME)
    checkpoints = Checkpoints(tmp_path)
    sentence = f"{tmp_path / NAME} is not a regular file, so it is no checkpoint"
    assert checkpoints.load() == (None, [sentence])
    checkpoints.save({"a": 1})
    checkpoints.save({"a": 2})
    assert checkpoints.load() == ({"a": 2}, [sentence])
    assert (tmp_path / NAME).exists()


def test_a_checkpoint_without_names_is_damaged(tmp_path):
    write_tensors(tmp_path / "a.pt", [1, 2])
    with pytest.raises(ValueError, match="holds no state by name"):
        read_tensors(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"a\.pt cannot be read"):
        read_tensors(tmp_path / "a.pt")


def test_an_owner_that_is_a_pipe_is_not_waited_for(tmp_path):
    config = dataclasses.replace(RunConfig(), output=str(tmp_path), name="run")
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / ".owner")
    folder = RunFolder(config)
    assert folder._owner() == "unknown"
    with folder.held():
        assert (folder.path / ".owner").read_text(encoding="ascii") == str(os.getpid())


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", ["results.jsonl", "summary.json"])
def test_figures_that_are_no_file_are_damage(name, thing, tmp_path):
    (tmp_path / "config.yaml").write_text("name: x\n", encoding="utf-8")
    (tmp_path / "summary.json").write_text(json.dumps({}), encoding="utf-8")
    (tmp_path / name).unlink(missing_ok=True)
    THINGS[thing](tmp_path / name)
    run = read_run(tmp_path)
    assert run.state == "damaged"
    assert str(tmp_path / name) in run.damage
