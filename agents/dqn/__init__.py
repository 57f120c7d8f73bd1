"""The DQN agent: learner, losses, replay, exploration."""
