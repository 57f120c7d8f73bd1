"""Exploring what was tried least."""

import math

import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.dqn.exploration import Counts, choose_actions
from tokenlm.envs import EnvConfig

T = torch.tensor


def test_proposals_are_even_over_the_least_tried_valid_actions():
    counts = Counts(4)
    last, valid = T([1, 1]), T([[False, True, True, True], [True, True, False, False]])
    assert counts.proposals(last, valid).tolist() == [[0, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3)],
                                                      [0.5, 0.5, 0, 0]]  # fmt: skip
    counts.add(T([1, 1, 1, 2]), T([1, 1, 2, 0]))
    assert counts.table[1].tolist() == [0, 2, 1, 0]
    assert counts.table[2].tolist() == [1, 0, 0, 0]
    assert counts.proposals(last, valid).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]


def test_mixture_with_proposals_has_its_probability():
    q, valid = T([[0.0, math.log(3.0)]]), T([[True, True]])
    actions, log_probs = choose_actions(q, valid, 1.0, 0.5, torch.Generator().manual_seed(0), T([[1.0, 0.0]]))
    expected = {0: 0.5 * 0.25 + 0.5, 1: 0.5 * 0.75}
    assert log_probs.exp().item() == pytest.approx(expected[int(actions)])


def test_every_pair_is_soon_tried():
    env = EnvConfig(
        target="markov",
        order=2,
        vocab_size=15,
        max_new_tokens=8,
        context_length=9,
        ending="fixed",
        prompt_length=(0, 0),
    )
    settings = {"corpus_share": 0.0, "epsilon": 1.0, "num_envs": 8, "network": {"embedding_size": 8, "hidden_size": 8}}
    agent = DQN(env, exploration="least_tried", learning_starts=10_000, **settings).learn(400)
    tried = agent.collector.counts.table[5:, 5:]
    assert int(tried.sum()) == 400 - 8 * 7  # 50 steps in each of 8 environments; seven first words follow <bos>
    # 344 tries on 100 pairs: even ones reach them all, uniform ones would miss three on average.
    assert int((tried == 0).sum()) == 0


def test_counts_survive_a_checkpoint():
    counts = Counts(4)
    counts.add(T([1, 2]), T([3, 3]))
    other = Counts(4)
    other.load_state_dict(counts.state_dict())
    assert torch.equal(other.table, counts.table)


def test_a_table_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="counts pairs of tokens, 400,000,000 of them"):
        Counts(20_000)
