"""The identities that `benchmarks/credit.py` stands on."""

from __future__ import annotations

import numpy as np
import pytest

from tokenlm.envs import Oracle, World

import credit


@pytest.fixture(scope="module")
def chain() -> credit.Chain:
    return credit.Chain()


def test_its_values_are_those_of_the_oracle(chain):
    oracle = Oracle.of(World.of(chain.config), chain.config)
    start = np.array([[0] * credit.LENGTH + [chain.first]])
    assert chain.value[0, chain.first] == pytest.approx(float(oracle.expected_return("target", start)[0]), abs=1e-10)


def test_with_exact_values_one_step_is_the_advantage_and_all_steps_are_return_minus_value(chain):
    texts = chain.texts(200, np.random.default_rng(0))
    steps = np.arange(credit.LENGTH)
    value = chain.value[np.arange(credit.LENGTH + 1), texts]
    exact = chain.q[steps, texts[:, :-1], texts[:, 1:]] - value[:, :-1]
    rewards = chain.paid(texts, 1)
    assert np.allclose(credit.generalised(rewards, value, 0.0), exact, atol=1e-10)
    assert np.allclose(credit.generalised(rewards, value, 1.0), credit.to_go(rewards) - value[:, :-1], atol=1e-10)


def test_what_is_paid_late_is_the_sum_of_what_was_earned():
    rewards = np.array([[-1.0, -2.0, -3.0, -4.0, -5.0]])
    assert credit.paid(rewards, 1).tolist() == rewards.tolist()
    assert credit.paid(rewards, 2).tolist() == [[0.0, -3.0, 0.0, -7.0, -5.0]]
    assert credit.paid(rewards, 0).tolist() == [[0.0, 0.0, 0.0, 0.0, -15.0]]


def test_an_unbiased_estimate_has_no_bias_and_a_constant_one_no_noise():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=4_000)
    noisy = credit.account("", 1, [exact + 2.0 * rng.normal(size=4_000) for _ in range(8)], exact)
    assert noisy["bias"] < 0.2
    assert noisy["noise"] == pytest.approx(2.0 / exact.std(), rel=0.05)
    constant = credit.account("", 1, [exact + 3.0] * 8, exact)
    assert (constant["bias"], constant["noise"]) == (pytest.approx(3.0 / exact.std()), 0.0)
