"""Other libraries' algorithms on the world whose optimum is known."""

import dataclasses
import importlib
import os

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # Tianshou's replay would be compiled for ten seconds

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents.baselines import sb3
from tokenlm.envs import Episodes

NETWORK = {"embedding_size": 16, "hidden_size": 32}
OFF_POLICY = {
    "num_envs": 8, "learning_rate": 5e-3, "learning_starts": 200, "train_freq": 1, "target_update_interval": 200,
    "batch_size": 64,
}  # fmt: skip
ON_POLICY = {"num_envs": 32, "learning_rate": 5e-3, "n_steps": 16}
LOOPED = {"num_envs": 16, "learning_rate": 5e-3, "learning_starts": 200, "batch_size": 64}
ALGORITHMS = {  # settings, environment steps, the library it needs
    "SB3DQN": (OFF_POLICY, 3_000, "stable_baselines3"),
    "SB3QRDQN": (OFF_POLICY, 3_000, "sb3_contrib"),
    "SB3PPO": (ON_POLICY, 6_144, "stable_baselines3"),
    "SB3A2C": ({**ON_POLICY, "n_steps": 5}, 6_000, "stable_baselines3"),
    "SB3MaskablePPO": (ON_POLICY, 6_144, "sb3_contrib"),
    "SB3RecurrentPPO": (ON_POLICY, 6_144, "sb3_contrib"),
    "TianshouDQN": (LOOPED, 3_500, "tianshou"),
    "TianshouRainbow": ({**LOOPED, "v_min": -10.0}, 6_000, "tianshou"),
    "TorchRLDQN": (LOOPED, 3_500, "torchrl"),
}
MASKED = [name for name in ALGORITHMS if name == "SB3MaskablePPO" or not name.startswith("SB3")]


def make(name, env="TokenLM-Tiny-v0", **settings):
    given, _, library = ALGORITHMS[name]
    pytest.importorskip(library)
    module = importlib.import_module(f"tokenlm.agents.baselines.{'sb3' if name.startswith('SB3') else library}")
    return getattr(module, name)(env, **{"network": NETWORK, "device": "cpu", **given, **settings})


@pytest.mark.parametrize("verbose", [0, 1])
def test_learning_leaves_no_folder_behind(verbose, tiny, tmp_path, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("torch")))  # made at torch's first use
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    make("SB3PPO", tiny, verbose=verbose).learn(1_024)
    assert not list(tmp_path.iterdir())
    assert ("time_elapsed" in capsys.readouterr().out) == bool(verbose)


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
def test_learns_most_of_what_there_is_to_learn(name):
    agent = make(name)
    start = np.array([[0] * 4 + [2]])
    oracle = gym.make("TokenLM-Tiny-v0").unwrapped.oracle
    best, random = oracle.most_likely_text().log_prob, float(oracle.expected_return("random", start)[0])
    agent.learn(ALGORITHMS[name][1])
    assert (greedy_return(agent) - random) / (best - random) > 0.85


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_policy_is_a_distribution_over_valid_actions(name, tiny):
    agent = make(name, tiny)
    env = gym.make("TokenLM-v0", config=tiny, min_new_tokens=2).unwrapped
    observation, _ = env.reset(seed=0)
    windows = np.stack([observation, env.step(6)[0]])
    masks = np.stack([env.action_masks()] * 2)
    for given, valid in ((None, np.stack([agent.world.valid] * 2)), (masks, masks)):
        log_probs = agent.log_probs(windows, given)
        assert log_probs.shape == valid.shape
        np.testing.assert_allclose(np.exp(log_probs).sum(1), 1.0, rtol=1e-6)
        assert np.all(log_probs[~valid] == -np.inf)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_masks_are_respected(name, deterministic, tiny):
    agent = make(name, tiny, seed=3)
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    only = np.zeros(agent.world.vocab_size, bool)
    only[[6, 9]] = True
    actions, _ = agent.predict(np.stack([window] * 50), deterministic=deterministic, action_masks=only)
    assert set(actions) <= {6, 9}
    single, state = agent.predict(window, state=None, deterministic=deterministic)
    assert single.shape == ()
    assert state is None


def test_samples_follow_the_policy(tiny):
    agent = make("SB3PPO", tiny)
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    expected = np.exp(agent.log_probs(window))[0]
    actions, _ = agent.predict(np.stack([window] * 20_000))
    found = np.bincount(actions, minlength=len(expected)) / 20_000
    assert np.abs(found - expected).max() < 0.02  # five standard deviations of the largest share


def test_value_methods_report_the_epsilon_greedy_policy(tiny):
    agent = make("SB3DQN", tiny, exploration_initial_eps=0.3, exploration_final_eps=0.3).learn(400)
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    assert agent.epsilon == pytest.approx(0.3)
    greedy, _ = agent.predict(window, deterministic=True)
    probabilities = np.exp(agent.log_probs(window))[0]
    count = int(agent.world.valid.sum())
    expected = np.where(agent.world.valid, 0.3 / count, 0.0)
    expected[greedy] += 0.7
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_saved_and_loaded_it_is_the_same_policy(name, tiny, tmp_path):
    agent = make(name, tiny).learn(300)
    agent.save(tmp_path)
    again = type(agent).load(tmp_path, tiny, device="cpu")
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    assert np.array_equal(agent.log_probs(window), again.log_probs(window))
    assert again.env_steps == agent.env_steps >= 300
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob("*.pkl"))
    before = again.env_steps
    assert again.learn(100).env_steps >= before + 100


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_callback_stops_it(name, tiny):
    agent = make(name, tiny)
    seen = []

    def callback(given) -> bool:
        seen.append(given.env_steps)
        return len(seen) < 3

    assert agent.learn(10_000, callback) is agent
    assert seen == [agent.num_envs, 2 * agent.num_envs, 3 * agent.num_envs]


@pytest.mark.parametrize("name", ["SB3PPO", "SB3DQN", "TianshouDQN", "TorchRLDQN"])
def test_one_seed_gives_one_result(name, tiny):
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    first, second = (make(name, tiny, seed=5).learn(600).log_probs(window) for _ in range(2))
    assert np.array_equal(first, second)


def test_the_transformer_reads_the_same_windows(tiny):
    network = {"name": "transformer", "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    agent = make("SB3PPO", tiny, network=network).learn(600)
    wide = np.array([[0, 0, 0, 0, 2, 6, 7]])
    # padding on the left is no part of the text
    np.testing.assert_allclose(agent.log_probs(wide), agent.log_probs(wide[:, 2:]), rtol=1e-5)


def test_recurrent_ppo_brings_its_own_recurrence(tiny):
    with pytest.raises(ValueError, match="must be 'lstm'"):
        make("SB3RecurrentPPO", tiny, network={"name": "transformer"})


def test_recurrent_ppo_reads_a_window_as_it_read_the_tokens_one_by_one(tiny):
    agent = make("SB3RecurrentPPO", tiny)
    text, state, starts = [2, 6, 7, 8], None, np.ones(1, bool)
    policy = agent.model.policy
    policy.set_training_mode(False)
    for end in range(1, len(text) + 1):
        window = np.array([[0] * (12 - end) + text[:end]])
        _, state = policy.predict(window, state, starts, deterministic=True)
        starts[:] = False
    logits = agent._scores(agent._inputs(np.array([[0] * 8 + text]), None)[0])
    hidden = agent.model.policy.action_net(agent.model.policy.lstm_actor.weight_hh_l0.new_tensor(state[0])[-1])
    np.testing.assert_allclose(
        hidden.log_softmax(-1).detach().numpy(), logits.log_softmax(-1).detach().numpy(), atol=1e-5
    )


def test_rewards_are_scaled_for_the_learner_alone(tiny):
    agent = make("SB3PPO", tiny, normalize_reward=True).learn(600)
    assert agent.model.get_vec_normalize_env().ret_rms.count > 500
    returns = [episode["r"] for episode in agent.model.ep_info_buffer]
    assert np.mean(returns) < -5  # nats, not units of the standard deviation


def test_mistakes_are_named(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"no setting 'learning_rat'; did you mean 'learning_rate'"):
        make("SB3PPO", tiny, learning_rat=1.0)
    with pytest.raises(ValueError, match="the network 'lstm' has no setting 'hidden'; did you mean 'hidden_size'"):
        make("SB3PPO", tiny, network={"hidden": 3})
    with pytest.raises(FileNotFoundError, match="no saved agent"):
        sb3.SB3PPO.load(tmp_path, tiny)
    make("SB3PPO", tiny).save(tmp_path)
    with pytest.raises(ValueError, match=r"load it with SB3PPO\.load"):
        sb3.SB3A2C.load(tmp_path, tiny)
    with pytest.raises(ValueError, match="another vocabulary"):
        sb3.SB3PPO.load(tmp_path, "TokenLM-Tiny-v0")
    with pytest.raises(ValueError, match="only settings of numbers"):
        make("SB3PPO", tiny, learning_rate=lambda _: 1e-3).save(tmp_path)


def test_a_missing_extra_is_named(tiny, monkeypatch):
    monkeypatch.setattr(sb3.SB3QRDQN, "library", "no_such_library")
    with pytest.raises(ImportError, match=r'pip install "tokenlm\[compare\]"'):
        make("SB3QRDQN", tiny)


@pytest.mark.parametrize("name", MASKED)
def test_what_obeys_masks_learns_without_an_invalid_action(name, tiny):
    """The environment raises at an action that is masked."""
    agent = make(name, dataclasses.replace(tiny, min_new_tokens=2), **({"n_steps": 8} if "PPO" in name else {}))
    assert agent.learn(600).env_steps >= 600


@pytest.mark.parametrize("name", ["TianshouDQN", "TorchRLDQN"])
def test_an_update_moves_the_values_towards_the_target(name):
    """γ = 0: the values of taken actions become their rewards, which are log p*."""
    agent = make(name, gamma=0.0, epsilon_end=1.0, updates_per_step=2, learning_rate=1e-2).learn(1_600)
    env = gym.make("TokenLM-Tiny-v0").unwrapped
    observation, _ = env.reset(seed=0)
    valid = env.action_masks()
    learned = agent._scores(torch.from_numpy(observation)[None])[0].detach().numpy()
    np.testing.assert_allclose(learned[valid], env.target_log_probs()[valid], atol=0.2)


def test_a_looped_librarys_settings_are_checked(tiny):
    with pytest.raises(ValueError, match=r"no setting 'batch_sise'; did you mean 'batch_size'"):
        make("TianshouDQN", tiny, batch_sise=3)
