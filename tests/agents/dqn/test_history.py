"""What an agent remembers of its learning, and what it begins with."""

import math

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, MaximumLikelihood

SMALL = {"network": {"name": "lstm", "embedding_size": 8, "hidden_size": 16}, "num_envs": 8, "batch_size": 8}


def test_the_history_is_a_table_of_floats_in_the_order_of_learning(tiny):
    agent = DQN(tiny, learning_starts=64, **SMALL).learn(512)
    agent.learn(128)
    steps = agent.history.column("num_steps")
    assert steps == sorted(steps)
    assert steps[-1] == 640
    assert {type(value) for row in agent.history for value in row.values()} <= {float, type(None)}
    last = agent.history[-1]
    assert math.isfinite(last["loss"])
    assert last["training_return"] == pytest.approx(agent.collector.mean_return)
    assert (last["epsilon"], last["learning_rate"]) == (0.0, pytest.approx(1e-4))
    assert len(agent.plot().axes) == 2
    assert agent.evaluate(episodes=4)["perplexity"] > 1.0


def test_steps_too_few_to_learn_anything_are_said(tiny):
    with pytest.warns(UserWarning, match="nothing is learned"):
        DQN(tiny, learning_starts=1_000, **SMALL).learn(500)


@pytest.mark.parametrize("kind", [DQN, MaximumLikelihood])
def test_the_head_begins_at_the_frequencies_of_the_corpus(tiny, kind):
    """An LSTM's hidden vector is 0 for weights of 0, so the first policy is its bias: the unigram frequencies."""
    agent = kind(tiny, **SMALL)
    agent.learn(8, lambda _: False)
    world, replay = agent.world, agent.sampler.corpus
    batch = replay.rows(torch.arange(len(replay)))
    counts = np.bincount(batch.actions[batch.is_action].numpy(), minlength=world.vocab_size) + 1.0
    expected = np.log(counts / counts.sum())
    if kind is DQN:  # no update yet; maximum likelihood has made one
        np.testing.assert_allclose(agent.network.head.bias.detach().numpy(), expected, atol=1e-6)
        np.testing.assert_array_equal(agent.network.head.bias.detach(), agent.learner.target_network.head.bias)
    else:
        np.testing.assert_allclose(agent.network.head.bias.detach().numpy(), expected, atol=0.02)


def test_from_rewards_alone_nothing_of_the_corpus_is_known(tiny):
    agent = DQN(tiny, corpus_share=0.0, **SMALL)
    agent.learn(8, lambda _: False)
    assert not agent.network.head.bias.any()
