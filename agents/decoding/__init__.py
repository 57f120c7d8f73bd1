"""Decoding: texts of a policy, greedy, sampled or by beam search, in batches or as a stream."""

from ..networks.prefixes import Prefixes
from .beams import Hypothesis, beam_search
from .options import Decoding
from .readers import ByToken, MakeReader, NetworkReader, PhraseReader, Reader, WindowReader
from .sampling import filter_values, sample, uniform_numbers
from .transcript import Transcript
from .writer import Writer, prompt_ids, stream_text, write_texts

__all__ = [
    "ByToken",
    "Decoding",
    "Hypothesis",
    "MakeReader",
    "NetworkReader",
    "PhraseReader",
    "Prefixes",
    "Reader",
    "Transcript",
    "WindowReader",
    "Writer",
    "beam_search",
    "filter_values",
    "prompt_ids",
    "sample",
    "stream_text",
    "uniform_numbers",
    "write_texts",
]
