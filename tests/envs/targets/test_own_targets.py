"""Targets of a user's own: by name, as a class on the path, as an object; and what check_target finds."""

import dataclasses
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, TokenLMDeviceEnv, TokenLMEnv, TokenLMVectorEnv, World
from tokenlm.envs.targets import (
    MarkovTarget,
    NGramTarget,
    ReferenceTarget,
    ScoringTarget,
    check_target,
    register_target,
)

MODULE = """
import numpy as np
from tokenlm.envs.targets import ScoringTarget

class Short(ScoringTarget):
    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.lengths = np.array([float(len(tokenizer.decode([i]))) for i in range(self.vocab_size)])

    def scores(self, prefixes):
        return np.tile(-self.lengths, (len(prefixes), 1))

def nothing(tokenizer):
    return tokenizer

other = 3
"""


class Again(ScoringTarget):
    """Likes the token before last."""

    context_size = 2

    def scores(self, prefixes):
        rows = np.zeros((len(prefixes), self.vocab_size))
        rows[np.arange(len(prefixes)), prefixes[:, -2]] = 2.0
        return rows


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "liking.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_class_on_the_path(tiny, module):
    env = TokenLMEnv(tiny, target="liking:Short")
    env.reset(seed=0)
    row, id_of = env.target_log_probs(), env.world.vocabulary.id
    assert row[id_of("cow")] - row[id_of("horse")] == pytest.approx(2.0)
    assert row[3] == row.max()  # no letters at all
    assert np.exp(row).sum() == pytest.approx(1.0)
    assert env.step(id_of("cat"))[1] == pytest.approx(row[id_of("cat")])
    check_target(env.world.target.target)
    assert not env.oracle.is_exact
    assert "not 'liking:Short'" in env.oracle.why_not


def test_a_registered_name_and_a_class_and_an_object_are_the_same_target(tiny):
    register_target("again", Again)
    tokenizer = World.of(tiny).tokenizer
    named = [TokenLMVectorEnv(2, tiny, target=target) for target in ("again", Again, Again(tokenizer))]
    rows = []
    for env in named:
        env.reset(seed=3)
        env.step(np.array([7, 8]))
        rows.append(env.target_log_probs())
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])
    assert TokenLMEnv(tiny, target=Again).world is named[1].world
    device = TokenLMDeviceEnv(2, dataclasses.replace(tiny, target="again"), device="cpu")
    device.reset(seed=3)
    device.step(torch.tensor([7, 8]))
    np.testing.assert_allclose(device.target_log_probs().numpy(), rows[0], atol=1e-14)


def test_scores_on_the_device(tiny):
    class OnDevice(ScoringTarget):
        takes_tensors = True

        def scores(self, prefixes):
            assert isinstance(prefixes, torch.Tensor)
            return torch.nn.functional.one_hot(prefixes[:, -2], self.vocab_size) * 2.0

    tokenizer, prefixes = World.of(tiny).tokenizer, torch.tensor([[0, 2, 7, 8]])
    rows = OnDevice(tokenizer).log_probs(prefixes)
    np.testing.assert_allclose(rows.numpy(), Again(tokenizer).log_probs(prefixes.numpy()), atol=1e-14)


def test_gymnasium_takes_a_class(tiny):
    env = gym.make("TokenLM-v0", config=tiny, target=Again)
    env.reset(seed=0)
    assert math.isfinite(env.step(5)[1])


def test_values_are_zero_in_every_state(tiny):
    env = TokenLMEnv(tiny, target=Again, min_new_tokens=2)
    env.reset(seed=0)
    for _ in range(4):
        assert np.exp(env.target_log_probs()[env.action_masks()]).sum() == pytest.approx(1.0)
        env.step(5)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("agian", "target 'agian' is unknown; did you mean 'again'"),
        ("nowhere:Short", "target 'nowhere:Short': there is no module 'nowhere' on the path"),
        ("liking:Long", "the module liking has no 'Long'"),
        ("liking:nothing", "is not a Target: it lacks vocab_size, context_size, log_prob, log_probs"),
        (MarkovTarget(9), r"is over 9 tokens, but the vocabulary has 16"),
        (3, "target must be text, not 3"),
        (ScoringTarget, r"ScoringTarget has no method scores\(prefixes\)"),
    ],
)
def test_what_is_no_target_says_why(tiny, module, target, message):
    register_target("again", Again)
    with pytest.raises((ValueError, NotImplementedError), match=message):
        TokenLMEnv(tiny, target=target).reset(seed=0) and TokenLMEnv(tiny, target=target).target_log_probs()


@pytest.mark.parametrize("name", ["ngram", "a:b", ""])
def test_names_that_cannot_be_given(name):
    with pytest.raises(ValueError, match="cannot be registered"):
        register_target(name, Again)


@pytest.mark.parametrize(
    "target",
    [
        NGramTarget.fit([[5, 6, 7, 8], [6, 6, 8]], 9, 3),
        MarkovTarget(9, order=2, eos_probability=0.1),
        ReferenceTarget(9, 0.2),
    ],
)
def test_the_built_in_targets_are_consistent(target):
    check_target(target)


class Broken:
    """Uniform, and wrong in one way."""

    vocab_size, context_size = 8, None

    def __init__(self, **wrong):
        self.wrong = wrong

    def log_probs(self, prefixes, expected=None):
        if "torch" in self.wrong:
            prefixes = np.asarray(prefixes)
        shape = (len(prefixes), 8)
        rows = (
            np.full(shape, -math.log(8))
            if isinstance(prefixes, np.ndarray)
            else torch.full(shape, -math.log(8)).double()
        )
        rows = rows + self.wrong.get("mass", 0.0)
        rows[..., 7] = rows[..., 7] + self.wrong.get("last", 0.0)
        if "batch" in self.wrong:
            rows[:, 5] += 0.1 * len(prefixes)
            rows = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        if "padding" in self.wrong:
            rows[:, 5] += 0.1 * prefixes.shape[1]
            rows = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        return rows[:, :7] if "shape" in self.wrong else rows

    def log_prob(self, prefixes, tokens, expected=None):
        return self.log_probs(prefixes)[range(len(tokens)), tokens] + self.wrong.get("single", 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": 1}, r"must return \(8, 8\) float64, not \(8, 7\) float64"),
        ({"mass": 0.1}, r"must sum to 1, but after \[0, .*2\] they sum to 1\.1"),
        ({"last": 3.0}, "numbers of at most 0, but the largest is 0.9"),
        ({"last": math.nan}, "numbers of at most 0"),
        ({"single": 0.01}, r"log_prob must equal the entry of log_probs, but they differ by 0\.0\d+"),
        ({"batch": 1}, "log_probs of one prefix must equal its row in a batch"),
        ({"padding": 1}, "log_probs with more padding must equal log_probs with less"),
        ({"torch": 1}, "tensors as output, not ndarray"),
    ],
)
def test_check_target_names_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_target(Broken(**wrong))


class Sums(ScoringTarget):
    """Of a user who forgot to normalise: rows sum to V."""

    def log_probs(self, prefixes, expected=None):
        return self.scores(prefixes)

    def scores(self, prefixes):
        return np.zeros((len(prefixes), self.vocab_size))


class Late(Sums):
    """The same in one of its states alone, which short texts do not reach; it states its states."""

    @property
    def num_states(self):
        return 12

    def state_of(self, prefixes):
        return np.minimum((prefixes >= 5).sum(1), 11)

    def next_states(self, states):
        after = np.minimum(states + 1, 11)[:, None]
        return np.where(np.arange(self.vocab_size) >= 5, after, states[:, None])

    def scores(self, prefixes):
        late = (self.state_of(prefixes) == 11)[:, None]
        return np.zeros((len(prefixes), self.vocab_size)) - np.log(self.vocab_size) * np.where(late, 0.5, 1.0)


class Sure(Sums):
    """Log-probabilities above 0, as of a probability above 1."""

    def scores(self, prefixes):
        return np.full((len(prefixes), self.vocab_size), 800.0)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Sums, r"'Sums#\d+' must sum to 1, but after the tokens \[2\] they sum to 16; subtract the log-sum-exp"),
        (Sure, r"'Sure#\d+' must sum to 1, but after the tokens \[2\] they sum to inf"),
        (Late, "'Late' must sum to 1, but in the state 11 they sum to 4"),
    ],
)
def test_probabilities_that_are_none_are_refused_where_a_target_enters(tiny, target, words):
    """Rewards would be above 0 or infinite, and scores above 1."""
    with pytest.raises(ValueError, match=words):
        TokenLMEnv(tiny, target=target)


class WithMass(ReferenceTarget):
    """The target "reference" of a user, with the (V,) total probability of tokens changed."""

    def __init__(self, tokenizer, change):
        super().__init__(len(tokenizer.vocabulary))
        self.change = change

    def mass(self, among, expected):
        return self.change(super().mass(among, expected))


def test_a_closed_form_of_the_mass_must_be_the_sum_of_the_probabilities(tiny):
    """p* is divided by it, so that a wrong one would make rewards of another distribution."""
    tokenizer = World.of(tiny).tokenizer
    TokenLMEnv(tiny, target=WithMass(tokenizer, lambda mass: mass))
    for change in (lambda mass: mass / 2, lambda mass: mass[:1]):
        with pytest.raises(
            ValueError, match=r"mass of the target 'WithMass.*' must be the total probability .*, not \["
        ):
            TokenLMEnv(tiny, target=WithMass(tokenizer, change))
    physical = Again(tokenizer)
    physical.mass = 3.0
    with pytest.raises(ValueError, match=r"must be a method that gives .*; rename what is none"):
        TokenLMEnv(tiny, target=physical)


def test_an_automaton_of_a_users_own_is_asked_in_all_its_states(tiny):
    chain = MarkovTarget(16, order=2, seed=1)
    TokenLMEnv(tiny, target=chain)
    wrong = MarkovTarget(16, order=2, seed=2)
    wrong._tables["log_prob"][5] += 1.0
    with pytest.raises(ValueError, match=r"must sum to 1, but in the state 5 they sum to 2\.718"):
        TokenLMEnv(tiny, target=wrong)


def test_scores_of_the_wrong_shape(tiny):
    class One(ScoringTarget):
        def scores(self, prefixes):
            return np.zeros(self.vocab_size)

    with pytest.raises(ValueError, match=r"scores must have shape \(1, 16\) \(B, V\), not \(16,\)"):
        One(World.of(tiny).tokenizer).log_probs(np.array([[2]]))


def test_an_arpa_file_in_place_of_fitting(tiny, tmp_path):
    tiny = dataclasses.replace(tiny, ending="fixed")
    fitted = TokenLMEnv(tiny)
    path = tmp_path / "model.arpa"
    fitted.world.target.target.to_arpa(path, fitted.world.vocabulary)
    read = TokenLMEnv(tiny, arpa=path)
    for env in (fitted, read):
        env.reset(seed=0)
    for _ in range(5):
        np.testing.assert_allclose(read.target_log_probs(), fitted.target_log_probs(), atol=1e-9)
        np.testing.assert_allclose(read.optimal_q(0.0), fitted.optimal_q(0.0), atol=1e-8)
        action = int(fitted.target_log_probs().argmax())
        assert read.step(action)[1] == pytest.approx(fitted.step(action)[1])
    assert TokenLMEnv(tiny, arpa=str(path)).world is read.world
    NGramTarget.fit([[5, 6]], 16, 2).to_arpa(path, fitted.world.vocabulary)
    assert TokenLMEnv(tiny, arpa=str(path)).world is not read.world  # the file is another one
    with pytest.raises(FileNotFoundError, match="no ARPA file"):
        TokenLMEnv(tiny, arpa="nowhere.arpa")
    with pytest.raises(ValueError, match="arpa belongs to the target 'ngram', not to 'markov'"):
        EnvConfig(target="markov", arpa="model.arpa")


@pytest.mark.parametrize("transition", ["free", "teacher"])
def test_reference_compares_with_the_token_at_the_same_place(tiny, transition):
    config = dataclasses.replace(tiny, target="reference", epsilon=0.2, transition=transition, invalid_action="raise")
    env = TokenLMEnv(config)
    env.reset(seed=0, options={"prompt": "the", "target": "cat sees the dog"})
    valid = int(env.world.valid.sum())
    # ε/V goes to every token; conditioned on the valid ones.
    mass = 0.8 + 0.2 * valid / 16
    id_of = env.world.vocabulary.id
    hit, miss = math.log((0.8 + 0.2 / 16) / mass), math.log(0.2 / 16 / mass)
    # One word too many at the front: free running, all that follows stands at the wrong place.
    written = ["the", "cat", "sees", "dog"]
    rewards = [env.step(id_of(word))[1] for word in written]
    np.testing.assert_allclose(rewards, [miss, miss, miss, hit])
    np.testing.assert_allclose(env.step(3)[1], hit)  # <eos> behind the target's last word
    assert env.text == ("the the cat sees dog" if transition == "free" else "the cat sees the dog")
