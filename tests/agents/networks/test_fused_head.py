"""A linear head in blocks against the same head written out."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.agents.networks import fused_head
from tokenlm.agents.networks.fused_head import soft_maximum, taken_and_soft_maximum

T = torch.tensor
SETTINGS = ("rows", "actions", "depth", "columns", "kept")
SIZES = [(5, 37, 16, 1024, 1 << 20), (5, 37, 16, 8, 1 << 20), (7, 64, 3, 8, 0), (1, 9, 4, 9, 0), (0, 9, 4, 4, 0)]


def head(rows, actions, depth, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, depth), (actions, depth), (actions,))
    hidden, weight, bias = (torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes)
    valid = torch.rand(actions, generator=generator) < 0.8
    valid[0] = True
    chosen = torch.randint(actions, (rows,), generator=generator)
    return hidden, weight, bias, valid, chosen


def written_out(hidden, weight, bias, valid, actions, temperature):
    z = hidden @ weight.t() + bias
    masked = z.masked_fill(~valid, -torch.inf)
    peak = masked.amax(-1) if temperature == 0 else temperature * torch.logsumexp(masked / temperature, -1)
    return z.gather(1, actions[:, None])[:, 0], peak


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize(SETTINGS, SIZES)
def test_values_and_gradients_are_those_of_the_head_written_out(
    monkeypatch, rows, actions, depth, columns, kept, temperature
):
    monkeypatch.setattr(fused_head, "COLUMNS", columns)
    monkeypatch.setattr(fused_head, "KEPT", kept)
    operands = head(rows, actions, depth)
    expected = written_out(*operands, temperature)
    found = taken_and_soft_maximum(*operands, temperature)
    assert torch.equal(soft_maximum(*operands[:4], temperature), found[1])
    to_taken, to_peak = torch.randn(2, rows, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for taken, peak in (expected, found):
        gradients.append(torch.autograd.grad((to_taken * taken + to_peak * peak).sum(), operands[:3]))
    for one, other in zip((*expected, *gradients[0]), (*found, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_a_block_without_valid_actions_counts_nothing(monkeypatch):
    monkeypatch.setattr(fused_head, "COLUMNS", 4)
    hidden, weight, bias, valid, chosen = head(3, 12, 5)
    valid[:8] = False
    valid[9] = True
    expected = written_out(hidden, weight, bias, valid, chosen, 1.0)[1]
    taken, peak = taken_and_soft_maximum(hidden, weight, bias, valid, chosen, 1.0)
    torch.testing.assert_close(peak, expected)
    (to_weight,) = torch.autograd.grad(peak.sum(), weight)
    assert not to_weight[:8].any()
    assert torch.isfinite(to_weight).all()
    assert torch.isfinite(taken).all()


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.sampled_from([0.0, 0.3, 1.0, 4.0]))
def test_the_soft_maximum_of_a_dueling_head_is_zero(preferences, temperature):
    """Q = V + A - τ log Σ exp(A/τ), so that the soft value of Q is V."""
    bias = T(preferences, dtype=torch.float64)
    count = len(preferences)
    nothing = torch.zeros(count, 1, dtype=torch.float64)
    everything = torch.ones(count, dtype=torch.bool)
    taken, peak = taken_and_soft_maximum(nothing, nothing, bias, everything, torch.arange(count), temperature)
    advantages = (taken - peak) / (temperature or 1.0)
    total = advantages.amax() if temperature == 0.0 else torch.logsumexp(advantages, 0)
    assert total.item() == pytest.approx(0.0, abs=1e-9)


def test_by_hand():
    # A = (log 1, log 3), so π = (1/4, 3/4) at τ = 1.
    a, one = T([0.0, math.log(3.0)]), torch.zeros(1, 1)
    everything = torch.ones(2, dtype=torch.bool)
    taken, peak = taken_and_soft_maximum(one, torch.zeros(2, 1), a, everything, T([1]), 1.0)
    assert (taken - peak).item() == pytest.approx(math.log(0.75))
    taken, peak = taken_and_soft_maximum(one, torch.zeros(2, 1), a, everything, T([0]), 0.0)
    assert (taken - peak).item() == pytest.approx(-math.log(3.0))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_bfloat16_is_within_its_bound(temperature, scale):
    hidden, weight, bias, valid, chosen = head(50, 3000, 64, dtype=torch.float32)
    weight = (scale * weight).detach().requires_grad_()
    z = hidden @ weight.t() + bias
    bound = (2**-8 * (hidden.abs() @ weight.abs().t() + bias.abs() + z.abs()))[:, valid].amax(-1)
    exact = written_out(hidden, weight, bias, valid, chosen, temperature)
    taken, peak = taken_and_soft_maximum(hidden, weight, bias, valid, chosen, temperature, torch.bfloat16)
    assert ((peak - exact[1]).abs() <= bound).all()
    assert (peak != exact[1]).any()  # it was made in bfloat16 indeed
    assert torch.allclose(taken, exact[0], atol=1e-4)


def test_the_probabilities_behind_a_bfloat16_gradient_sum_to_one():
    hidden, weight, bias, valid, chosen = head(50, 3000, 64, dtype=torch.float32)
    _, peak = taken_and_soft_maximum(hidden, weight, bias, valid, chosen, 1.0, torch.bfloat16)
    (to_bias,) = torch.autograd.grad(peak.sum(), bias)
    assert to_bias.sum().item() == pytest.approx(50.0, rel=2**-8)


def run(name, **environment):
    script = Path(__file__).with_name(name)
    variables = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1", **environment}
    done = subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_triton_kernels_give_the_same():
    """In a process of their own: Triton reads TRITON_INTERPRET when it is imported."""
    pytest.importorskip("triton")
    assert run("triton_equality.py", TRITON_INTERPRET="1").count("equal") == 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_triton_kernels_give_the_same_on_a_gpu():
    pytest.importorskip("triton")
    assert run("triton_equality.py").count("equal") == 12


def test_the_triton_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    pytest.importorskip("triton")
    assert run("triton_compiled.py", TRITON_CACHE_DIR=str(tmp_path)).split() == ["forward", "to_hidden", "to_weight"]
