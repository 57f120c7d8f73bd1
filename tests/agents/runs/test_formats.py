"""Runs saved by earlier versions load, with the policy that they had."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tokenlm.agents import DQN
from tokenlm.agents.dqn.rules import ILQL
from tokenlm.agents.runs.training import load_run
from tokenlm.envs.text.digests import write_digests

DATA = Path(__file__).parents[2] / "data"
WINDOWS = [[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 7, 9]]
# log π of the agent when it was saved, for the valid actions 5 to 11.
LOG_PROBS = [
    [-2.154873, -1.553319, -2.123621, -2.040891, -2.062622, -2.039036, -1.79726],
    [-2.214863, -1.14014, -2.612721, -2.509581, -1.712677, -2.313553, -1.986836],
]


@pytest.mark.parametrize("number", [1, 2])
def test_a_saved_run_of_every_format_loads(number):
    agent, config = load_run(DATA / f"format_{number}", device="cpu")
    assert config.agent.rule == agent.config.rule == ILQL(expectile=0.8, cql_weight=0.2, huber_delta=0.5)
    assert config.agent.loss == "ilql"
    assert (agent.config.optimizer.name, agent.config.optimizer.weight_decay) == ("adamw", 0.01)
    assert (agent.config.network.hidden_size, agent.config.network.skip) == (6, True)
    assert (agent.config.learning_starts, agent.config.num_envs) == (16, 8)
    np.testing.assert_allclose(agent.log_probs(WINDOWS)[:, 5:], LOG_PROBS, atol=1e-5)
    assert np.all(agent.log_probs(WINDOWS)[:, :5] == -np.inf)


def test_a_transformer_saved_before_there_were_layouts_keeps_its_own(tmp_path, tiny):
    network = {"name": "transformer", "hidden_size": 8, "num_layers": 1, "num_heads": 2, "layout": "gpt"}
    agent = DQN(tiny, network=network, device="cpu", num_envs=4)
    agent.save(tmp_path)
    settings = json.loads((tmp_path / "agent.json").read_text(encoding="utf-8"))
    del settings["agent"]["network"]["layout"]
    (tmp_path / "agent.json").write_text(json.dumps(settings), encoding="utf-8")
    write_digests(tmp_path, [tmp_path / "agent.json"])
    windows = [[0] * 10 + [1, 7]]
    assert np.array_equal(DQN.load(tmp_path, device="cpu").log_probs(windows), agent.log_probs(windows))
    assert DQN(tiny, network="transformer", device="cpu", num_envs=4).network.head.bias.requires_grad is False


def test_a_format_of_the_future_is_refused(tmp_path):
    folder = shutil.copytree(DATA / "format_2", tmp_path / "run")
    settings = folder / "agent.json"
    settings.write_bytes(settings.read_bytes().replace(b'"format": 2', b'"format": 3'))
    write_digests(folder, [settings])
    with pytest.raises(ValueError, match="was saved in format 3; this version reads formats 1 and 2"):
        load_run(folder, device="cpu")
