"""Documents to (prompt, target)."""

from .documents import Documents
from .generation import encode_generation

__all__ = ["Documents", "encode_generation"]
