"""Phrases: what is mined, what the wrapper writes, pays and masks."""

import itertools
import warnings
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, PhraseActions, Phrases, Vocabulary, World, mine_phrases
from tokenlm.envs.phrases import phrases_of


def wrapped(config: EnvConfig, phrases: Phrases | int = 12, **settings) -> PhraseActions:
    return PhraseActions(gym.make("TokenLM-v0", config=config, **settings), phrases)


@pytest.mark.parametrize("ending", ["eos", "fixed"])
def test_the_phrases_that_save_most_decisions(tiny, ending):
    config = EnvConfig.of(tiny, {"ending": ending})
    world = World.of(config)
    documents = world.documents["train"]
    counts: Counter = Counter()
    for number in range(len(documents)):
        ids = [*documents[number].tolist(), *([Vocabulary.EOS] if ending == "eos" else [])]
        for size in (2, 3):
            counts.update(tuple(ids[i : i + size]) for i in range(len(ids) - size + 1))
    gain = {phrase: n * (len(phrase) - 1) for phrase, n in counts.items() if n > 1}
    mined = mine_phrases(world, config, 15, 3)
    assert len(mined) == 15
    assert [gain[p] for p in mined.ids] == sorted(gain.values(), reverse=True)[:15]
    assert (Vocabulary.EOS in itertools.chain(*mined.ids)) == (ending == "eos")


def test_phrases_do_not_cross_documents():
    config = EnvConfig(target="markov", vocab_size=8, order=2, ending="fixed", max_new_tokens=6, prompt_length=(0, 0))
    world = World.of(config)
    documents = world.documents["train"]
    inside = {tuple(d[i : i + 2]) for d in (documents[n].tolist() for n in range(len(documents))) for i in range(5)}
    assert set(mine_phrases(world, config, 10**4, 2).ids) <= inside


def test_a_source_is_not_mined(tiny):
    """What stands before `<sep>` is read, never written."""
    from types import SimpleNamespace

    from tokenlm.envs.tasks import Documents

    sep = Vocabulary.SEP
    pairs = [[5, 6, 7, sep, 8, 9]] * 3 + [[6, 7, sep, 9, 8, 9]] * 2
    valid = np.ones(12, bool)
    valid[:5] = False
    world = SimpleNamespace(documents={"train": Documents.from_ids(pairs, 0, 0)}, vocab_size=12, valid=valid)
    assert mine_phrases(world, tiny, 10, 3).ids == ((8, 9), (9, 8, 9), (9, 8))


def test_nothing_that_comes_twice_is_an_error():
    config = EnvConfig(corpus=[f"a{i} b{i}" for i in range(30)], tokenizer="word", ending="fixed")
    with pytest.raises(ValueError, match="no sequence of 2 to 4 tokens occurs 2 times"):
        mine_phrases(World.of(config), config, 5, 4)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (((5,),), "a phrase has at least 2 tokens, not 1"),
        (((5, 3, 6),), "with <eos> only as the last"),
        (((5, 12),), "must consist of ids below 12"),
    ],
)
def test_phrases_nobody_could_write_are_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        Phrases(ids, 12)


def test_phrases_given_as_texts(tiny):
    world = World.of(tiny)
    (ids,) = phrases_of(["the cat"], world).ids
    assert world.tokenizer.decode(list(ids)) == "the cat"
    with pytest.raises(ValueError, match="'the zebra' has tokens that are never valid actions"):
        phrases_of(["the zebra"], world)


@pytest.mark.parametrize(
    "settings",
    [{}, {"ending": "fixed"}, {"min_new_tokens": 3}, {"reward_every": 0}, {"mask_in_info": True}],
)
def test_both_checkers_pass_without_a_warning(check_env_sb3, tiny, settings):
    env = wrapped(tiny, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # That it is a wrapper is the point.
        warnings.filterwarnings("ignore", ".*is different from the unwrapped version")
        check_env(env, skip_render_check=True)
        check_env_sb3(env)


@pytest.mark.parametrize("settings", [{}, {"reward_every": 3}, {"ending": "fixed"}, {"min_new_tokens": 4}])
def test_a_phrase_is_its_tokens_one_after_the_other(tiny, settings):
    """Observation, end and Σ γ^i r_i are those of the same tokens in the plain environment."""
    env = PhraseActions(gym.make("TokenLM-v0", config=tiny, **settings), 12, gamma=0.9)
    plain = gym.make("TokenLM-v0", config=tiny, **settings)
    phrases, rng, seen = env.phrases, np.random.default_rng(0), Counter()
    for seed in range(25):
        observation, _ = env.reset(seed=seed)
        plain.reset(seed=seed)
        over = False
        while not over:
            mask = env.action_masks()
            assert (mask[: phrases.vocab_size] == plain.unwrapped.action_masks()).all()
            action = int(rng.choice(np.flatnonzero(mask)))
            observation, reward, terminated, truncated, info = env.step(action)
            expected, log_prob = 0.0, 0.0
            for i, token in enumerate(phrases.table[action, : info["duration"]]):
                one, paid, *ends, after = plain.step(int(token))
                expected += 0.9**i * paid
                log_prob += after["log_prob"]
            assert reward == pytest.approx(expected)
            assert info["log_prob"] == pytest.approx(log_prob)
            assert (observation == one).all()
            assert [terminated, truncated] == ends
            over = terminated or truncated
            assert over or info["duration"] == phrases.lengths[action]
            seen[bool(phrases.ends[action]), info["duration"] > 1] += 1
    assert seen[False, True] > 5
    if settings.get("ending") != "fixed":
        assert seen[True, True] > 0


def test_an_end_is_masked_until_its_tokens_would_be_enough(tiny):
    world = World.of(tiny)
    the, cat = (world.vocabulary.id(w) for w in ("the", "cat"))
    end = Vocabulary.EOS
    env = wrapped(tiny, Phrases(((cat, end), (the, cat, end), (the, cat)), world.vocab_size), min_new_tokens=2)
    env.reset(seed=0)
    first = world.vocab_size
    assert env.action_masks()[first:].tolist() == [False, True, True]
    assert env.action_space.valid[first:].tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="the phrase 'cat', is masked in this state"):
        env.step(first)
    assert env.unwrapped.written == 0
    env.step(the)
    assert env.action_masks()[first:].tolist() == [True, True, True]
    assert env.step(first)[2]


def test_actions_out_of_range_and_other_environments_are_refused(tiny):
    env = wrapped(tiny)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"action {env.phrases.num_actions} is out of range"):
        env.step(env.phrases.num_actions)
    with pytest.raises(ValueError, match="PhraseActions wraps TokenLM environments"):
        PhraseActions(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="need the transition 'free', not 'teacher'"):
        wrapped(tiny, transition="teacher")


def test_many_environments_side_by_side(tiny):
    envs = gym.make_vec(
        "TokenLM-v0", num_envs=3, vectorization_mode="sync", wrappers=[lambda e: PhraseActions(e, 12)], config=tiny
    )
    envs.reset(seed=0)
    singles = [wrapped(tiny) for _ in range(3)]
    for number, env in enumerate(singles):
        env.reset(seed=number)
    actions = np.array([singles[0].phrases.vocab_size + i for i in range(3)])
    observations, rewards, *_, infos = envs.step(actions)
    for row, env in enumerate(singles):
        observation, reward, *_, info = env.step(actions[row])
        assert (observations[row] == observation).all()
        assert rewards[row] == pytest.approx(reward)
        assert infos["duration"][row] == info["duration"]
