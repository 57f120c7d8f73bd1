"""Prioritised episode replay."""

import math

import pytest
import torch

from tokenlm.agents.replay.episodes import EpisodeReplay, concatenate
from tokenlm.agents.replay.sampling import BatchSampler, episode_priorities

T = torch.tensor


def filled(count: int, capacity: int | None = None, start: int = 5) -> EpisodeReplay:
    replay = EpisodeReplay(capacity or count, 1, 3, 300)
    add(replay, range(count), start)
    return replay


def add(replay: EpisodeReplay, numbers, start: int = 5) -> None:
    for number in numbers:
        tokens = T([[2, start + number, 5, 5]])
        zeros, one = torch.zeros(1, 3), torch.ones(1, dtype=torch.int64)
        replay.add(tokens, tokens[:, 1:], zeros, one, 3 * one, one.bool())


def sampler(own, corpus=None, seed=0, **settings) -> BatchSampler:
    return BatchSampler(own, corpus, 10, 0.5 if corpus else 0.0, torch.Generator().manual_seed(seed), **settings)


def test_priorities_by_hand():
    errors, at = T([[0.0, 1.0, 3.0], [9.0, 2.0, 0.0], [7.0, 7.0, 7.0]]), T([[0, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()
    assert episode_priorities(errors, at, 0.9).tolist() == pytest.approx([0.9 * 3 + 0.1 * 2, 2.0, 0.0])


def test_without_priorities_nothing_changes():
    plain, zero = sampler(filled(40), filled(30)), sampler(filled(40), filled(30), priority_exponent=0.0)
    for _ in range(20):
        a, b = plain.sample(), zero.sample()
        assert torch.equal(a.tokens, b.tokens)
        assert a.rows is None
        assert a.weights is None


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_draws_follow_the_priorities(exponent):
    source = sampler(filled(4), priority_exponent=exponent)
    source.update_priorities(T([0, 1, 2, 3]), T([1.0, 4.0, 9.0, 16.0]))
    drawn = torch.cat([source.sample().tokens[:, 1] - 5 for _ in range(2_000)])
    expected = T([1.0, 4.0, 9.0, 16.0]) ** exponent
    expected = expected / expected.sum()
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / len(drawn)).sqrt()).all()


def test_weights_by_hand():
    source = sampler(filled(2), priority_exponent=1.0, importance_exponent=0.5)
    source.update_priorities(T([0, 1]), T([1.0, 3.0]))
    batch = source.sample()
    # Two episodes with probabilities ¼ and ¾: weights (2·¼)^-½ and (2·¾)^-½, over the larger.
    expected = {0: 1.0, 1: math.sqrt(0.5 / 1.5)}
    numbers = (batch.tokens[:, 1] - 5).tolist()
    assert set(numbers) == {0, 1}
    assert batch.weights.tolist() == pytest.approx([expected[n] for n in numbers])
    assert batch.rows.tolist() == numbers


def test_waiting_batches_keep_the_weights_they_were_drawn_with():
    source = sampler(filled(2), priority_exponent=1.0, importance_exponent=1.0)
    source.update_priorities(T([0, 1]), T([1.0, 3.0]))
    source.sample()
    source.update_priorities(T([0, 1]), T([1e3, 1e-3]))
    assert source._waiting
    while source._waiting:
        batch = source.sample()
        # Drawn with ¼ and ¾, whatever the priorities are now: weights 2 and ⅔, over the larger.
        assert batch.weights.tolist() == pytest.approx(T([1.0, 1 / 3])[batch.rows].tolist())


def test_weights_of_two_sources_stand_beside_their_rows():
    source = sampler(filled(2), filled(4, start=100), priority_exponent=1.0, importance_exponent=1.0)
    source.update_priorities(T([0, 1, -1, -2, -3, -4]), T([1.0, 3.0, 1.0, 1.0, 1.0, 2.0]))
    # Own: 2·¼ and 2·¾. Corpus: 4·⅕ three times and 4·⅖.
    chances = {0: 0.5, 1: 1.5, -1: 0.8, -2: 0.8, -3: 0.8, -4: 1.6}
    for _ in range(16):
        batch = source.sample()
        rows = batch.rows.tolist()
        assert batch.tokens[:, 1].tolist() == [r + 5 if r >= 0 else 99 - r for r in rows]
        assert [r >= 0 for r in rows] == sorted((r >= 0 for r in rows), reverse=True)
        # Over the largest of all batches dealt together, so that a batch's company does not matter.
        assert batch.weights.tolist() == pytest.approx([0.5 / chances[r] for r in rows])
        assert batch.weights.dtype == torch.float32
        assert batch.rows.dtype == torch.int64


def test_joined_batches_keep_rows_and_weights():
    source = sampler(filled(9), priority_exponent=1.0)
    one, other = source.sample(), source.sample()
    joined = concatenate([one, other])
    assert torch.equal(joined.rows, torch.cat([one.rows, other.rows]))
    assert torch.equal(joined.weights, torch.cat([one.weights, other.weights]))
    plain = concatenate([one, source.own.rows(T([0, 1]))])
    assert plain.rows is None
    assert plain.weights is None
    assert len(plain.tokens) == 12


def test_sources_keep_their_shares_and_their_rows():
    source = sampler(filled(20), filled(20, start=100), priority_exponent=1.0)
    source.update_priorities(T([3, -1 - 7]), T([1e6, 1e6]))
    own = corpus = 0
    for _ in range(16):
        batch = source.sample()
        for row, token in zip(batch.rows.tolist(), batch.tokens[:, 1].tolist(), strict=True):
            assert token == (row + 5 if row >= 0 else -1 - row + 100)
            own, corpus = own + (row >= 0), corpus + (row < 0)
    assert own == corpus == 80


def test_new_episodes_have_the_largest_priority():
    replay = filled(4, capacity=4)
    source = sampler(replay, priority_exponent=1.0)
    source.update_priorities(T([0, 1, 2, 3]), T([1e-3, 1e-3, 50.0, 1e-3]))
    assert source.sample().rows.unique().tolist() == [2]
    add(replay, [10, 11])  # into rows 0 and 1
    while source._waiting:
        source.sample()
    drawn = torch.cat([source.sample().rows for _ in range(200)])
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert ((share[:3] - 1 / 3).abs() < 5 * math.sqrt(2 / 9 / len(drawn)) + 1e-3).all()


def test_a_checkpoint_goes_on_with_the_same_batches():
    def fresh() -> BatchSampler:
        return sampler(filled(30), filled(30), priority_exponent=0.7)

    source, other = fresh(), fresh()
    source.update_priorities(T([1, 2, -3]), T([5.0, 0.1, 7.0]))
    for _ in range(3):
        source.sample()
    other.load_state_dict(source.state_dict())
    for _ in range(12):
        a, b = source.sample(), other.sample()
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.rows, b.rows)
        assert torch.equal(a.weights, b.weights)


def test_a_checkpoint_remembers_which_episodes_are_new():
    """Episodes added after the last draw still get the largest priority when a run goes on from a checkpoint."""

    def fresh() -> BatchSampler:
        return sampler(filled(4, capacity=4), priority_exponent=1.0)

    source, other = fresh(), fresh()
    source.update_priorities(T([0, 1, 2, 3]), T([1e-3, 1e-3, 50.0, 1e-3]))
    source.sample()
    add(source.own, [10, 11])
    other.own.load_state_dict(source.own.state_dict())
    other.load_state_dict(source.state_dict())
    seen = []
    for _ in range(40):
        a, b = source.sample(), other.sample()
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.weights, b.weights)
        seen += a.rows.tolist()
    assert {0, 1, 2} <= set(seen)


def test_a_checkpoint_without_priorities_is_refused():
    plain = sampler(filled(3))
    plain.sample()
    with pytest.raises(ValueError, match="lacks the priorities"):
        sampler(filled(3), priority_exponent=1.0).load_state_dict(plain.state_dict())
    # The other way round nothing is missing.
    source, other = sampler(filled(3), priority_exponent=1.0), sampler(filled(3))
    source.sample()
    other.load_state_dict(source.state_dict())
    assert other.sample().weights is None


def test_negative_exponents_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        sampler(filled(3), priority_exponent=-1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        sampler(filled(3), priority_exponent=1.0, importance_exponent=-0.1)
