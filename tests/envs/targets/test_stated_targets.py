"""A target of a user's own that states its states has the exact oracle; what does not agree is refused."""

import itertools
import math

import numpy as np
import pytest

from tokenlm.agents.evaluation import trivial_returns
from tokenlm.envs import EnvConfig, NotExact, Oracle, TokenLMDeviceEnv, TokenLMVectorEnv, World
from tokenlm.envs.targets import ScoringTarget, check_target

CORPUS = ("a b c", "b c a", "c a b", "a a b", "b b c", "c c a")


class Turns(ScoringTarget):
    """Likes a word the more often it has been written, up to twice: states are counts of 'a' and the last word."""

    def _counts(self, prefixes):
        return np.minimum((prefixes == 5).sum(1), 2)

    def scores(self, prefixes):
        rows = np.zeros((len(prefixes), self.vocab_size))
        rows[:, 5] = 1.5 * self._counts(prefixes)
        rows[np.arange(len(prefixes)), prefixes[:, -1]] = -1.0
        return rows

    @property
    def num_states(self):
        return 3 * self.vocab_size

    def state_of(self, prefixes):
        return self._counts(prefixes) * self.vocab_size + prefixes[:, -1]

    def next_states(self, states):
        tokens = np.arange(self.vocab_size)
        counts = np.minimum(states[:, None] // self.vocab_size + (tokens == 5), 2)
        return counts * self.vocab_size + tokens


def env(target=Turns, **settings) -> EnvConfig:
    base = {"corpus": CORPUS, "tokenizer": "word", "max_new_tokens": 4, "context_length": 8, "prompt_length": (0, 1)}
    return EnvConfig(**{**base, "target": target, **settings})


@pytest.mark.parametrize("ending", ["eos", "fixed"])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_its_optimum_is_that_of_all_texts(ending, temperature):
    config = env(ending=ending)
    world = World.of(config)
    oracle = Oracle(world, config)
    own = Turns(world.tokenizer)
    assert oracle.is_exact
    returns = []
    words = [5, 6, 7] if ending == "fixed" else [3, 5, 6, 7]
    for text in itertools.product(words, repeat=4):
        cut = text[: text.index(3) + 1] if 3 in text else text
        if 3 in text and any(t != 3 for t in text[len(cut) :]):
            continue
        total, prefix = 0.0, [0, 0, 0, 2]
        for token in cut:
            scores = own.scores(np.array([prefix]))[0][words]
            total += scores[words.index(token)] - math.log(np.exp(scores).sum())
            prefix = [*prefix, token]
        returns.append(total)
    window = np.array([[0] * 7 + [2]])
    soft = temperature * math.log(np.exp(np.array(returns) / temperature).sum()) if temperature else max(returns)
    assert oracle.optimal_value(window, temperature=temperature, horizon="episode")[0] == pytest.approx(soft, abs=1e-10)
    assert max(trivial_returns(config).values()) <= oracle.optimal_return(window)[0] + 1.0


def test_environments_agree_and_it_passes_its_own_test():
    config = env()
    check_target(Turns(World.of(config).tokenizer))
    numpy_env = TokenLMVectorEnv(3, config, autoreset_mode="SameStep")
    device_env = TokenLMDeviceEnv(3, config, device="cpu")
    one, _ = numpy_env.reset(seed=0)
    other, _ = device_env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(12):
        np.testing.assert_array_equal(one, other.numpy())
        np.testing.assert_allclose(numpy_env.target_log_probs(), device_env.target_log_probs().numpy(), atol=1e-12)
        actions = rng.choice([3, 5, 6, 7], 3)
        one, rewards, *_ = numpy_env.step(actions)
        other, rewards_too, *_ = device_env.step(device_env._rows.new_tensor(actions))
        np.testing.assert_allclose(rewards, rewards_too.numpy(), atol=1e-12)


def changed(**parts):
    return type("Changed", (Turns,), parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"next_states": lambda self, s: np.zeros((len(s), 3), int)}, "must return whole numbers of the shape"),
        ({"next_states": lambda self, s: Turns.next_states(self, s) * 1.0}, "must return whole numbers"),
        ({"next_states": lambda self, s: Turns.next_states(self, s) + 99}, "must lie between 0 and"),
        ({"num_states": 0}, "at least 1 and at most"),
        ({"num_states": 10**9}, "at least 1 and at most"),
    ],
)
def test_states_that_cannot_be_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        World(env(changed(**parts)))


def test_states_stated_in_part_are_refused():
    class Partly(ScoringTarget):
        context_size = 1
        num_states = 3

        def scores(self, prefixes):
            return np.zeros((len(prefixes), self.vocab_size))

    with pytest.raises(ValueError, match="states its states with num_states, but it lacks state_of, next_states"):
        World(env(Partly))


def test_states_that_disagree_with_the_texts_are_found():
    tokenizer = World.of(env()).tokenizer
    with pytest.raises(ValueError, match="to which next_states leads no text"):
        check_target(changed(next_states=lambda self, s: np.tile(np.arange(self.vocab_size), (len(s), 1)))(tokenizer))


def test_a_window_that_hides_the_state_is_said():
    config = env(context_length=3)
    with pytest.raises(NotExact, match="the exact optimum needs context_length 5"):
        Oracle(World.of(config), config).optimal_return(np.array([[0, 0, 2]]))
