"""RLlib's DQN and PPO on the world whose optimum is known; `make test-rllib` runs them in their own environment."""

import dataclasses
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import tokenlm
from tokenlm.envs import Episodes

ray = pytest.importorskip("ray")
pytest.importorskip("tree", reason="ray is here without RLlib")

from tokenlm.agents.baselines import rllib  # noqa: E402

pytestmark = pytest.mark.rllib

NETWORK = {"embedding_size": 16, "hidden_size": 32}
ALGORITHMS = {
    "DQN": (
        {
            "num_envs": 8, "lr": 3e-3, "train_batch_size": 64, "num_steps_sampled_before_learning_starts": 200,
            "target_network_update_freq": 200, "epsilon": [[0, 1.0], [3_000, 0.05]], "rollout_fragment_length": 1,
            "training_intensity": 8,
        },
        6_000,
    ),
    "PPO": (
        {"num_envs": 32, "lr": 5e-3, "train_batch_size": 512, "minibatch_size": 128, "num_epochs": 10},
        8_192,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _ray():
    yield
    ray.shutdown()


@pytest.fixture
def make():
    made = []

    def make_one(name, env="TokenLM-Tiny-v0", **settings):
        given = {"network": NETWORK, "device": "cpu", **ALGORITHMS[name][0], **settings}
        made.append(getattr(rllib, f"RLlib{name}")(env, **given))
        return made[-1]

    yield make_one
    for agent in made:
        agent.close()


def greedy_return(agent) -> float:
    """Return of the greedy policy, exact where every episode has one start."""
    episodes = Episodes(agent.world, agent.env_config, 1)
    episodes.start(np.zeros(1, np.int64))
    total, active = 0.0, np.ones(1, bool)
    while active.any():
        actions, _ = agent.predict(episodes.observe(), deterministic=True, action_masks=episodes.action_masks())
        episodes.check(actions, active)
        rewards, terminated, truncated, _ = episodes.step(actions, active)
        total += float(rewards[0])
        active &= ~(terminated | truncated)
    return total


@pytest.mark.parametrize("name", ALGORITHMS)
def test_learns_most_of_what_there_is_to_learn(name, make):
    agent = make(name)
    oracle = gym.make("TokenLM-Tiny-v0").unwrapped.oracle
    best = oracle.most_likely_text().log_prob
    random = float(oracle.expected_return("random", np.array([[0] * 4 + [2]]))[0])
    assert agent.learn(ALGORITHMS[name][1]) is agent
    assert (greedy_return(agent) - random) / (best - random) > 0.85


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_policy_is_a_distribution_over_valid_actions(name, make, tiny):
    agent = make(name, tiny)
    env = gym.make("TokenLM-v0", config=tiny, min_new_tokens=2).unwrapped
    window, _ = env.reset(seed=0)
    for given, valid in ((None, agent.world.valid), (env.action_masks(), env.action_masks())):
        log_probs = agent.log_probs(window, given)[0]
        np.testing.assert_allclose(np.exp(log_probs).sum(), 1.0, rtol=1e-6)
        assert np.all(log_probs[~valid] == -np.inf)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_saved_and_loaded_it_is_the_same_policy(name, make, tiny, tmp_path):
    agent = make(name, tiny).learn(600)
    agent.save(tmp_path)
    again = type(agent).load(tmp_path, tiny, device="cpu")
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    assert np.array_equal(agent.log_probs(window), again.log_probs(window))
    assert again.env_steps == agent.env_steps >= 600
    assert again.epsilon == agent.epsilon
    assert sorted(p.name for p in tmp_path.iterdir()) == ["agent.json", "weights.safetensors"]
    before = again.env_steps
    assert again.learn(100).env_steps >= before + 100
    again.close()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_callback_stops_it(name, make, tiny):
    agent = make(name, tiny)
    seen = []

    def callback(given) -> bool:
        seen.append(given.env_steps)
        return len(seen) < 3

    assert agent.learn(10_000, callback) is agent
    assert len(seen) == 3
    assert seen[0] == agent.num_envs  # later ones may hold rows that only start a new episode
    assert agent.env_steps == seen[-1] <= 3 * agent.num_envs
    assert agent.learn(100).env_steps >= seen[-1] + 100


def test_the_masked_policy_never_chooses_what_is_not_valid(make, tiny):
    # invalid_action "raise" is the environment's default: one wrong choice would end the test
    config = dataclasses.replace(tiny, min_new_tokens=3)
    assert make("PPO", config).learn(1_000).env_steps >= 1_000


def test_the_environment_is_the_native_one(make, tiny):
    agent = make("PPO", tiny)
    assert isinstance(agent.algorithm.env_runner.env.unwrapped, tokenlm.envs.TokenLMVectorEnv)
    assert agent.algorithm.config.num_env_runners == 0


def test_mistakes_are_named(make, tiny):
    with pytest.raises(ValueError, match=r"RLlibPPO has no setting 'num_epoch'; did you mean 'num_epochs'"):
        make("PPO", tiny, num_epoch=3)


def test_a_missing_extra_is_named():
    code = "import sys; sys.modules['ray'] = None; import tokenlm.agents.baselines.rllib"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.splitlines()[-1] == 'ImportError: RLlib needs the library ray; pip install "tokenlm[rllib]"'
