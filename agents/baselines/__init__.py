"""What the DQN is compared with, on the same world."""
