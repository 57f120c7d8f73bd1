"""Calibration and credit along documents: identities of probabilities and of the Bellman equation."""

import dataclasses

import numpy as np
import pytest

from tokenlm.agents import DQN
from tokenlm.agents.evaluation.along_documents import along_documents
from tokenlm.agents.runs.algorithms import make
from tokenlm.envs import EnvConfig, Oracle, World, force

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=12, max_new_tokens=4, context_length=5, prompt_length=(0, 0), ending="fixed"
)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_optimal_policy_has_the_exact_credit(temperature):
    agent = make("oracle", CHAIN, 0, temperature=temperature)
    calibration, credit = along_documents(agent, limit=40)
    np.testing.assert_allclose(credit.learned, credit.exact, atol=1e-9)
    places, bias, error = credit.by_place()
    assert places.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose([bias, error], 0.0, atol=1e-9)
    if temperature == 1.0:  # then it is p* itself
        np.testing.assert_allclose(calibration.policy, calibration.target, atol=1e-9)


@pytest.mark.parametrize("every", [1, 0])
def test_advantages_of_a_text_sum_up_to_its_return_minus_the_value_of_its_start(every):
    """A*(s, a) = r + V*(s') - V*(s), whenever the reward is paid."""
    env = dataclasses.replace(CHAIN, reward_every=every)
    agent = make("oracle", env, 0, temperature=0.5)
    _, credit = along_documents(agent, limit=6)
    world = World.of(env)
    rows, none = np.arange(6), np.zeros(6, np.int64)
    forced = force(world, env, "valid", rows, none)
    start = Oracle.of(world, env).optimal_value([0, 0, 0, 0, 2], temperature=0.5, horizon="episode")
    for row in rows:
        own = credit.document == row
        assert credit.token[own].tolist() == forced.actions[row, : forced.lengths[row]].tolist()
        assert credit.exact[own].sum() == pytest.approx(forced.rewards[row].sum() - start, abs=1e-9)


def test_probabilities_of_every_state_sum_to_one(tiny):
    """Σ π, Σ p* and Σ [token is the next one] are each the number of places, whatever the policy."""
    agent = DQN(tiny, network={"embedding_size": 4, "hidden_size": 8}, seed=1)
    calibration, credit = along_documents(agent, "train", limit=20)
    places = len(credit.place)
    for part in (calibration.policy, calibration.target, calibration.frequency):
        assert (calibration.count * part).sum() == pytest.approx(places, rel=1e-5)
    assert 0.0 <= calibration.error <= 1.0
    assert (np.diff(calibration.policy[calibration.count > 0]) > 0).all()  # the bins are in order


def test_the_optimum_may_be_unknown(tiny):
    env = dataclasses.replace(tiny, target="reference")
    _, credit = along_documents(DQN(env, network={"embedding_size": 4, "hidden_size": 8}, temperature=0.5), limit=3)
    assert credit is None


def test_what_has_no_probabilities_is_refused(tiny):
    agent = DQN(tiny, network={"embedding_size": 4, "hidden_size": 8})
    with pytest.raises(ValueError, match="a greedy policy has no probabilities to calibrate"):
        along_documents(agent, temperature=0.0)
    phrases = DQN(tiny, network={"embedding_size": 4, "hidden_size": 8}, phrases=2)
    with pytest.raises(ValueError, match="an agent that acts by phrases"):
        along_documents(phrases)
