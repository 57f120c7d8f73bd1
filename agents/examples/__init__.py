"""Single-file implementations of DQN and PPO, for reading and modification."""
