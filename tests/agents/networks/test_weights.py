"""Weights in a file: what was written is read, and a torn file has its sentence."""

import pytest
import torch
from torch import nn

from tokenlm.agents import DQN
from tokenlm.agents.networks.weights import FILE, read_weights, write_weights


def test_weights_that_share_memory_are_read_as_they_were(tmp_path):
    first = nn.Linear(3, 2)
    second = nn.Linear(3, 2)
    second.weight = first.weight
    weights = nn.Sequential(first, second).state_dict()
    write_weights(tmp_path, {**weights, "turned": weights["0.weight"].t()})
    found = read_weights(tmp_path, "cpu")
    assert found.keys() == {*weights, "turned"}
    for name, value in weights.items():
        assert torch.equal(found[name], value)
    assert torch.equal(found["turned"], weights["0.weight"].t())


@pytest.mark.parametrize("size", [0, 4, 100])
def test_a_torn_file_has_one_sentence(tmp_path, tiny, size):
    agent = DQN(tiny, network={"embedding_size": 4, "hidden_size": 4}, seed=0)
    agent.save(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"the weights in .* cannot be read .*; restore them from a copy"):
        DQN.load(tmp_path, trust=True)
