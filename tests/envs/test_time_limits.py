"""`max_episode_steps` is one thing in `gym.make` and `gym.make_vec`, and what is registered changes no episode."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeAwareObservation, TimeLimit

import tokenlm  # noqa: F401
from tokenlm.envs import TokenLMEnv, TokenLMVectorEnv
from tokenlm.envs.registration import EpisodeLength

IDS = [name for name in gym.registry if name.startswith("TokenLM-")]


def ends(env, steps: int) -> list[tuple[bool, bool]]:
    """terminated and truncated of every step of one episode, at most `steps`."""
    env.reset(seed=0)
    found = []
    while len(found) < steps and not any(found[-1:][0] if found else ()):
        found.append(tuple(map(bool, env.step(7)[2:4])))
    return found


@pytest.mark.parametrize("ending", ["eos", "fixed"])
@pytest.mark.parametrize("limit", [None, -1, 3, 5, 20])
@pytest.mark.parametrize("tokens", [5, 50])
def test_a_vector_has_the_episodes_of_gym_make(ending, limit, tokens):
    settings = {"ending": ending, "max_new_tokens": tokens}
    own = {} if limit is None else {"max_episode_steps": limit}
    expected = ends(gym.make("TokenLM-Markov-v0", **settings, **own), 60)
    assert len(expected) == min(tokens, limit if limit in (3, 5, 20) else tokens)
    envs = gym.make_vec("TokenLM-Markov-v0", num_envs=2, **settings, **own)
    envs.reset(seed=0)
    for terminated, truncated in expected:
        got = envs.step(np.array([7, 7]))[2:4]
        assert [g.tolist() for g in got] == [[terminated] * 2, [truncated] * 2]
    synchronous = gym.make_vec("TokenLM-Markov-v0", num_envs=2, vectorization_mode="sync", **settings, **own)
    synchronous.reset(seed=0)
    for terminated, truncated in expected:
        got = synchronous.step(np.array([7, 7]))[2:4]
        assert [g.tolist() for g in got] == [[terminated] * 2, [truncated] * 2]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_new_episode_follows_a_time_limit(tiny, mode):
    envs = TokenLMVectorEnv(2, tiny, autoreset_mode=mode, max_episode_steps=3)
    envs.reset(seed=0)
    for round_ in range(3):
        truncated = [envs.step(np.array([6, 7]))[3].tolist() for _ in range(3)]
        assert truncated == [[False, False], [False, False], [True, True]], round_
        if mode == "NextStep":
            assert not envs.step(np.array([6, 7]))[3].any()
        if mode == "Disabled":
            envs.reset(options={"reset_mask": np.ones(2, bool)})


@pytest.mark.parametrize("name", IDS)
def test_every_id_registers_the_length_of_its_episodes(name):
    spec = gym.spec(name)
    tokens = spec.kwargs.get("max_new_tokens", 32)
    assert spec.max_episode_steps == tokens
    assert EnvSpec.from_json(spec.to_json()).max_episode_steps == tokens
    assert copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec


def test_the_registered_length_changes_no_episode():
    # TimeLimit would report the last token of a fixed text as truncated too, and cut one of 40 tokens at 16.
    for tokens in (16, 40):
        env = gym.make("TokenLM-Markov-v0", max_new_tokens=tokens)
        bare = TokenLMEnv(env.unwrapped.config)
        assert ends(env, 60) == ends(bare, 60) == [(False, False)] * (tokens - 1) + [(True, False)]
        assert ends(gym.make(env.spec), 60) == ends(bare, 60)


@pytest.mark.parametrize(
    ("settings", "steps"), [({}, 16), ({"max_new_tokens": 40}, 40), ({"max_episode_steps": 3}, 3)], ids=str
)
def test_an_environment_tells_its_own_length(settings, steps):
    assert gym.make("TokenLM-Markov-v0", **settings).spec.max_episode_steps == steps
    assert gym.make_vec("TokenLM-Markov-v0", num_envs=2, **settings).spec.max_episode_steps == steps
    assert copy.deepcopy(gym.make("TokenLM-Markov-v0", **settings)).spec.max_episode_steps == steps


def test_time_aware_observation():
    env = TimeAwareObservation(gym.make("TokenLM-Markov-v0", max_new_tokens=40), flatten=False, normalize_time=True)
    observation, _ = env.reset(seed=0)
    times = [float(observation["time"][0])]
    for _ in range(40):
        observation = env.step(7)[0]
        assert env.observation_space.contains(observation)
        times.append(float(observation["time"][0]))
    np.testing.assert_allclose(times, np.arange(41) / 40, rtol=1e-6)


def test_a_time_limit_of_an_episode_length_never_acts(tiny):
    assert not EpisodeLength(3) <= 5
    env = TimeLimit(TokenLMEnv(tiny), EpisodeLength(2))
    assert len(ends(env, 60)) == tiny.max_new_tokens


@pytest.mark.parametrize("limit", [0, -2, 1.5, True])
def test_what_is_no_time_limit(tiny, limit):
    with pytest.raises(ValueError, match="max_episode_steps must be a whole number of at least 1, or -1 for no limit"):
        TokenLMVectorEnv(2, tiny, max_episode_steps=limit)
