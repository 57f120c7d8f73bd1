"""One episode on Python numbers has the same course, bit for bit, as a batch of one in arrays."""

import copy
import pickle

import numpy as np
import pytest

from tokenlm.envs import EnvConfig, Episodes, TokenLMEnv, World
from tokenlm.envs.arrays import namespace, search
from tokenlm.envs.counter_rng import uniform
from tokenlm.envs.one_row import OneRow

TARGETS = [
    {},
    {"order": 1},
    {"target": "markov", "vocab_size": 12, "order": 3},
    {"target": "factored", "vocab_size": 12, "context_length": 40},
]
SETTINGS = [
    {},
    {"ending": "fixed"},
    {"min_new_tokens": 3},
    {"reward_every": 3, "log_prob_weight": 0.5},
    {"reward_every": 0, "prompt_length": (2, 5)},
    {"invalid_action": "random", "min_new_tokens": 2},
]


def both(tiny, settings):
    """The same episode on numbers and as a batch of one."""
    env = TokenLMEnv(tiny, max_new_tokens=8, **settings)
    pair = [env._episodes, Episodes(env.world, env.config, 1)]
    for episodes in pair:
        episodes.seed_all([7])
        episodes.start(np.zeros(1, np.int64))
    return pair


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_numbers_and_arrays_have_the_same_course(tiny, target, settings):
    numbers, arrays = both(tiny, {**target, **settings})
    assert type(numbers) is OneRow
    rng = np.random.default_rng(0)
    for _ in range(40):
        masks = arrays.action_masks()
        np.testing.assert_array_equal(numbers.action_masks(), masks, strict=True)
        np.testing.assert_array_equal(numbers.target_log_probs(), arrays.target_log_probs(), strict=True)
        choices = range(len(masks[0])) if arrays.config.invalid_action == "random" else np.flatnonzero(masks)
        action = int(rng.choice(choices))
        found, expected = numbers.write(action), arrays.write(action)
        assert found == expected
        assert [type(value) for value in found] == [float, bool, bool, float]
        np.testing.assert_array_equal(numbers.observe(), arrays.observe(), strict=True)
        np.testing.assert_equal(numbers.state_dict(), arrays.state_dict())
        if found[1] or found[2]:
            numbers.start(0), arrays.start(np.zeros(1, np.int64))


def test_a_copy_and_a_saved_state_go_on_alike(tiny):
    numbers, arrays = both(tiny, {"reward_every": 0})
    word = int(numbers.world.words[0])
    for episodes in (numbers, arrays):
        episodes.write(word)
    again = OneRow(numbers.world, numbers.config)
    again.load_state_dict(arrays.state_dict())
    copies = [copy.deepcopy(numbers), pickle.loads(pickle.dumps(numbers)), again]
    expected = [numbers.write(word) for _ in range(7)]
    for one in copies:
        assert [one.write(word) for _ in range(7)] == expected


def test_observations_are_copies(tiny):
    numbers, _ = both(tiny, {})
    before = numbers.observe()
    seen = before.copy()
    numbers.write(int(numbers.world.words[0]))
    np.testing.assert_array_equal(before, seen)


@pytest.mark.parametrize("settings", [{"no_repeat": 1}, {"target": "reference"}, {"transition": "teacher"}])
def test_what_needs_arrays_is_a_batch_of_one(tiny, settings):
    assert type(TokenLMEnv(tiny, **settings)._episodes) is Episodes


@pytest.mark.parametrize("action", [-1, 10**6, 0])
def test_both_refuse_an_action_in_the_same_words(tiny, action):
    said = []
    for episodes in both(tiny, {}):
        with pytest.raises(ValueError, match=f"action {action} ") as error:
            episodes.write(action)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_random_numbers_of_a_row_are_those_of_an_array():
    rng = np.random.default_rng(0)
    seeds, counters = rng.integers(2**62, size=200), rng.integers(2**40, size=200)
    found = [uniform(int(seed), int(counter), 3) for seed, counter in zip(seeds, counters, strict=True)]
    assert found == uniform(seeds, counters, 3).tolist()


def test_scalars_do_what_numpy_does():
    xp, rng = namespace(1), np.random.default_rng(0)
    table = np.sort(rng.integers(100, size=20))
    for x, y, flag in zip(rng.integers(-5, 120, 50), rng.normal(size=50) * 9, rng.random(50) < 0.5, strict=True):
        number, real, said = int(x), float(y), bool(flag)
        assert xp.where(said, number, 3) == np.where(flag, x, 3)
        assert xp.clip(number, 0, 9) == np.clip(x, 0, 9)
        assert xp.astype(real, xp.int64) == np.asarray(y).astype(np.int64)
        assert xp.logical_not(said) == np.logical_not(flag)
        assert xp.zeros_like(number, dtype=xp.float64) == 0.0
        assert search(memoryview(table), number) == np.searchsorted(table, x)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_an_automaton_takes_numbers_as_it_takes_arrays(sentences, order):
    world = World.of(EnvConfig(corpus=sentences, tokenizer="word", order=order))
    automaton = world.target.automaton
    states, tokens = (grid.ravel() for grid in np.indices((automaton.num_states, world.vocab_size)))
    log_probs, following = automaton.advance(states, tokens)
    for state, token, log_prob, after in zip(
        *(a.tolist() for a in (states, tokens, log_probs, following)), strict=True
    ):
        assert automaton.advance(state, token) == (log_prob, after)
    prefixes = np.random.default_rng(0).integers(world.vocab_size, size=(50, 5))
    assert [automaton.state_of(row) for row in prefixes.tolist()] == automaton.state_of(prefixes).tolist()
