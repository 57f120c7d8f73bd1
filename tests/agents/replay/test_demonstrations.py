"""Corpus episodes as transitions: what the environment would have shown and paid."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

import tokenlm  # noqa: F401
from tokenlm.agents.baselines import sb3
from tokenlm.agents.replay.demonstrations import demonstrations
from tokenlm.envs import World

NETWORK = {"embedding_size": 16, "hidden_size": 32}


@pytest.mark.parametrize("settings", [{}, {"ending": "fixed"}, {"reward_every": 0}, {"context_length": 5}])
def test_the_environment_shows_and_pays_the_same(tiny, settings):
    config = dataclasses.replace(tiny, max_new_tokens=4, **settings)
    world = World.of(config)
    found = demonstrations(world, config, 400, seed=0)
    env = gym.make("TokenLM-v0", config=config).unwrapped
    begins, played = True, 0
    for i in range(400):
        window = found.observation[i]
        if begins:
            prompt = world.tokenizer.decode([t for t in window if t > 4])
            observation, _ = env.reset(options={"prompt": prompt})
            # A document too long for an episode also starts within; its window has no <bos> the prompt could give.
            running = np.array_equal(observation, window)
        if running:
            observation, reward, terminated, truncated, _ = env.step(found.actions[i])
            assert np.array_equal(observation, found.after[i])
            assert reward == pytest.approx(found.rewards[i], rel=1e-6)
            assert terminated == found.terminated[i]
            assert truncated <= found.truncated[i]  # where nobody may write <eos>, a short document breaks off
            played += 1
        begins = found.terminated[i] or found.truncated[i]
    assert played > 200


def test_side_by_side_every_environment_goes_through_a_stretch_of_its_own(tiny):
    found = demonstrations(World.of(tiny), tiny, 60, seed=1)
    steps = list(found.side_by_side(4))
    assert len(steps) == 15
    for env in range(4):
        stretch = slice(env * 15, env * 15 + 15)
        assert np.array_equal([s.actions[env] for s in steps], found.actions[stretch])
        assert np.array_equal([s.truncated[env] for s in steps[:-1]], found.truncated[stretch][:-1])
        assert steps[-1].truncated[env] or steps[-1].terminated[env]


@pytest.mark.parametrize("name", ["PPO", "A2C", "MaskablePPO", "RecurrentPPO"])
def test_a_cloned_policy_is_close_to_the_language_model(name):
    if name in ("MaskablePPO", "RecurrentPPO"):
        pytest.importorskip("sb3_contrib")
    env = gym.make("TokenLM-Tiny-v0").unwrapped
    observation, _ = env.reset(seed=0)
    target, valid = env.target_log_probs(), env.action_masks()
    agent = getattr(sb3, f"SB3{name}")("TokenLM-Tiny-v0", network=NETWORK, device="cpu", learning_rate=5e-3)

    def kl() -> float:
        log_probs = agent.log_probs(observation)[0][valid]
        return float((np.exp(target[valid]) * (target[valid] - log_probs)).sum())

    before = kl()
    agent.pretrain(40_000)
    assert kl() < 0.05 < before
    assert agent.env_steps == 0


def test_a_prefilled_replay_holds_the_corpus_and_is_learned_from():
    agent = sb3.SB3DQN(
        "TokenLM-Tiny-v0", network=NETWORK, device="cpu", num_envs=8, learning_rate=3e-3, learning_starts=0,
        train_freq=1, gradient_steps=4, target_update_interval=80, exploration_initial_eps=0.05,
    ).pretrain(4_000)  # fmt: skip
    buffer = agent.model.replay_buffer
    assert buffer.size() * 8 == 4_000
    assert np.all(buffer.rewards[: buffer.size()] < 0)
    agent.learn(2_000)
    env = gym.make("TokenLM-Tiny-v0").unwrapped
    observation, _ = env.reset(seed=0)
    total, over = 0.0, False
    while not over:
        action, _ = agent.predict(observation, deterministic=True)
        observation, reward, over, _, _ = env.step(action)
        total += reward
    assert total > -2.5  # the best there is: -2.03; a random policy: -5.39
