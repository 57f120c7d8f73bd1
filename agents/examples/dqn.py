"""DQN on TokenLM in one file: `python -m tokenlm.agents.examples.dqn --env_id TokenLM-Tiny-v0`.

Mnih et al. 2015 from top to bottom, with a replay of transitions. On text this is expensive: every transition stores
two windows, and the network processes both from their first token. `tokenlm.agents.DQN` stores whole episodes instead.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode
from jsonargparse import auto_cli
from torch import Tensor

import tokenlm  # noqa: F401  registers the environments
from tokenlm.agents.networks import LSTMQNetwork, QNetwork

from ..networks.prefixes import right_padded

Array = npt.NDArray[Any]


class Replay:
    """The last `capacity` transitions (s, a, r, s', terminated) of windows of `width` tokens."""

    def __init__(self, capacity: int, width: int) -> None:
        self.windows = np.zeros((capacity, width), np.int32)
        self.next_windows = np.zeros((capacity, width), np.int32)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.capacity = capacity
        self.added = 0

    def add(
        self, windows: np.ndarray, actions: np.ndarray, rewards: np.ndarray, after: np.ndarray, terminated: np.ndarray
    ) -> None:
        """Add N transitions; they replace the oldest."""
        rows = (self.added + np.arange(len(actions))) % self.capacity
        self.windows[rows], self.next_windows[rows] = windows, after
        self.actions[rows], self.rewards[rows], self.terminated[rows] = actions, rewards, terminated
        self.added += len(actions)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """`count` transitions, sampled uniformly."""
        rows = rng.integers(min(self.added, self.capacity), size=count)
        kept = (self.windows, self.actions, self.rewards, self.next_windows, self.terminated)
        windows, actions, rewards, after, terminated = (torch.from_numpy(array[rows]) for array in kept)
        return windows.long(), actions, rewards, after.long(), terminated


def q_values(network: QNetwork, windows: Tensor, valid: Tensor) -> Tensor:
    """(B, L) windows -> (B, V) action values, -inf for actions that are not valid."""
    tokens, lengths = right_padded(windows)
    hidden = network(tokens)[torch.arange(len(tokens)), lengths - 1]
    return network.q_values(hidden, valid)


def td_loss(
    network: QNetwork, target_network: QNetwork, batch: tuple[Tensor, ...], valid: Tensor, gamma: float
) -> Tensor:
    """Mean Huber loss of r + γ max_a' Q̄(s', a') − Q(s, a); the next value is 0 after termination."""
    windows, actions, rewards, after, terminated = batch
    with torch.no_grad():
        best = q_values(target_network, after, valid).max(-1).values
        target = rewards + gamma * best * ~terminated
    taken = q_values(network, windows, valid).gather(1, actions[:, None]).squeeze(1)
    return torch.nn.functional.smooth_l1_loss(taken, target)


def train(
    env_id: str = "TokenLM-v0",
    total_steps: int = 200_000,
    num_envs: int = 32,
    learning_rate: float = 1e-3,
    gamma: float = 1.0,
    epsilon_end: float = 0.05,
    exploration_share: float = 0.5,
    batch_size: int = 128,
    replay_capacity: int = 100_000,
    learning_starts: int = 1_000,
    target_update_interval: int = 100,
    embedding_size: int = 128,
    hidden_size: int = 256,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[QNetwork, list[float]]:
    """Train; returns the network and the return of every finished episode, nats.

    Args:
        env_id: a registered environment whose valid actions are the same in all states.
        total_steps: environment steps.
        num_envs: parallel environments, with one update per step of all.
        learning_rate: of Adam.
        gamma: discount.
        epsilon_end: final ε; it starts at 1.
        exploration_share: fraction of training over which ε decays.
        batch_size: transitions per update.
        replay_capacity: transitions in the replay.
        learning_starts: environment steps before the first update.
        target_update_interval: updates between copies into the target network.
        embedding_size: width of the token embedding.
        hidden_size: width of the LSTM.
        seed: of all random numbers.
        quiet: print nothing.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    # With SAME_STEP infos have the final observation of an ended episode, needed to bootstrap truncated ones.
    envs = gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    allowed = envs.single_action_space.valid.astype(bool)  # type: ignore[attr-defined]
    valid = torch.from_numpy(allowed)
    network = LSTMQNetwork(len(valid), embedding_size=embedding_size, hidden_size=hidden_size)
    target_network = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    replay = Replay(replay_capacity, envs.observation_space.shape[1])  # type: ignore[index]
    history: list[float] = []
    running, updates = np.zeros(num_envs), 0
    observation, _ = envs.reset(seed=seed)

    for steps in range(0, total_steps, num_envs):
        epsilon = max(epsilon_end, 1.0 - (1.0 - epsilon_end) * steps / (exploration_share * total_steps))
        with torch.no_grad():
            greedy = q_values(network, torch.from_numpy(observation), valid).argmax(-1).numpy()
        random = rng.choice(np.flatnonzero(allowed), num_envs)
        actions = np.where(rng.random(num_envs) < epsilon, random, greedy)

        after, rewards, terminated, truncated, infos = envs.step(actions)
        over = terminated | truncated
        last = after.copy()
        if over.any():
            last[over] = np.stack(infos["final_obs"][over])
        replay.add(observation, actions, rewards, last, terminated)
        observation = after
        running += rewards
        history += running[over].tolist()
        running[over] = 0.0

        if steps >= learning_starts:
            batch = replay.sample(batch_size, rng)
            loss = td_loss(network, target_network, batch, valid, gamma)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            if updates % target_update_interval == 0:
                target_network.load_state_dict(network.state_dict())
        if not quiet and history and steps % (100 * num_envs) == 0:
            print(f"\r{steps:,} steps, return {np.mean(history[-200:]):.2f}", end="", flush=True)
    if not quiet:
        print()
    return network, history


if __name__ == "__main__":
    auto_cli(train)
