"""Baselines on the same environments: algorithms of other libraries, REINFORCE, GRPO, unigram frequencies."""
