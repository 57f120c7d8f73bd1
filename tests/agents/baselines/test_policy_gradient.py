"""REINFORCE and GRPO against gradients and optima that are known exactly."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

from tokenlm.agents.baselines.policy_gradient import GRPO, REINFORCE, rewards_to_go
from tokenlm.agents.evaluation.evaluate import play
from tokenlm.agents.replay.episodes import EpisodeReplay

NETWORK = {"embedding_size": 16, "hidden_size": 32}
SETTINGS = {"network": NETWORK, "device": "cpu", "num_envs": 32}
KINDS = {
    "reinforce": (REINFORCE, {"learning_rate": 1e-2, "entropy_bonus": 0.01}),
    "grpo": (GRPO, {"learning_rate": 1e-2, "entropy_bonus": 0.01}),
}


def make(name, env="TokenLM-Tiny-v0", **settings):
    kind, given = KINDS[name]
    return kind(env, **{**SETTINGS, **given, **settings})


def every_text(agent):
    """All 81 texts of TokenLM-Tiny-v0 as a batch, with their rewards."""
    env = gym.make("TokenLM-Tiny-v0").unwrapped
    horizon = env.config.max_new_tokens
    texts = list(itertools.product(env.world.words.tolist(), repeat=horizon))
    rewards = []
    for text in texts:
        env.reset(seed=0)
        rewards.append([env.step(token)[1] for token in text])
    count = len(texts)
    actions = torch.tensor(texts)
    replay = EpisodeReplay(count, 1, horizon, agent.world.vocab_size, keeps_actions=True)
    replay.add(
        tokens=torch.cat([torch.full((count, 1), 2), actions], 1), actions=actions,
        rewards=torch.tensor(rewards, dtype=torch.float32),
        prompt_lengths=torch.ones(count, dtype=torch.int64), lengths=torch.full((count,), horizon),
        terminated=torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    return replay.rows(torch.arange(count))


def test_rewards_to_go():
    rewards = torch.tensor([[-1.0, -2.0, -4.0], [0.0, 0.0, -8.0]])
    assert rewards_to_go(rewards, 1.0).tolist() == [[-7.0, -6.0, -4.0], [-8.0, -8.0, -8.0]]
    assert rewards_to_go(rewards, 0.5).tolist() == [[-3.0, -4.0, -4.0], [-2.0, -4.0, -8.0]]


def test_the_gradient_of_reinforce_is_that_of_the_expected_return():
    """Σ over all texts of π(text) times the sampled gradient is ∇ Σ π(text) R(text), whatever the baseline says."""
    agent = make("reinforce", entropy_bonus=0.0, normalize_advantage=False, value_weight=0.0)
    torch.nn.init.normal_(agent.network.head.weight, std=0.5)
    torch.nn.init.constant_(agent.network.value_head.bias, -3.0)
    batch = every_text(agent)
    horizon = batch.actions.shape[1]
    log_pi, _, _ = agent._log_policy(batch)
    of_text = log_pi.sum(1).exp()
    assert of_text.sum().item() == pytest.approx(1.0, abs=1e-5)
    exact = torch.autograd.grad((of_text * batch.rewards.sum(1)).sum(), agent.network.head.weight)[0]
    targets = agent._targets(batch)
    estimate = torch.zeros_like(exact)
    for row, weight in enumerate(of_text.tolist()):
        one = type(batch)(**{n: v[row : row + 1] if torch.is_tensor(v) else None for n, v in vars(batch).items()})
        loss = agent._loss(one, targets[row : row + 1])
        estimate -= weight * horizon * torch.autograd.grad(loss, agent.network.head.weight)[0]
    torch.testing.assert_close(estimate, exact, rtol=1e-3, atol=1e-4)


def test_the_advantage_of_grpo_is_relative_to_the_group():
    agent = make("grpo", num_envs=4, group_size=2)
    batch = every_text(agent)
    rows = torch.tensor([0, 1, 50, 80])
    batch = type(batch)(**{n: v[rows] if torch.is_tensor(v) else v for n, v in vars(batch).items()})
    advantage = agent._targets(batch)
    returns = batch.rewards.sum(1)
    for first in (0, 2):
        better = first + int(returns[first] < returns[first + 1])
        worse = 2 * first + 1 - better
        # with two values, (x - mean)/std is ±1/√2
        torch.testing.assert_close(advantage[better], torch.full((4,), 0.5**0.5), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(advantage[worse], torch.full((4,), -(0.5**0.5)), rtol=1e-4, atol=1e-4)


def test_the_surrogate_of_grpo_is_clipped():
    agent = make("grpo", num_envs=2, group_size=2, entropy_bonus=0.0)
    batch = every_text(agent)
    log_pi, _, _ = agent._log_policy(batch)
    for shift, sign, clipped in ((-1.0, 1.0, True), (-1.0, -1.0, False), (1.0, 1.0, False), (1.0, -1.0, True)):
        batch.log_probs = (log_pi + shift).detach()  # the ratio is e^{-shift}
        ratio = float(np.exp(-shift))
        expected = sign * (min(max(ratio, 0.8), 1.2) if clipped else ratio)
        loss = agent._loss(batch, torch.full_like(batch.rewards, sign))
        assert loss.item() == pytest.approx(-expected, rel=1e-4)


def test_the_groups_of_grpo_begin_with_the_same_prompt(tiny):
    agent = make("grpo", tiny, group_size=8)
    batch = agent._write(None)
    starts = [
        row[: int(length)].tolist()
        for row, length in zip(batch.tokens, batch.is_action.float().argmax(1) + 1, strict=True)
    ]
    groups = [starts[i : i + 8] for i in range(0, 32, 8)]
    assert all(all(start == group[0] for start in group) for group in groups)
    assert len({tuple(group[0]) for group in groups}) > 1


def test_behaviour_log_probabilities_are_those_of_the_causal_pass(tiny):
    agent = make("reinforce", tiny)
    batch = agent._write(None)
    log_pi, entropy, _ = agent._log_policy(batch)
    torch.testing.assert_close(log_pi, batch.log_probs, rtol=1e-4, atol=1e-4)
    assert (entropy[batch.is_action] > 0).all()


@pytest.mark.parametrize("name", KINDS)
def test_learns_most_of_what_there_is_to_learn(name):
    agent = make(name).learn(6_000)
    start = np.array([[0] * 4 + [2]])
    oracle = gym.make("TokenLM-Tiny-v0").unwrapped.oracle
    best, random = oracle.most_likely_text().log_prob, float(oracle.expected_return("random", start)[0])
    reached = play(agent, agent.world, agent.env_config, 1, 0, temperature=0.0).returns[0]
    assert (reached - random) / (best - random) > 0.85


@pytest.mark.parametrize("name", KINDS)
def test_begins_with_demonstrations(name, tiny):
    agent = make(name, tiny)
    before = float(play(agent, agent.world, tiny, 200, 0).returns.mean())
    agent.pretrain(20_000)
    assert float(play(agent, agent.world, tiny, 200, 0).returns.mean()) > 0.5 * before


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded_it_is_the_same_policy(name, tiny, tmp_path):
    agent = make(name, tiny).learn(300)
    agent.save(tmp_path)
    again = type(agent).load(tmp_path, tiny, device="cpu")
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    assert np.array_equal(agent.log_probs(window), again.log_probs(window))
    assert again.env_steps == agent.env_steps >= 300
    assert again.learn(100).env_steps >= agent.env_steps + 100


@pytest.mark.parametrize("name", KINDS)
def test_one_seed_gives_one_result_and_the_callback_stops_it(name, tiny):
    window = gym.make("TokenLM-v0", config=tiny).reset(seed=0)[0]
    first, second = (make(name, tiny, seed=5).learn(600).log_probs(window) for _ in range(2))
    assert np.array_equal(first, second)
    agent, seen = make(name), []
    agent.learn(10_000, lambda given: seen.append(given.env_steps) or len(seen) < 3)
    assert seen == [32, 64, 96]  # texts of one length: all environments step every time


def test_mistakes_are_named(tiny):
    with pytest.raises(ValueError, match=r"no setting 'learning_rat'; did you mean 'learning_rate'"):
        make("reinforce", tiny, learning_rat=1.0)
    with pytest.raises(ValueError, match=r"group_size must be at least 2 and divide num_envs \(32\), not 5"):
        make("grpo", tiny, group_size=5)
