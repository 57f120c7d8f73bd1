"""The batched environment: the same episodes as the single one, three ways to start again."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, Episodes, TokenLMEnv, TokenLMVectorEnv, World
from tokenlm.envs.counter_rng import uniform

SETTINGS = [
    {},
    {"ending": "fixed"},
    {"reward_every": 2, "min_new_tokens": 2},
    {"transition": "teacher"},
    {"target": "reference"},
    {"target": "markov", "vocab_size": 12, "order": 3},
    {"invalid_action": "random"},
]
N = 5


def valid_actions(envs, rng) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in envs.action_masks()])


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_step_for_step_as_the_single_one(tiny, settings, mode):
    envs = TokenLMVectorEnv(N, tiny, autoreset_mode=mode, **settings)
    singles = [TokenLMEnv(tiny, **settings) for _ in range(N)]
    observations, _ = envs.reset(seed=40)
    for i, env in enumerate(singles):
        assert np.array_equal(env.reset(seed=40 + i)[0], observations[i])
    over = np.zeros(N, bool)
    rng = np.random.default_rng(0)
    for _ in range(40):
        if mode == AutoresetMode.DISABLED and over.any():
            observations, _ = envs.reset(options={"reset_mask": over.copy()})
            for i in np.flatnonzero(over):
                assert np.array_equal(singles[i].reset()[0], observations[i])
            over[:] = False
        actions = valid_actions(envs, rng)
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        for i, env in enumerate(singles):
            if mode == AutoresetMode.NEXT_STEP and over[i]:
                assert np.array_equal(env.reset()[0], observations[i])
                assert (rewards[i], terminated[i], truncated[i]) == (0.0, False, False)
                continue
            observation, reward, *ends, info = env.step(actions[i])
            assert (reward, ends, info["log_prob"]) == (
                rewards[i],
                [terminated[i], truncated[i]],
                infos["log_prob"][i],
            )
            if any(ends) and mode == AutoresetMode.SAME_STEP:
                assert np.array_equal(infos["final_obs"][i], observation)
                assert infos["final_info"]["log_prob"][i] == info["log_prob"]
                assert infos["_final_obs"][i]
                observation = env.reset()[0]
            assert np.array_equal(observation, observations[i])
        over = np.zeros(N, bool) if mode == AutoresetMode.SAME_STEP else terminated | truncated
        for i in np.flatnonzero(~over):
            np.testing.assert_allclose(envs.target_log_probs()[i], singles[i].target_log_probs())


def test_make_vec_gives_the_native_one(tiny):
    envs = gym.make_vec("TokenLM-v0", num_envs=3, config=tiny)
    assert isinstance(envs.unwrapped, TokenLMVectorEnv)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert envs.observation_space.shape == (3, 12)
    assert envs.action_space.shape == (3,)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    for _ in range(30):
        envs.step(envs.action_space.sample())


def test_a_time_limit_reaches_it(tiny):
    envs = gym.make_vec("TokenLM-v0", num_envs=2, config=tiny, max_episode_steps=3)
    envs.reset(seed=0)
    truncated = [envs.step(np.array([6, 7]))[3].tolist() for _ in range(3)]
    assert truncated == [[False, False], [False, False], [True, True]]


def test_infos_carry_masks(tiny):
    envs = TokenLMVectorEnv(N, tiny, mask_in_info=True, autoreset_mode="SameStep")
    _, infos = envs.reset(seed=0)
    assert np.array_equal(infos["action_mask"], envs.action_masks())
    infos = envs.step(np.full(N, 3))[4]
    assert infos["_final_info"].all()
    assert infos["final_info"]["action_mask"].shape == (N, envs.world.vocab_size)


def test_prompts_and_texts(tiny):
    envs = TokenLMVectorEnv(2, tiny)
    envs.reset(options={"prompt": ["the cat", "the dog sees"]})
    envs.step(np.full(2, envs.world.vocabulary.id("bird")))
    assert envs.texts == ["the cat bird", "the dog sees bird"]
    decode = envs.world.tokenizer.decode
    assert [decode(p) for p in envs.prompts] == ["the cat", "the dog sees"]


def test_render(tiny):
    envs = TokenLMVectorEnv(2, tiny, render_mode="ansi")
    envs.reset(options={"prompt": "the cat"})
    envs.step(np.full(2, envs.world.vocabulary.id("sees")))
    assert all(frame.endswith(" sees\x1b[0m") for frame in envs.render())
    assert TokenLMVectorEnv(2, tiny).render() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), "state_dict"])
def test_copies_go_on_alike(tiny, copied):
    envs = TokenLMVectorEnv(N, tiny)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(7):
        envs.step(valid_actions(envs, rng))
    if copied == "state_dict":
        other = TokenLMVectorEnv(N, tiny)
        other.load_state_dict(envs.state_dict())
    else:
        other = copied(envs)
    for _ in range(20):
        actions = valid_actions(envs, rng)
        for a, b in zip(envs.step(actions)[:4], other.step(actions)[:4], strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_dynamics_are_the_same_in_torch(tiny, settings):
    config = EnvConfig.of(tiny, settings)
    world = World.of(config)
    pair = [Episodes(world, config, N), Episodes(world, config, N, like=torch.zeros(1))]
    active, rng = np.ones(N, bool), np.random.default_rng(0)
    for episodes in pair:
        episodes.seed_all(list(range(N)))
        episodes.start(episodes._rows)
    while active.any():
        masks = pair[0].action_masks()
        assert np.array_equal(masks, pair[1].action_masks().numpy())
        np.testing.assert_allclose(pair[0].target_log_probs(), pair[1].target_log_probs().numpy(), atol=1e-12)
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        results = pair[0].step(actions, active)
        others = pair[1].step(torch.from_numpy(actions), torch.from_numpy(active))
        for a, b in zip(results, others, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-12)
        assert np.array_equal(pair[0].observe(), pair[1].observe().numpy())
        active = active & ~(results[1] | results[2])


def test_counter_based_numbers_are_uniform_and_independent():
    seeds, counters = np.meshgrid(np.arange(300), np.arange(300))
    draws = [uniform(seeds.ravel(), counters.ravel(), stream) for stream in range(2)]
    for u in draws:
        assert 0 <= u.min() <= u.max() < 1
        counts = np.bincount((u * 20).astype(int), minlength=20)
        assert ((counts - 4500) ** 2 / 4500).sum() < 50  # χ² with 19 degrees of freedom, p about 1e-4
    table = draws[0].reshape(300, 300)
    correlations = [
        np.corrcoef(*draws)[0, 1],
        np.corrcoef(table[1:].ravel(), table[:-1].ravel())[0, 1],
        np.corrcoef(table[:, 1:].ravel(), table[:, :-1].ravel())[0, 1],
    ]
    assert max(map(abs, correlations)) < 4.5 / 300


def test_counter_based_numbers_are_the_same_in_torch():
    seeds, counters = np.arange(1000) * 7_654_321_987, np.arange(1000)
    got = uniform(torch.from_numpy(seeds), torch.from_numpy(counters), 1)
    assert np.array_equal(got.numpy(), uniform(seeds, counters, 1))
