"""The native vector environment as stable-baselines3 sees it."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor

import tokenlm  # noqa: F401
from tokenlm.agents.baselines.vec_env import TokenLMVecEnv
from tokenlm.envs import TokenLMEnv, TokenLMVectorEnv

N = 5
SETTINGS = [{}, {"ending": "fixed"}, {"reward_every": 0}, {"invalid_action": "random"}]


def vec_env(tiny, **settings) -> TokenLMVecEnv:
    return TokenLMVecEnv(TokenLMVectorEnv(N, tiny, autoreset_mode=AutoresetMode.SAME_STEP, **settings))


def valid_actions(masks, rng) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])


@pytest.mark.parametrize("settings", SETTINGS)
def test_step_by_step_as_the_libraries_own_loop_over_single_environments(tiny, settings):
    native = vec_env(tiny, **settings)
    looped = VecMonitor(DummyVecEnv([lambda: TokenLMEnv(tiny, **settings)] * N))
    for envs in (native, looped):
        envs.seed(7)
    assert np.array_equal(native.reset(), looped.reset())
    rng, ended = np.random.default_rng(0), 0
    for _ in range(60):
        masks = np.stack(native.env_method("action_masks"))
        assert np.array_equal(masks, np.stack(looped.env_method("action_masks")))
        actions = valid_actions(masks, rng)
        mine, theirs = native.step(actions), looped.step(actions)
        for a, b in zip(mine[:3], theirs[:3], strict=True):
            assert np.array_equal(a, b)
            assert a.dtype == b.dtype
        for over, a, b in zip(mine[2], mine[3], theirs[3], strict=True):
            assert over == ("terminal_observation" in a)
            if not over:
                assert a == {}
                continue
            ended += 1
            assert np.array_equal(a["terminal_observation"], b["terminal_observation"])
            assert a["TimeLimit.truncated"] == b["TimeLimit.truncated"]
            # VecMonitor adds up float32 rewards and rounds
            assert a["episode"]["r"] == pytest.approx(b["episode"]["r"], abs=1e-5)
            assert a["episode"]["l"] == b["episode"]["l"]
    assert ended > N


def test_infos_of_one_step_do_not_leak_into_the_next(tiny):
    envs = vec_env(tiny, min_new_tokens=3)
    envs.seed(0)
    envs.reset()
    _, _, _, infos = envs.step(np.full(N, 6))
    infos[0]["mine"] = 1
    assert "mine" not in envs.step(np.full(N, 6))[3][0]


def test_the_checks_of_stable_baselines3_pass(tiny):
    check_env(gym.make("TokenLM-v0", config=tiny, invalid_action="random").unwrapped)
    checked = VecCheckNan(vec_env(tiny), raise_exception=True)
    checked.seed(0)
    checked.reset()
    rng = np.random.default_rng(0)
    for _ in range(30):
        checked.step(valid_actions(np.stack(checked.env_method("action_masks")), rng))


def test_prompts_arrive_as_options(tiny):
    envs = vec_env(tiny)
    envs.set_options([{"prompt": word} for word in ("the", "the cat", "the dog", "the", "the cow")])
    envs.reset()
    assert envs.get_attr("texts")[0] == ["the", "the cat", "the dog", "the", "the cow"]
    envs.reset()  # options hold for one reset
    envs.set_options([{"prompt": "the"}] + [{}] * (N - 1))
    with pytest.raises(ValueError, match="same names"):
        envs.reset()


def test_attributes_and_methods_come_in_rows(tiny):
    envs = vec_env(tiny)
    envs.reset()
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("no_such_thing")
    assert envs.get_attr("num_envs", [0, 2]) == [N, N]
    assert np.array_equal(envs.env_method("action_masks", indices=1)[0], envs.env.action_masks()[1])
    assert envs.env_is_wrapped(gym.Wrapper, [0]) == [False]
    with pytest.raises(NotImplementedError, match="share one environment"):
        envs.set_attr("config", None)
    envs.close()


def test_another_autoreset_mode_is_refused(tiny):
    with pytest.raises(ValueError, match="SAME_STEP"):
        TokenLMVecEnv(TokenLMVectorEnv(2, tiny))
