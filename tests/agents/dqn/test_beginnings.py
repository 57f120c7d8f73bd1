"""What the defaults of corpus episodes and of the target network amount to."""

import pytest
import torch

from tokenlm.agents import DQN, AgentConfig, Schedule
from tokenlm.agents.dqn import losses

SMALL = {"network": {"name": "lstm", "embedding_size": 8, "hidden_size": 16}, "num_envs": 8, "batch_size": 8}


@pytest.mark.parametrize(
    ("settings", "delta"),
    [
        ({}, 0.2),
        ({"corpus_share": 0.0}, None),
        ({"huber_delta": 1.0}, 1.0),
        ({"loss": "cql"}, None),
        ({"loss": "ilql"}, None),
    ],
)
def test_beside_a_corpus_the_loss_is_hubers(tiny, settings, delta):
    agent = DQN(tiny, learning_starts=64, **SMALL, **settings).learn(128)
    outcome = agent.config.rule.loss(agent.learner.update_of(agent.sampler.sample(), 1.0))
    if "loss" not in settings:  # penalties come on top of it
        assert torch.equal(outcome.loss, losses.squared_or_huber(outcome.error, delta))
    assert agent.learner.backup.huber_delta == delta


def test_a_target_network_copied_after_every_update_is_the_online_network(tiny):
    """Network by network, the updates are the same as with a copy."""
    settings = {**SMALL, "learning_starts": 64, "target_update_rate": 1.0, "seed": 5}
    one, other = (DQN(tiny, **settings) for _ in range(2))
    assert not one.learner.lags
    other.learner.lags = True
    other.learner.target_network = DQN(tiny, **settings).network.requires_grad_(False).eval()
    # Where it begins differs from its copy after the first update, but not what it computes.
    for agent in (one, other):
        agent.learn(256)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_keeps_the_target_network_apart(tiny):
    network = {**SMALL["network"], "dropout": 0.1}
    assert DQN(tiny, **{**SMALL, "network": network}, target_update_rate=1.0).learner.lags


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 0.7),
        ({"temperature": 1.0}, 0.7),
        ({"temperature": 0.0}, 0.5),
        ({"temperature": Schedule(1.0, 0.1)}, 0.5),
        ({"loss": "dqn"}, 0.5),
        ({"loss": "cql"}, 1.0),
        ({"corpus_share": 0.3}, 0.3),
    ],
)
def test_the_share_of_the_corpus(settings, share):
    assert AgentConfig.of(None, settings).settled().corpus_share == share
