"""Learning the rewards and planning with them: how texts grow is known."""
