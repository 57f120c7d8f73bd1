"""Tasks: from texts to encoded documents with prompts."""

from .encoding import Documents, encode_generation, encode_pairs, pair_tokenizer, source_prompt

__all__ = ["Documents", "encode_generation", "encode_pairs", "pair_tokenizer", "source_prompt"]
