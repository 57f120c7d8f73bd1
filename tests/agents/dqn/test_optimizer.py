"""The optimiser step: dense, and over the rows of a batch."""

import pytest
import torch

from tokenlm.agents import AgentConfig
from tokenlm.agents.dqn.optimizer import Optimizer, OptimizerConfig
from tokenlm.agents.networks import LSTMQNetwork

TOKENS = torch.tensor([[2, 7, 9], [2, 5, 7]])
ACTIONS = torch.tensor([[7, 9, 3], [5, 7, 8]])
MET = {2, 5, 7, 9}


def trained(settings, updates, **heads):
    torch.manual_seed(0)
    network = LSTMQNetwork(12, embedding_size=4, hidden_size=6)
    config = AgentConfig.of(None, {"learning_rate": 0.01, "max_grad_norm": 0.5, **settings})
    optimizer = Optimizer(network, config.optimizer, config.learning_rate(0.0), config.rule.dueling)
    norms = []
    for _ in range(updates):
        optimizer.zero_grad()
        network.action_values(network(TOKENS), ACTIONS).sub(9.0).square().sum().backward()
        norms.append(optimizer.step(0.01).item())
    return network, optimizer, norms


def rows_moved(one, other):
    return set((one - other).abs().sum(1).nonzero().flatten().tolist())


def test_the_first_sparse_step_is_adams_on_the_rows_met():
    start, _, _ = trained({}, 0)
    dense, _, norms = trained({"optimizer": "adam", "dueling": False}, 1)
    sparse, _, sparse_norms = trained({"optimizer": "sparse_adam", "dueling": False}, 1)
    assert sparse_norms == pytest.approx(norms)
    assert norms[0] > 0.5  # clipped
    for name, parameter in dense.named_parameters():
        if parameter.grad is None:  # nothing asked for state values
            continue
        is_sparse = name in ("embedding.weight", "head.weight")
        eps = 1e-8 / (1 - 0.999) ** 0.5 if is_sparse else 1e-8  # SparseAdam adds it before the bias correction
        expected = start.get_parameter(name) - 0.01 * parameter.grad / (parameter.grad.abs() + eps)
        torch.testing.assert_close(sparse.get_parameter(name), expected, rtol=1e-5, atol=1e-6)
    assert rows_moved(start.embedding.weight, sparse.embedding.weight) == MET
    assert rows_moved(start.head.weight, sparse.head.weight) == set(ACTIONS.flatten().tolist())


def test_a_row_not_met_stands_still_with_its_moments():
    sparse, optimizer, _ = trained({"optimizer": "sparse_adam", "dueling": False}, 3)
    start, _, _ = trained({}, 0)
    assert rows_moved(start.embedding.weight, sparse.embedding.weight) == MET
    moments = optimizer.sparse.state[sparse.embedding.weight]["exp_avg"]
    assert set(moments.abs().sum(1).nonzero().flatten().tolist()) == MET


@pytest.mark.parametrize("head_rate", [1.0, 5.0])
@pytest.mark.parametrize("name", ["adam", "sparse_adam"])
def test_a_saved_state_goes_on_exactly(name, head_rate):
    settings = {"optimizer": name, "dueling": False, "head_rate": head_rate}
    whole, _, _ = trained(settings, 4)
    half, optimizer, _ = trained(settings, 2)
    again, fresh, _ = trained(settings, 0)
    again.load_state_dict(half.state_dict())
    fresh.load_state_dict(optimizer.state_dict())
    for _ in range(2):
        fresh.zero_grad()
        again.action_values(again(TOKENS), ACTIONS).sub(9.0).square().sum().backward()
        fresh.step(0.01)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_dueling_head_is_trained_as_a_whole():
    """Its soft maximum has a gradient in every row, so only the embedding is sparse."""
    network = LSTMQNetwork(12, embedding_size=4, hidden_size=6)
    optimizer = Optimizer(network, OptimizerConfig("sparse_adam"), 4e-3, reads_all_actions=AgentConfig().rule.dueling)
    assert [id(p) for g in optimizer.sparse.param_groups for p in g["params"]] == [id(network.embedding.weight)]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "sparse_adam"])
def test_the_heads_move_as_many_times_as_far_as_head_rate_says(name):
    settings = {"optimizer": name, "dueling": False}
    start, _, _ = trained(settings, 0)
    plain, _, _ = trained(settings, 1)
    faster, _, _ = trained(settings | {"head_rate": 5.0}, 1)
    for parameter, before in start.named_parameters():
        factor = 5.0 if parameter.startswith("head.") else 1.0
        moved = plain.get_parameter(parameter) - before
        torch.testing.assert_close(faster.get_parameter(parameter) - before, factor * moved, rtol=1e-3, atol=1e-6)
    assert (plain.head.weight != start.head.weight).any()


def test_sparse_adam_with_weight_decay_is_refused():
    with pytest.raises(ValueError, match="sparse_adam has no weight_decay"):
        AgentConfig.of(None, {"optimizer": "sparse_adam", "weight_decay": 0.1})
