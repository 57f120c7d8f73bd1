"""The further learning rules: numbers worked out by hand, and the equalities between them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.agents.dqn import losses

T = torch.tensor
LOG2, LOG3 = math.log(2.0), math.log(3.0)
reals = st.floats(-5, 5)
rows = st.lists(reals, min_size=2, max_size=6)


# double


def test_double_value_by_hand():
    online, judge = T([[1.0, 2.0, 0.0]]), T([[5.0, -1.0, 9.0]])
    assert losses.double_value(online, judge, 0.0).tolist() == [-1.0]
    # π = (¼, ¾): ¼(4 - log ¼) + ¾(8 - log ¾).
    soft = losses.double_value(T([[0.0, LOG3]]), T([[4.0, 8.0]]), 1.0)
    assert soft.item() == pytest.approx(0.25 * (4 + math.log(4)) + 0.75 * (8 - math.log(0.75)))


def test_double_value_ignores_invalid_actions():
    online, judge = T([[1.0, -math.inf]]), T([[5.0, -math.inf]])
    for temperature in (0.0, 1.0):
        assert losses.double_value(online, judge, temperature).tolist() == [5.0]


@given(rows, st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_double_with_equal_networks_is_single(q, temperature):
    values = T([q], dtype=torch.float64)
    double, single = losses.double_value(values, values, temperature), losses.soft_value(values, temperature)
    assert double.item() == pytest.approx(single.item(), abs=1e-9)


# several steps


def grids():
    """Two episodes: three actions that end for good, and two that were cut off, in columns 1 to 3."""
    at = T([[0, 1, 1, 1], [0, 1, 1, 0]]).bool()
    rewards = T([[0.0, -1.0, -2.0, -4.0], [0.0, -8.0, -16.0, 0.0]]) * at
    discounts = T([[0.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0]])
    after = T([[0.0, 10.0, 20.0, 99.0], [0.0, 30.0, 40.0, 0.0]])
    return rewards, discounts, after, at


def test_n_step_targets_by_hand():
    rewards, discounts, after, at = grids()
    before = torch.nn.functional.pad(after, (1, 0))[:, :-1]
    one = losses.multi_step(rewards, discounts, after, before, at, 1)
    assert one[0, 1:].tolist() == [-1 + 5, -2 + 10, -4]
    assert one[1, 1:3].tolist() == [-8 + 15, -16 + 20]
    two = losses.multi_step(rewards, discounts, after, before, at, 2)
    # -1 - 2/2 + 20/4; -2 - 4/2; -4 | -8 - 16/2 + 40/4; -16 + 40/2.
    assert two[0, 1:].tolist() == [3.0, -4.0, -4.0]
    assert two[1, 1:3].tolist() == [-6.0, 4.0]
    many = losses.multi_step(rewards, discounts, after, before, at, 9)
    assert many[0, 1:].tolist() == [-1 - 1 - 1, -2 - 2, -4.0]
    assert many[1, 1:3].tolist() == [-6.0, 4.0]


def test_trace_decay_mixes_the_n_step_targets():
    rewards, discounts, after, at = grids()
    before = torch.nn.functional.pad(after, (1, 0))[:, :-1]
    steps = [losses.multi_step(rewards, discounts, after, before, at, n)[0, 1] for n in (1, 2, 3)]
    decayed = losses.multi_step(rewards, discounts, after, before, at, 9, trace_decay=0.25)[0, 1]
    assert decayed.item() == pytest.approx(float(0.75 * steps[0] + 0.75 * 0.25 * steps[1] + 0.0625 * steps[2]))
    assert torch.equal(losses.multi_step(rewards, discounts, after, before, at, 9, 0.0),
                       losses.multi_step(rewards, discounts, after, before, at, 1))  # fmt: skip


def test_corrected_targets_keep_a_consistent_value_whatever_was_done():
    # Q(s, a) = r + γV(s') along the way: then every target is the one-step target, off the policy too.
    rewards, discounts, after, at = grids()
    taken = rewards + discounts * after
    for n in (1, 2, 3):
        target = losses.multi_step(rewards, discounts, after, taken, at, n)
        assert torch.allclose(target, rewards + discounts * after)


def test_corrected_targets_by_hand():
    rewards, discounts, after, at = grids()
    taken = T([[0.0, 7.0, 6.0, 5.0], [0.0, 1.0, 2.0, 0.0]])
    two = losses.multi_step(rewards, discounts, after, taken, at, 2)
    # -1 + 5 + ½(-2 + 10 - 6); -2 + 10 + ½(-4 - 5); | -8 + 15 + ½(-16 + 20 - 2).
    assert two[0, 1:3].tolist() == [5.0, 3.5]
    assert two[1, 1].item() == 8.0


# path consistency


@given(rows, reals, st.sampled_from([0.3, 1.0, 2.0]), reals, reals)
def test_path_consistency_of_one_step_is_the_soft_td_error(preferences, value, temperature, reward, after):
    a = T([preferences], dtype=torch.float64)
    log_policy = a[:, 0] - losses.soft_value(a, temperature)
    q = T([value], dtype=torch.float64) + log_policy
    grid = [T([[x]], dtype=torch.float64) for x in (value, reward, log_policy.item(), 0.9, after)]
    error = losses.path_consistency(*grid, T([[True]]), steps=1)
    expected = losses.td_error(q, grid[1][0], grid[3][0], grid[4][0])
    assert error.item() == pytest.approx(expected.item(), abs=1e-9)


def test_path_consistency_by_hand():
    rewards, discounts, after, at = grids()
    before = T([[0.0, 1.0, 2.0, 3.0], [0.0, 4.0, 5.0, 0.0]])
    log_policy = T([[0.0, -3.0, -5.0, -7.0], [0.0, -9.0, -11.0, 0.0]])
    error = losses.path_consistency(before, rewards, log_policy, discounts, after, at, 2)
    # (-1 + 3) + ½(-2 + 5) + ¼·20 - 1; (-2 + 5) + ½(-4 + 7) - 2; (-4 + 7) - 3.
    assert error[0, 1:].tolist() == [7.5, 2.5, 0.0]
    # (-8 + 9) + ½(-16 + 11) + ¼·40 - 4; (-16 + 11) + ½·40 - 5.
    assert error[1, 1:3].tolist() == [4.5, 10.0]


def test_path_consistency_reaches_every_policy_on_the_path_but_no_later_value():
    rewards, discounts, after, at = grids()
    before, log_policy = (torch.zeros(2, 4, requires_grad=True) for _ in range(2))
    after.requires_grad_()
    losses.path_consistency(before, rewards, log_policy, discounts, after, at, 2)[0, 1].backward()
    assert log_policy.grad[0].tolist() == [0.0, -1.0, -0.5, 0.0]
    assert before.grad[0].tolist() == [0.0, -1.0, 0.0, 0.0]
    assert after.grad is None


# Munchausen


def test_munchausen_bonus_by_hand():
    log_policy = T([-LOG2, -100.0])
    assert losses.munchausen_bonus(log_policy, 2.0, 0.5).tolist() == pytest.approx([-LOG2, -100.0])
    assert losses.munchausen_bonus(log_policy, 2.0, 0.5, clip=-1.0).tolist() == pytest.approx([-0.5, -0.5])
    assert losses.munchausen_bonus(log_policy, 2.0, 0.0).tolist() == [0.0, 0.0]


# offline rules


def test_conservative_by_hand():
    q = T([[0.0, LOG3, -math.inf]])
    assert losses.conservative(T([0.0]), losses.soft_value(q, 1.0)).item() == pytest.approx(math.log(4.0))
    assert losses.conservative(T([LOG3]), losses.soft_value(q, 0.0)).item() == 0.0


def test_expectile_by_hand():
    assert losses.expectile(T([2.0, -2.0]), 0.75).tolist() == [3.0, 1.0]
    assert losses.expectile(T([2.0, -2.0]), 0.5).tolist() == [2.0, 2.0]


def test_weighted_cross_entropy_by_hand():
    logits = T([[0.0, LOG2, 0.0, -math.inf]])  # p = ¼, ½, ¼
    loss = losses.weighted_cross_entropy(logits, T([1]), T([0.75]))
    assert loss.item() == pytest.approx(-(0.75 * math.log(0.5) + 0.125 * 2 * math.log(0.25)))
    assert losses.weighted_cross_entropy(logits, T([1]), T([1.0])).item() == pytest.approx(LOG2)


def test_weighted_cross_entropy_is_least_where_its_docstring_says():
    behaviour, weight = T([0.5, 0.3, 0.2], dtype=torch.float64), T([0.9, 0.2, 0.6], dtype=torch.float64)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def objective():
        optimizer.zero_grad()
        loss = (behaviour * losses.weighted_cross_entropy(logits.expand(3, 3), torch.arange(3), weight)).sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    missed = behaviour * (1 - weight) / 2
    expected = behaviour * weight + missed.sum() - missed
    assert torch.allclose(torch.softmax(logits.detach(), -1), expected, atol=1e-6)
    assert (expected / behaviour >= weight).all()


def test_inverse_soft_q_by_hand():
    q, v = T([-2.0, -2.0]), T([-1.0, -1.0])
    loss = losses.inverse_soft_q(q, v, T([1.0, 0.0]), T([-5.0, math.nan]), 0.5)
    assert loss.tolist() == [1.0 + 0.5 * 9.0, 1.0 + 0.5 * 4.0]


def test_return_decomposition_by_hand():
    at = T([[1, 1, 0], [1, 1, 1]]).bool()
    predicted, paid = T([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]), T([[0.0, 7.0, 0.0], [0.0, 0.0, 3.0]])
    assert losses.return_decomposition(predicted, paid, at).tolist() == [[4.0, 4.0, 0.0], [0.0, 0.0, 0.0]]


# distributions of returns


def test_categorical_projection_by_hand():
    support = T([0.0, 1.0, 2.0])
    moved = losses.categorical_projection(T([[0.5, 0.0, 0.5]]), T([0.25]), T([0.5]), support)
    # 0 -> 0.25: ¾ and ¼; 2 -> 1.25: ¾ of it on 1, ¼ on 2.
    assert moved.tolist() == [[0.375, 0.125 + 0.375, 0.125]]
    ended = losses.categorical_projection(T([[0.5, 0.0, 0.5]]), T([1.5]), T([0.0]), support)
    assert ended.tolist() == [[0.0, 0.5, 0.5]]
    outside = losses.categorical_projection(T([[1.0, 0.0, 0.0]]), T([7.0]), T([1.0]), support)
    assert outside.tolist() == [[0.0, 0.0, 1.0]]


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), st.floats(-1, 1), st.floats(0, 0.5))
def test_categorical_projection_keeps_the_mean(weights, reward, discount):
    support = torch.linspace(-2, 2, 5, dtype=torch.float64)
    probabilities = T([weights], dtype=torch.float64) / sum(weights)
    moved = losses.categorical_projection(
        probabilities, T([reward], dtype=torch.float64), T([discount], dtype=torch.float64), support
    )
    assert moved.sum().item() == pytest.approx(1.0)
    assert (moved @ support).item() == pytest.approx(reward + discount * (probabilities @ support).item(), abs=1e-9)


def test_quantile_huber_by_hand():
    # Levels ¼ and ¾; errors 3 (above) and -0.5 (below), δ = 1.
    loss = losses.quantile_huber(T([[0.0, 3.5]]), T([[3.0]]))
    assert loss.item() == pytest.approx(0.25 * 2.5 + 0.25 * 0.125)


def test_gaussian_histogram_has_the_value_for_its_mean():
    support = torch.linspace(-10, 10, 41, dtype=torch.float64)
    values = torch.linspace(-6, 6, 25, dtype=torch.float64)
    histogram = losses.gaussian_histogram(values, support)
    assert torch.allclose(histogram.sum(-1), torch.ones_like(values))
    assert torch.allclose(histogram @ support, values, atol=1e-4)
    # A narrow Gaussian lies in one bin.
    assert losses.gaussian_histogram(T([2.0]).double(), support, 0.01)[0].argmax().item() == 24


def test_distribution_cross_entropy_by_hand():
    logits, target = T([[0.0, LOG3]]), T([[0.5, 0.5]])
    expected = -0.5 * (math.log(0.25) + math.log(0.75))
    assert losses.distribution_cross_entropy(logits, target).item() == pytest.approx(expected)
