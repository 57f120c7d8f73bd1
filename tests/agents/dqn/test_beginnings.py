"""What the defaults of corpus episodes and of the target network amount to."""

import dataclasses

import pytest
import torch

from tokenlm.agents import DQN, AgentConfig, Schedule
from tokenlm.agents.dqn import losses

SMALL = {"network": {"name": "lstm", "embedding_size": 8, "hidden_size": 16}, "num_envs": 8, "batch_size": 8}


def test_corpus_episodes_have_hubers_loss_and_own_ones_the_squared_one(tiny):
    agent = DQN(tiny, corpus_share=0.5, learning_starts=64, **SMALL).learn(128)
    batch = next(batch for batch in iter(agent.sampler.sample, None) if 0 < batch.own_rows < 8)
    update = agent.learner.update_of(batch, 1.0)
    outcome = agent.config.rule.loss(update)
    rows = update.index // update.at.shape[1]
    corpus = rows >= batch.own_rows
    assert 0 < int(corpus.sum()) < len(corpus)
    assert torch.equal(outcome.loss[~corpus], 0.5 * outcome.error[~corpus] ** 2)
    assert torch.equal(outcome.loss[corpus], losses.squared_or_huber(outcome.error[corpus], 0.2))
    given = dataclasses.replace(agent.config.rule, huber_delta=1.0).loss(agent.learner.update_of(batch, 1.0))
    assert torch.equal(given.loss, losses.squared_or_huber(given.error, 1.0))


def test_corpus_rows_are_documents(tiny):
    agent = DQN(tiny, corpus_share=0.5, learning_starts=64, **SMALL).learn(128)
    documents = {tuple(agent.world.documents["train"][i].tolist()) for i in range(len(agent.world.documents["train"]))}
    batch = agent.sampler.sample()
    texts = [tuple(t for t in row[1:].tolist() if t > 4) for row in batch.tokens]
    assert all(text in documents for text in texts[batch.own_rows :])


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
        ({}, 0.9),
        ({"temperature": 1.0}, 0.9),
        ({"temperature": 0.0}, 0.5),
        ({"temperature": Schedule(1.0, 0.1)}, 0.5),
        ({"loss": "dqn"}, 0.5),
        ({"loss": "cql"}, 1.0),
        ({"corpus_share": 0.3}, 0.3),
    ],
)
def test_the_share_of_the_corpus(settings, share):
    assert AgentConfig.of(None, settings).settled().corpus_share == share
