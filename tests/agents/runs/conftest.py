"""A run that trains in a second, and what it leaves."""

import pytest
import yaml

from tokenlm.cli import main


@pytest.fixture(scope="session")
def small():
    """Settings of the run."""
    return {
        "name": "run",
        "env": {"target": "markov", "order": 2, "vocab_size": 12, "max_new_tokens": 4, "context_length": 5},
        "agent": {
            "network": {"name": "lstm", "embedding_size": 4, "hidden_size": 4},
            "num_envs": 4, "batch_size": 4, "learning_starts": 0, "replay_capacity": 256,
        },
        "total_steps": 16, "evaluations": 2, "evaluation_documents": 2, "evaluation_episodes": 2, "samples": 1,
        "baseline_seconds": 0.0, "checkpoint_seconds": 0.0, "device": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="session")
def config(small, tmp_path_factory):
    """Path of its configuration."""
    path = tmp_path_factory.mktemp("configuration") / "run.yaml"
    path.write_text(yaml.safe_dump(small), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of an undisturbed run, not to be changed."""
    output = tmp_path_factory.mktemp("whole")
    main(["train", config, f"--output={output}"])
    return output / "run"
