"""Replay: whole episodes of the agent and of the corpus, and the batches sampled from them."""
