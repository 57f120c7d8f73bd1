"""Learning rules: numbers worked out by hand, and limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.agents.dqn import losses

T = torch.tensor


def test_soft_value_by_hand():
    q = T([[0.0, 0.0], [math.log(3.0), 0.0]])
    assert torch.allclose(losses.soft_value(q, 1.0), T([math.log(2.0), math.log(4.0)]))
    assert torch.allclose(losses.soft_value(q, 0.5), T([0.5 * math.log(2.0), 0.5 * math.log(10.0)]))
    assert torch.equal(losses.soft_value(q, 0.0), T([0.0, math.log(3.0)]))


def test_soft_value_over_valid_actions_only():
    q, valid = T([[5.0, 1.0, 9.0]]), T([[True, True, False]])
    assert torch.allclose(losses.soft_value(q, 1.0, valid), T([math.log(math.exp(5) + math.exp(1))]))
    assert losses.soft_value(q, 0.0, valid).item() == 5.0
    assert losses.soft_value(q, 1.0, torch.zeros(1, 3, dtype=torch.bool)).item() == -math.inf


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6))
def test_soft_value_tends_to_the_maximum(q):
    values = T(q, dtype=torch.float64)
    for temperature in (1.0, 0.1, 0.01):
        gap = losses.soft_value(values, temperature) - values.max()
        assert -1e-12 <= gap <= temperature * math.log(len(q)) + 1e-12


def test_td_error_by_hand():
    error = losses.td_error(T([1.0, 2.0, -1.0]), T([0.5, -1.0, 0.0]), T([0.9, 0.0, 1.0]), T([2.0, math.nan, -4.0]))
    # 0.5 + 0.9·2 - 1 = 1.3; the episode ended: -1 - 2 = -3; 0 - 4 + 1 = -3.
    assert torch.allclose(error, T([1.3, -3.0, -3.0]))


def test_td_error_has_no_gradient_through_its_target():
    q, v = T([1.0], requires_grad=True), T([2.0], requires_grad=True)
    losses.td_error(q, T([0.0]), T([1.0]), v).sum().backward()
    assert q.grad.item() == -1.0
    assert v.grad is None


def test_squared_and_huber_by_hand():
    error = T([0.5, -3.0])
    assert torch.allclose(losses.squared_or_huber(error, None), T([0.125, 4.5]))
    assert torch.allclose(losses.squared_or_huber(error, 1.0), T([0.125, 2.5]))
    assert torch.allclose(losses.squared_or_huber(error, 2.0), T([0.125, 2.0 * (3.0 - 1.0)]))


def test_cross_entropy_by_hand():
    logits = T([[math.log(1.0), math.log(3.0)]])
    assert torch.allclose(losses.cross_entropy(logits[:, 1], losses.soft_value(logits, 1.0)), T([-math.log(0.75)]))


def test_value_bound_by_hand():
    left = T([3, 0])
    assert losses.value_bound(1.0, left, 10).tolist() == [0.0, 0.0]
    assert losses.value_bound(0.0, left, 10).tolist() == [0.0, 0.0]
    assert losses.value_bound(2.0, left, 10).tolist() == pytest.approx([3 * math.log(10), 0.0])


def test_bounded_values_can_come_back_but_not_leave():
    values = T([-1.0, 2.0, 2.0], requires_grad=True)
    held = losses.bounded(values, T([0.0, 0.0, 0.0]))
    assert held.tolist() == [-1.0, 0.0, 0.0]
    # Gradient descent raises what has a negative gradient and lowers what has a positive one.
    (held * T([-1.0, -1.0, 1.0])).sum().backward()
    assert values.grad.tolist() == [-1.0, 0.0, 1.0]


def test_centred_errors_have_no_mean_at_any_position():
    errors = torch.tensor([1.0, 3.0, 5.0, -2.0], requires_grad=True)
    found = losses.centred(errors, torch.tensor([0, 0, 2, 2]))
    assert found.tolist() == [-1.0, 1.0, 3.5, -3.5]
    found.sum().backward()
    assert errors.grad.tolist() == [1.0] * 4  # none through the means
