"""DQN of AgileRL, with action masks. Score after 64,000 steps: Markov -0.32, Factored -0.57."""

import gymnasium as gym
from agilerl.algorithms.dqn import DQN
from agilerl.components.replay_buffer import ReplayBuffer
from agilerl.modules.dummy import DummyEvolvable
from agilerl.training.train_off_policy import train_off_policy
from jsonargparse import auto_cli

from tokenlm.agents.evaluation import greedy_score
from tokenlm.agents.examples.outside.network import WindowMLP


def train(env_id: str = "TokenLM-Markov-v0", steps: int = 64_000, num_envs: int = 16) -> float | None:
    env = gym.make_vec(f"tokenlm:{env_id}", num_envs=num_envs, mask_in_info=True, autoreset_mode="SameStep")
    observations, actions = env.single_observation_space, env.single_action_space
    sizes = {"vocab_size": int(actions.n), "length": observations.shape[0]}
    network = DummyEvolvable("cpu", module_fn=WindowMLP, module_kwargs=sizes)
    agent = DQN(
        observations, actions, batch_size=256, lr=1e-3, learn_step=num_envs, gamma=1.0, tau=0.05, actor_network=network
    )
    [agent], _ = train_off_policy(
        env, env_id, "DQN", [agent], ReplayBuffer(steps), max_steps=steps, evo_steps=steps, eps_end=0.02, verbose=False,
        eval_steps=16, eps_decay=0.02 ** (2 * num_envs / steps),
    )  # fmt: skip
    return greedy_score(env_id, agent.actor)


if __name__ == "__main__":
    print(auto_cli(train))
