"""Replay: whole episodes, of the agent and of the corpus, and the batches drawn from them."""
