"""The single-file examples run, improve, and say what they can be told."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents.examples import article, dqn, ppo

SMALL = {"embedding_size": 16, "hidden_size": 32, "quiet": True}


@pytest.fixture(scope="module")
def references() -> tuple[float, float]:
    """Return of a random policy and of the best one on TokenLM-Tiny-v0."""
    oracle = gym.make("TokenLM-Tiny-v0").unwrapped.oracle
    return float(oracle.expected_return("random", np.array([[0] * 4 + [2]]))[0]), oracle.most_likely_text().log_prob


@pytest.mark.parametrize(
    ("train", "settings"),
    [(ppo.train, {"total_steps": 10_000}), (dqn.train, {"total_steps": 24_000, "learning_rate": 3e-3})],
)
def test_the_return_improves_towards_the_optimum(train, settings, references):
    random, best = references
    _, history = train("TokenLM-Tiny-v0", **settings, **SMALL)
    count = max(1, len(history) // 10)
    before, after = ((np.mean(part) - random) / (best - random) for part in (history[:count], history[-count:]))
    assert abs(before) < 0.4
    assert after > 0.75


def test_advantages_are_those_worked_out_by_hand():
    rollout = ppo.Rollout(
        *[torch.zeros(2, 3)] * 5, rewards=torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, 9.0]]),
        alive=torch.tensor([[True, True, True], [True, True, False]]), terminated=torch.tensor([True, False]),
    )  # fmt: skip
    values = torch.tensor([[-5.0, -4.0, -2.0, 100.0], [-5.0, -4.0, -2.0, 100.0]])
    # terminated after three: δ = (-1 - 4 + 5, -2 - 2 + 4, -3 + 2); cut off after two: δ = (-1 - 4 + 5, -2 - 2 + 4)
    expected = torch.tensor([[-0.25, -0.5, -1.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(ppo.advantages(rollout, values, 1.0, 0.5), expected)


def test_states_are_read_as_the_windows_they_stand_for(tiny):
    torch.manual_seed(0)
    envs = gym.make_vec("TokenLM-v0", num_envs=6, config=tiny)
    network = ppo.LSTMQNetwork(int(envs.single_action_space.n), embedding_size=4, hidden_size=8)
    rollout = ppo.collect(envs, network, seed=0)
    states = rollout.states(network)
    # The policy that acted, one token at a time, is the one that whole texts are read by.
    log_probs = ppo.policy(network, states[:, :-1], rollout.masks).log_prob(rollout.actions)
    torch.testing.assert_close(log_probs[rollout.alive], rollout.log_probs[rollout.alive])
    assert rollout.alive[:, 0].all()


def test_the_replay_keeps_the_newest_transitions():
    replay, rng = dqn.Replay(3, 2), np.random.default_rng(0)
    for first in (0, 2):
        rows = np.arange(first, first + 2)
        replay.add(rows[:, None] + np.zeros((1, 2)), rows, -rows, rows[:, None] + np.ones((1, 2)), rows > 2)
    windows, actions, rewards, after, terminated = replay.sample(200, rng)
    assert set(actions.tolist()) == {1, 2, 3}
    assert torch.equal(windows[:, 0], actions)
    assert torch.equal(after[:, 0], actions + 1)
    assert torch.equal(rewards, -actions.float())
    assert torch.equal(terminated, actions > 2)


BOTH_HELPS = """
import runpy, sys
for name in ("ppo", "dqn"):  # as python -m does it, one after the other
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(f"tokenlm.agents.examples.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print("ended with", ended.code)
"""


def test_the_command_line_tells_its_settings():
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", BOTH_HELPS]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    for name, text in zip(("ppo", "dqn"), shown.split("ended with 0\n")[:2], strict=True):
        assert name in text.splitlines()[0]
        assert "--total_steps" in text
        assert "environment steps" in text


def test_the_article_learns_by_supervision_and_by_rewards(tmp_path, capsys):
    article.main(str(tmp_path / "article"), epochs=100, total_steps=6_000)
    weights = torch.load(tmp_path / "article" / "policy_network.pth", weights_only=True)
    network = article.PolicyNetwork()
    network.load_state_dict(weights)
    after = network(torch.tensor([[0, 1]]))[0, -1].softmax(-1)
    assert article.WORDS[int(after.argmax())] == "吗"
    assert after.max() > 0.99
    log = (tmp_path / "article" / "train_results.txt").read_text(encoding="utf-8").splitlines()
    assert len(log) == 10
    shown = capsys.readouterr().out
    assert "it writes: 你好吗" in shown
    learned, exact = (
        np.array([float(number) for number in line.split()[2:]]) for line in shown.splitlines() if line.startswith("Q")
    )
    assert learned.argmax() == exact.argmax()
    assert np.abs(learned - exact).max() < 0.25
