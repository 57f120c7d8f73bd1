"""Acting: choosing actions, exploration, valid actions, phrases."""
