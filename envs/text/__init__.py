"""From raw text to token ids: reading, cleaning, splits, tokenizers, vocabulary and built-in corpora."""

from .cleaning import Cleaning
from .files import write_atomically, write_json, write_text_atomically
from .making import load_tokenizer, make_tokenizer
from .pair_tokenizers import LabelTokenizer, PairTokenizer
from .pairs import read_pair_corpus
from .protocol import Tokenizer
from .reading import BUILT_IN_CORPORA, read_documents, read_pairs
from .splits import Splits, read_pair_splits, read_splits, split_documents
from .tokenizers import SymbolTokenizer, WordTokenizer
from .vocabulary import Vocabulary

__all__ = [
    "BUILT_IN_CORPORA",
    "Cleaning",
    "LabelTokenizer",
    "PairTokenizer",
    "Splits",
    "SymbolTokenizer",
    "Tokenizer",
    "Vocabulary",
    "WordTokenizer",
    "load_tokenizer",
    "make_tokenizer",
    "read_documents",
    "read_pair_corpus",
    "read_pair_splits",
    "read_pairs",
    "read_splits",
    "split_documents",
    "write_atomically",
    "write_json",
    "write_text_atomically",
]
