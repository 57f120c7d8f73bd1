"""Top-k and top-p: hand-worked sets, and what holds for any values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.agents.decoding import filter_values

# log of 1/2, 1/4, 1/8, 1/16, 1/16, out of order
HALVES = torch.tensor([1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 16], dtype=torch.float64).log()


def kept(values, **how) -> list[int]:
    return torch.isfinite(filter_values(values, **how)).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("how", "ids"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 1}, [1]),
        ({"top_k": 3}, [0, 1, 3]),
        ({"top_k": 4}, [0, 1, 2, 3]),  # of two equal ones the first
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 1e-9}, [1]),
        ({"top_p": 0.5}, [1]),
        ({"top_p": 0.51}, [1, 3]),
        ({"top_p": 0.75}, [1, 3]),
        ({"top_p": 0.9}, [0, 1, 2, 3]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        # of the two best, 2/3 and 1/3, the first holds 0.6; of all five it does not
        ({"top_k": 2, "top_p": 0.6}, [1]),
        ({"top_p": 0.6}, [1, 3]),
        # at temperature 1/2 the shares are 64, 16, 4, 1, 1 of 86, at 2 they are nearer to each other
        ({"top_p": 0.74, "temperature": 0.5}, [1]),
        ({"top_p": 0.75, "temperature": 0.5}, [1, 3]),
        ({"top_p": 0.75, "temperature": 2.0}, [0, 1, 3]),
    ],
)
def test_hand_worked(how, ids):
    assert kept(HALVES, **how) == ids


def test_every_row_for_itself_and_masked_actions_stay_masked():
    values = torch.tensor([[3.0, -math.inf, 1.0], [-math.inf, 0.0, 0.0]])
    assert filter_values(values, top_k=1).tolist() == [[3.0, -math.inf, -math.inf], [-math.inf, 0.0, -math.inf]]
    assert filter_values(values, top_p=0.999).tolist() == values.tolist()


ROWS = st.lists(st.floats(-20, 20) | st.just(-math.inf), min_size=1, max_size=12).filter(lambda r: max(r) > -math.inf)


@given(ROWS, st.none() | st.integers(1, 15), st.none() | st.floats(0.01, 1.0), st.floats(0.1, 5.0))
def test_what_holds_for_any_values(row, top_k, top_p, temperature):
    values = torch.tensor(row, dtype=torch.float64)
    filtered = filter_values(values, top_k, top_p, temperature)
    inside = filtered > -math.inf
    assert torch.equal(filtered[inside], values[inside])
    assert inside[values.argmax()]
    assert not inside.any() or filtered[inside].min() >= values[~inside].max() if (~inside).any() else True
    valid = int((values > -math.inf).sum())
    if top_k is not None and top_p is None:
        assert int(inside.sum()) == min(top_k, valid)
    if top_p is not None and top_k is None:
        shares = torch.softmax(values / temperature, -1)
        assert shares[inside].sum() >= top_p - 2e-6
        without_last = shares[inside].sum() - shares[inside].min()
        assert int(inside.sum()) == 1 or without_last < top_p
