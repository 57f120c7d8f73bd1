"""Exploring what was tried least."""

import math

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.acting.choosing import choose_actions, inverse_cdf
from tokenlm.agents.acting.exploration import Counts, UntriedMass
from tokenlm.envs import EnvConfig

T = torch.tensor
CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=15, max_new_tokens=8, context_length=9, ending="fixed", prompt_length=(0, 0)
)
EXPLORING = {
    "corpus_share": 0.0,
    "epsilon": 1.0,
    "num_envs": 8,
    "network": {"embedding_size": 8, "hidden_size": 8},
    "learning_starts": 10_000,
}


def test_valid_actions_tried_least_are_explored():
    counts = Counts(4)
    last, valid = T([1, 1]), T([[False, True, True, True], [True, True, False, False]])
    assert counts.least_tried(last, valid).tolist() == valid.tolist()
    counts.add(T([1, 1, 1, 2]), T([1, 1, 2, 0]), torch.zeros(4))
    assert counts.table[1].tolist() == [0, 2, 1, 0]
    assert counts.table[2].tolist() == [1, 0, 0, 0]
    assert counts.least_tried(last, valid).int().tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]


def test_mixture_with_explored_actions_has_its_probability():
    q = T([[0.0, math.log(3.0)]])
    actions, log_probs = choose_actions(q, 1.0, 0.5, torch.Generator().manual_seed(0), T([[True, False]]))
    expected = {0: 0.5 * 0.25 + 0.5, 1: 0.5 * 0.75}
    assert log_probs.exp().item() == pytest.approx(expected[int(actions)])


@pytest.mark.parametrize("size", [1, 2, 3, 10, 50, 197])
@pytest.mark.parametrize(("temperature", "epsilon"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.3), (0.0, 0.3)])
def test_frequencies_and_log_probabilities_are_those_of_the_mixture(size, temperature, epsilon):
    count, generator = 50_000, torch.Generator().manual_seed(size)
    q = 2.0 * torch.randn(size, generator=generator)
    q[1::3] = -torch.inf
    explored = q > -torch.inf
    explored[3::4] = False
    policy = torch.softmax(q.double() / temperature, -1) if temperature else (q == q.max()).double()
    expected = (1 - epsilon) * policy + epsilon * explored / explored.sum()
    actions, log_probs = choose_actions(q.expand(count, -1), temperature, epsilon, generator, explored)
    assert torch.allclose(log_probs.exp().double(), expected[actions], rtol=1e-5)
    found = torch.bincount(actions, minlength=size)
    assert (found[expected == 0] == 0).all()
    # Where fewer than five are expected a count is not normal; those entries count as one.
    often = expected * count >= 5
    pairs = [(found[often].double(), expected[often] * count)]
    if float(expected[~often].sum()) * count >= 5:
        pairs.append((found[~often].sum()[None].double(), expected[~often].sum()[None] * count))
    seen, mean = (torch.cat(part) for part in zip(*pairs, strict=True))
    freedom = max(1, len(mean) - 1)
    # Five standard deviations of χ² above its mean.
    assert float(((seen - mean).square() / mean).sum()) < freedom + 5 * math.sqrt(2 * freedom)


def test_the_ends_of_the_unit_interval_fall_on_weights_that_are_not_zero():
    weights = T([0.0, 0.0, 1e-30, 3.0, 0.0, 2.0, 1e-12, 0.0, 0.0, 0.0])
    last = T([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert (weights[inverse_cdf(weights, last)] > 0).all()


def test_a_small_weight_keeps_its_share():
    weights = T([1.0] * 9_999 + [1e-3])
    share = 1e-3 / (9_999 + 1e-3)
    uniform = T([1 - 1.01 * share, 1 - 0.99 * share], dtype=torch.float64)
    assert inverse_cdf(weights, uniform).tolist() == [9_998, 9_999]


def test_every_pair_is_soon_tried():
    agent = DQN(CHAIN, exploration="least_tried", **EXPLORING).learn(400, lambda _: True)
    tried = agent.collector.counts.table[5:, 5:]
    assert int(tried.sum()) == 400 - 8 * 7  # 50 steps in each of 8 environments; seven first words follow <bos>
    # 344 tries on 100 pairs: even ones reach them all, uniform ones would miss three on average.
    assert int((tried == 0).sum()) == 0


def test_every_row_explores_with_its_own_probability():
    values = T([[0.0, -9.0]]).expand(4000, -1)
    epsilon = T([0.0, 0.5]).repeat(2000)
    generator = torch.Generator().manual_seed(0)
    actions, log_probs = choose_actions(values, 0.0, epsilon, generator, T([False, True]))
    assert (actions[::2] == 0).all()
    assert abs(float(actions[1::2].double().mean()) - 0.5) < 0.06
    assert torch.allclose(log_probs[1::2].exp(), T(0.5))


def test_exploration_ends_where_the_target_has_nothing_left():
    mass = UntriedMass(4)
    log_p = T([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125], [0.0, 1.0, 0.0, 0.0], [0.7, 0.1, 0.1, 0.1]]).log()
    last, actions = T([1, 1, 1, 2]), T([0, 0, 2, 1])  # a pair that is taken twice counts once
    mass.add(last, actions, log_p[last, actions])
    mass.add(T([1, 2]), T([2, 3]), T([0.125, 0.0]).log())  # one that was known already, one that is impossible
    assert mass.epsilon(T([0, 1, 2, 3]), 0.8).tolist() == pytest.approx([0.8, 0.8 * 0.375, 0.0, 0.8])
    mass.add(T([1, 1]), T([1, 3]), log_p[1, [1, 3]])
    assert mass.epsilon(T([1]), 1.0).tolist() == [0.0]
    assert mass.table.tolist() == [[0, 0, 0, 0], [2, 1, 2, 1], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_the_mass_found_by_an_agent_is_that_of_the_pairs_it_tried():
    agent = DQN(CHAIN, exploration="untried_mass", **EXPLORING).learn(200, lambda _: True)
    counts, target = agent.collector.counts, agent.world.target
    for last in range(5, 15):
        log_probs = torch.from_numpy(target.log_probs(target.track(np.array([[0, last]])), np.array([False])))[0]
        tried = counts.table[last] > 0
        assert float(counts.found[last]) == pytest.approx(float(log_probs[tried].exp().sum()), abs=1e-5)


@pytest.mark.parametrize("settings", [{"reward_every": 0}, {"log_prob_weight": 0.5}, {"sequence_reward": "chrf"}])
def test_the_mass_is_read_off_log_likelihoods_alone(settings):
    env = EnvConfig(target="markov", order=2, vocab_size=15, max_new_tokens=8, context_length=9, **settings)
    agent = DQN(env, exploration="untried_mass", network={"embedding_size": 8, "hidden_size": 8})
    with pytest.raises(ValueError, match="needs the log-likelihood of every token as its reward"):
        agent.learn(8)


def test_phrases_have_no_mass_of_their_own():
    with pytest.raises(ValueError, match="use 'least_tried' with phrases"):
        DQN("TokenLM-Tiny-v0", exploration="untried_mass", phrases=4)


@pytest.mark.parametrize("kind", [Counts, UntriedMass])
def test_counts_survive_a_checkpoint(kind):
    counts = kind(4)
    counts.add(T([1, 2]), T([3, 3]), T([-1.0, -2.0]))
    other = kind(4)
    other.load_state_dict(counts.state_dict())
    assert torch.equal(other.table, counts.table)
    assert torch.equal(
        torch.as_tensor(other.epsilon(T([0, 1, 2]), 1.0)), torch.as_tensor(counts.epsilon(T([0, 1, 2]), 1.0))
    )


def test_a_table_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="needs counts of 400,000,000 pairs of tokens"):
        Counts(20_000)
