"""The DQNs of Tianshou and TorchRL on the world whose optimum is known."""

import dataclasses
import importlib

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.envs import Episodes

NETWORK = {"embedding_size": 16, "hidden_size": 32}
FAST = {"num_envs": 16, "learning_rate": 3e-3, "learning_starts": 200, "batch_size": 64}
ALGORITHMS = {
    "TianshouDQN": {},
    "TianshouRainbow": {"v_min": -10.0},
    "TorchRLDQN": {},
}


def make(name, env="TokenLM-Tiny-v0", **settings):
    library = "tianshou" if name.startswith("Tianshou") else "torchrl"
    pytest.importorskip(library)
    module = importlib.import_module(f"tokenlm.agents.baselines.{library}")
    return getattr(module, name)(env, **{"network": NETWORK, "device": "cpu", **FAST, **ALGORITHMS[name], **settings})


def greedy_return(agent) -> float:
    """Return of the greedy policy, exact where every episode has one start."""
    episodes = Episodes(agent.world, agent.env_config, 1)
    episodes.start(np.zeros(1, np.int64))
    total, active = 0.0, np.ones(1, bool)
    while active.any():
        actions, _ = agent.predict(episodes.observe(), deterministic=True, action_masks=episodes.action_masks())
        rewards, terminated, truncated, _ = episodes.step(actions, active)
        total += float(rewards[0])
        active &= ~(terminated | truncated)
    return total


@pytest.mark.parametrize("name", ALGORITHMS)
def test_learns_most_of_what_there_is_to_learn(name):
    agent = make(name)
    oracle = gym.make("TokenLM-Tiny-v0").unwrapped.oracle
    best = oracle.most_likely_text().log_prob
    random = float(oracle.expected_return("random", np.array([[0] * 4 + [2]]))[0])
    agent.learn(8_000)
    assert (greedy_return(agent) - random) / (best - random) > 0.6


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_only_writes_what_masks_allow(name, tiny):
    # invalid_action="raise": an action that is masked would be an error while it learns.
    agent = make(name, dataclasses.replace(tiny, min_new_tokens=2))
    agent.learn(600)
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    only = np.zeros(agent.world.vocab_size, bool)
    only[[6, 9]] = True
    for deterministic in (False, True):
        actions, _ = agent.predict(np.stack([window] * 50), deterministic=deterministic, action_masks=only)
        assert set(actions) <= {6, 9}
    log_probs = agent.log_probs(np.stack([window] * 3), only)
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1.0)
    assert np.all(log_probs[:, ~only] == -np.inf)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_saved_and_loaded_it_is_the_same_policy(name, tiny, tmp_path):
    agent = make(name, tiny).learn(500)
    agent.save(tmp_path)
    again = type(agent).load(tmp_path, tiny, device="cpu")
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    assert np.array_equal(agent.log_probs(window), again.log_probs(window))
    assert (again.env_steps, again.epsilon) == (agent.env_steps, agent.epsilon)
    assert agent.env_steps == 512  # 32 steps of 16 environments


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_callback_stops_it(name, tiny):
    agent = make(name, tiny)
    seen = []

    def callback(given) -> bool:
        seen.append(given.env_steps)
        return len(seen) < 3

    assert agent.learn(10_000, callback) is agent
    assert seen == [16, 32, 48]


@pytest.mark.parametrize("name", ["TianshouDQN", "TorchRLDQN"])
def test_an_update_moves_the_values_towards_the_target(name):
    """γ = 0: the values of taken actions become their rewards, which are log p*."""
    agent = make(name, gamma=0.0, epsilon_end=1.0, updates_per_step=3).learn(4_000)
    env = gym.make("TokenLM-Tiny-v0").unwrapped
    observation, _ = env.reset(seed=0)
    valid = env.action_masks()
    learned = agent._scores(torch.from_numpy(observation)[None])[0].detach().numpy()
    np.testing.assert_allclose(learned[valid], env.target_log_probs()[valid], atol=0.2)


def test_mistakes_are_named(tiny):
    with pytest.raises(ValueError, match=r"no setting 'batch_sise'; did you mean 'batch_size'"):
        make("TianshouDQN", tiny, batch_sise=3)
