"""Acting: choose actions, explore, which actions are valid, phrases."""
