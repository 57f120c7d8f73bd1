"""Trained agents in a browser (`tokenlm play`) and behind an HTTP interface (`tokenlm serve`)."""
