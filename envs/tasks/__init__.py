"""Documents to (prompt, target)."""

from .documents import Documents
from .generation import encode_generation
from .pairs import encode_pairs, pair_tokenizer, source_prompt

__all__ = ["Documents", "encode_generation", "encode_pairs", "pair_tokenizer", "source_prompt"]
