"""A run folder to damage, and commands with little memory and time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tokenlm import DQN, EnvConfig
from tokenlm.agents import AgentConfig, RunConfig
from tokenlm.agents.runs.config import plain
from tokenlm.envs.text.digests import write_digests


@pytest.fixture(scope="session")
def saved(corpus, tmp_path_factory):
    """A run folder, as far as `generate` and `evaluate` read it."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    env = EnvConfig(corpus=str(corpus), tokenizer="word", max_new_tokens=4, context_length=6)
    config = AgentConfig.of(None, {"network": {"name": "lstm", "embedding_size": 4, "hidden_size": 4}, "num_envs": 2})
    DQN(env, config, device="cpu").save(folder)
    text = yaml.safe_dump(plain(RunConfig(env=env, agent=config, device="cpu")))
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    write_digests(folder, [folder / "config.yaml"])
    return folder


@pytest.fixture
def run(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


@pytest.fixture(scope="session")
def command():
    """Ends of commands in processes of their own: exit code, output, seconds of the processor."""
    words = [sys.executable, str(Path(__file__).with_name("driver.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ended(*given):
        process.stdin.write(json.dumps([str(word) for word in given]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ended
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture
def refused(command):
    """The one line with which a command refuses its input, soon and within memory."""

    def line(*words):
        ending = command(*words)
        assert "Traceback" not in ending["said"], ending["said"]
        assert ending["code"] == 2, ending
        lines = ending["said"].splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("tokenlm: ")
        assert ending["seconds"] < 1, ending
        return lines[0]

    return line
