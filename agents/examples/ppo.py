"""PPO on TokenLM in one file: `python -m tokenlm.agents.examples.ppo --env_id TokenLM-Tiny-v0`.

Schulman et al. 2017 from top to bottom. For text, each iteration is one whole episode in every environment: acting
processes one token per step, and learning processes whole texts in one causal pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor

import tokenlm  # noqa: F401  registers the environments
from tokenlm.agents.networks import LSTMQNetwork, QNetwork
from tokenlm.envs import Vocabulary

from ..networks.prefixes import right_padded


@dataclass
class Rollout:
    """One episode of each of N environments, with at most T steps and prompts of at most P tokens.

    Args:
        tokens: (N, P + T) int64, prompt and new tokens, right-padded.
        prompt_lengths: (N,) int64.
        actions: (N, T) int64.
        masks: (N, T, V) bool, valid actions.
        log_probs: (N, T) log π(a | s) of the policy that acted, nats.
        rewards: (N, T) nats.
        alive: (N, T) bool, False after the end of the episode.
        terminated: (N,) bool; False for truncated episodes, which bootstrap from the value of the last state.
    """

    tokens: Tensor
    prompt_lengths: Tensor
    actions: Tensor
    masks: Tensor
    log_probs: Tensor
    rewards: Tensor
    alive: Tensor
    terminated: Tensor

    def states(self, network: QNetwork) -> Tensor:
        """(N, T + 1, D) hidden vectors of the states before every action and after the last."""
        hidden = network(self.tokens)
        steps = torch.arange(self.actions.shape[1] + 1)
        places = self.prompt_lengths[:, None] - 1 + steps
        return hidden[torch.arange(len(hidden))[:, None], places]


def policy(network: QNetwork, hidden: Tensor, mask: Tensor) -> torch.distributions.Categorical:
    """π(· | s) over the valid actions; the action head gives its logits."""
    # Not -inf, because 0 · -inf would make the entropy nan.
    return torch.distributions.Categorical(logits=network.q_values(hidden).masked_fill(~mask, -1e9))


@torch.no_grad()
def collect(envs: gym.vector.VectorEnv, network: QNetwork, seed: int | None) -> Rollout:
    """Run one episode in every environment."""
    env = envs.unwrapped
    observation, _ = envs.reset(seed=seed)
    prompts, lengths = right_padded(torch.from_numpy(observation))
    count, horizon = envs.num_envs, env.config.max_new_tokens  # type: ignore[attr-defined]
    rows = torch.arange(count)
    tokens = torch.nn.functional.pad(prompts, (0, horizon), value=Vocabulary.PAD)
    alive, terminated = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    hidden, state = network.encode(prompts, lengths)
    columns: dict[str, list[Tensor]] = {name: [] for name in ("actions", "masks", "log_probs", "rewards", "alive")}
    for step in range(horizon):
        mask = torch.from_numpy(env.action_masks())  # type: ignore[attr-defined]
        distribution = policy(network, hidden, mask)
        actions = distribution.sample()
        # Environments whose episode is over run the next one, which is ignored.
        _, rewards, ended, cut, _ = envs.step(actions.numpy())
        values = (actions, mask, distribution.log_prob(actions), torch.from_numpy(rewards).float(), alive)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        tokens[rows, lengths + step] = torch.where(alive, actions, Vocabulary.PAD)
        terminated |= alive & torch.from_numpy(ended)
        alive = alive & ~torch.from_numpy(ended | cut)
        if not alive.any():
            break
        hidden, state = network.step(actions, state)
    stacked = {name: torch.stack(column, 1) for name, column in columns.items()}
    return Rollout(tokens=tokens, prompt_lengths=lengths, terminated=terminated, **stacked)


def advantages(rollout: Rollout, values: Tensor, gamma: float, trace_decay: float) -> Tensor:
    """(N, T) advantages from (N, T + 1) values. Source: Schulman et al. 2016, "GAE", eq. 16."""
    alive = rollout.alive.float()
    after = torch.cat([alive[:, 1:], torch.zeros(len(alive), 1)], 1)  # 1 where another step follows
    last = alive * (1.0 - after)
    follows = after + last * (~rollout.terminated)[:, None]  # 1 where the next state has a value
    result = torch.zeros_like(rollout.rewards)
    running = torch.zeros(len(alive))
    for t in reversed(range(alive.shape[1])):
        error = rollout.rewards[:, t] + gamma * follows[:, t] * values[:, t + 1] - values[:, t]
        running = (error + gamma * trace_decay * after[:, t] * running) * alive[:, t]
        result[:, t] = running
    return result


def loss_of(
    network: QNetwork,
    rollout: Rollout,
    rows: Tensor,
    advantage: Tensor,
    returns: Tensor,
    clip: float,
    entropy_bonus: float,
    value_weight: float,
) -> Tensor:
    """PPO's loss on the episodes `rows`: clipped surrogate, squared value error, entropy bonus."""
    part = Rollout(**{name: value[rows] for name, value in vars(rollout).items()})
    alive = part.alive
    hidden = part.states(network)[:, :-1][alive]  # (S, D)
    distribution = policy(network, hidden, part.masks[alive])
    ratio = (distribution.log_prob(part.actions[alive]) - part.log_probs[alive]).exp()
    scale = advantage[rows][alive]
    scale = (scale - scale.mean()) / (scale.std() + 1e-8)
    surrogate = torch.minimum(ratio * scale, ratio.clamp(1 - clip, 1 + clip) * scale)
    error = network.state_values(hidden) - returns[rows][alive]
    return -surrogate.mean() + value_weight * error.square().mean() - entropy_bonus * distribution.entropy().mean()


def train(
    env_id: str = "TokenLM-v0",
    total_steps: int = 200_000,
    num_envs: int = 64,
    learning_rate: float = 3e-3,
    gamma: float = 1.0,
    trace_decay: float = 0.95,
    epochs: int = 4,
    minibatches: int = 2,
    clip: float = 0.2,
    entropy_bonus: float = 0.01,
    value_weight: float = 0.05,
    max_grad_norm: float = 0.5,
    embedding_size: int = 128,
    hidden_size: int = 256,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[QNetwork, list[float]]:
    """Train; returns the network and the mean return of each iteration's episodes, nats.

    Args:
        env_id: a registered environment.
        total_steps: environment steps.
        num_envs: parallel environments, so episodes per iteration.
        learning_rate: of Adam; decays linearly to 0.
        gamma: discount.
        trace_decay: λ of generalised advantage estimation.
        epochs: passes over the episodes of an iteration.
        minibatches: minibatches per pass.
        clip: the ratio of new to old policy is clipped to 1 ± clip.
        entropy_bonus: weight of the entropy.
        value_weight: weight of the squared value error; small, because returns are tens of nats.
        max_grad_norm: gradients are clipped to this norm.
        embedding_size: width of the token embedding.
        hidden_size: width of the LSTM.
        seed: of all random numbers.
        quiet: print nothing.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    envs = gym.make_vec(env_id, num_envs=num_envs)
    vocab_size = int(envs.single_action_space.n)  # type: ignore[attr-defined]
    network = LSTMQNetwork(vocab_size, embedding_size=embedding_size, hidden_size=hidden_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, eps=1e-5)
    history: list[float] = []
    steps = 0
    while steps < total_steps:
        optimizer.param_groups[0]["lr"] = learning_rate * (1.0 - steps / total_steps)
        rollout = collect(envs, network, seed if not history else None)
        steps += int(rollout.alive.sum())
        with torch.no_grad():
            values = network.state_values(rollout.states(network))
        advantage = advantages(rollout, values, gamma, trace_decay)
        returns = advantage + values[:, :-1]
        for _ in range(epochs):
            for rows in np.array_split(rng.permutation(num_envs), minibatches):
                loss = loss_of(
                    network, rollout, torch.from_numpy(rows), advantage, returns, clip, entropy_bonus, value_weight
                )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
                optimizer.step()
        history.append(float((rollout.rewards * rollout.alive).sum(1).mean()))
        if not quiet:
            print(f"\r{steps:,} steps, return {history[-1]:.2f}", end="", flush=True)
    if not quiet:
        print()
    return network, history


if __name__ == "__main__":
    auto_cli(train)
