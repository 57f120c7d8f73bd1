"""Several processes that train one network: gradients of all batches together, one result for one seed, one who writes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokenlm.agents.dqn.ranks import Ranks, ranks
from tokenlm.agents.runs.checkpoints import Checkpoints
from tokenlm.agents.runs.ranks import joined
from tokenlm.parsing import parse_run

QUIET = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_two_processes_train_one_network():
    """Gradients of unequal batches are those of one process with both; runs repeat, continue, go on alone or with
    one more; one that is killed is noticed by the other."""
    script = Path(__file__).with_name("two_ranks.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=QUIET)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "gradients", "same weights", "continues", "continues alone", "continues with one more",
    ]  # fmt: skip


def test_one_process_has_no_others(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks() is None
    with joined(parse_run(["quickstart"])) as group:
        assert group is None


def test_what_several_processes_cannot_train_is_said_before_they_join(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ValueError, match="algorithm dqn, not sb3-ppo"),
        joined(parse_run(["quickstart", "--algorithm", "sb3-ppo"])),
    ):
        pass


def test_rows_of_embeddings_are_not_averaged(tiny):
    from tokenlm.agents import DQN
    from tokenlm.agents.dqn.learner import Learner

    agent = DQN(tiny, optimizer="sparse_adam")
    with pytest.raises(ValueError, match="sparse_adam cannot average"):
        Learner(agent.network, agent.config, agent.valid_actions, ranks=Ranks(0, 2))


def started(folder, processes, *words):
    """A run of a minute and more, by torchrun."""
    run = ["-m", "tokenlm", "train", "quickstart", "--name", "run", "--output", str(folder), "--baseline_seconds", "0"]
    few = ["--evaluations", "2", "--evaluation_documents", "5", "--evaluation_episodes", "4", "--samples", "1"]
    small = ["--agent.num_envs", "16", "--device", "cpu", "--checkpoint_seconds", "0"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, "--max-restarts", "1", *run, *few, *small, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=QUIET,
    )  # fmt: skip


def child_of(launcher, rank):
    """The process id of a rank."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "environ").read_bytes().split(b"\0")
            parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == launcher.pid and f"RANK={rank}".encode() in words:
            return int(place.name)
    raise AssertionError("no such rank")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for the process in /proc")
def test_a_rank_that_dies_stops_the_others_and_the_restart_goes_on(tmp_path):
    launcher = started(tmp_path, 2, "--total_steps", "1024")
    checkpoints = Checkpoints(tmp_path / "run")
    while len(list((tmp_path / "run").glob("state-*.pt"))) < 2:
        time.sleep(0.2)
        assert launcher.poll() is None, launcher.stdout.read()
    os.kill(child_of(launcher, 1), signal.SIGKILL)
    out, _ = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, out
    assert "rank 0 of 2 has lost another one" in out or "SIGKILL" in out
    assert "continuing" in out
    assert (tmp_path / "run" / "summary.json").exists()
    assert not checkpoints.exist()
