"""Pretrained word vectors that initialise a token embedding."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...envs.text import Tokenizer
from ...envs.text.opening import check_file, text_lines

_KIND = "file of word vectors"
_SHOWN = 200  # characters of what NumPy says


def use_word_vectors(embedding: nn.Embedding, path: str | Path, tokenizer: Tokenizer) -> int:
    """Copy the vectors of a file into the rows of `embedding`; rows of tokens that are not found stay unchanged.

    Args:
        embedding: (V, E), modified in place.
        path: word2vec or GloVe text in UTF-8, a word and E numbers per line, with or without a first line "words E";
            or a .npy file with V rows in the order of the token ids. Not compressed.
        tokenizer: tokens are looked up by their spelling in the vocabulary and by their decoded text.

    Returns: the number of tokens found.
    Raises FileNotFoundError; ValueError for vectors of another size or that are not finite, if no token is found, or
        for a file that cannot be read (see `envs.text.opening`).
    """
    path = Path(path)
    check_file(path, _KIND)
    if path.suffix == ".npy":
        rows, vectors = _read_array(path, embedding)
    else:
        rows, vectors = _read_text(path, embedding, tokenizer)
    with torch.no_grad():
        embedding.weight[rows] = vectors.to(embedding.weight)
    return len(rows)


def _read_array(path: Path, embedding: nn.Embedding) -> tuple[Tensor, Tensor]:
    try:
        # Memory-mapped, so that a header with a wrong number of rows does not allocate memory.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arrays that Python 2 wrote are read too
            array = np.lib.format.open_memmap(path, mode="r")
    except Exception as problem:  # a header is parsed as Python, and whatever that raises comes through
        raise ValueError(f"{path} is not an array of numbers: {str(problem)[:_SHOWN]}") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path} has entries of type {array.dtype}, not numbers; save an array of floats")
    if array.ndim != 2 or len(array) != embedding.num_embeddings:
        raise ValueError(
            f"{path} has an array of shape {array.shape}; it must have one row for each of the "
            f"{embedding.num_embeddings} tokens, in the order of their ids"
        )
    _refuse_other_width(path, array.shape[1], embedding)
    with np.errstate(over="ignore"):  # overflow to inf is refused below
        vectors = torch.from_numpy(np.array(array, np.float32))
    rows = torch.isfinite(vectors).all(1)
    if not rows.all():
        raise ValueError(f"{path} has numbers that are not finite in row {int(rows.int().argmin())}")
    return torch.arange(len(array)), vectors


def _read_text(path: Path, embedding: nn.Embedding, tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    wanted: dict[str, list[int]] = {}
    for number, word in enumerate(tokenizer.vocabulary.words, tokenizer.vocabulary.FIRST_WORD):
        for spelling in {word, tokenizer.decode([number]).strip()}:
            if spelling:
                wanted.setdefault(spelling, []).append(number)
    found: dict[int, Tensor] = {}
    width = 0
    # Some collections have words that are not valid UTF-8; none of them can be in the vocabulary.
    for count, line in enumerate(text_lines(path, kind=_KIND, errors="replace"), 1):
        parts = line.rstrip().split(" ")
        if count == 1:
            header = len(parts) == 2 and all(re.fullmatch("[0-9]{1,15}", part) for part in parts)
            width = int(parts[1]) if header else len(parts) - 1
            _refuse_other_width(path, width, embedding)
            if header:
                continue
        # Split from the right, because some words contain spaces.
        for row in wanted.get(" ".join(parts[:-width]), ()):
            try:
                vector = torch.tensor([float(part) for part in parts[-width:]])
            except ValueError:
                raise ValueError(f"line {count} of {path} is not a word and {width} numbers") from None
            if not torch.isfinite(vector).all():
                raise ValueError(f"line {count} of {path} has a number that is not finite")
            found.setdefault(row, vector)
    if not found:
        raise ValueError(
            f"{path} has no vector for any of the {len(wanted)} words of the vocabulary; check that it is in the same "
            "language"
        )
    rows = sorted(found)
    return torch.tensor(rows), torch.stack([found[row] for row in rows])


def _refuse_other_width(path: Path, width: int, embedding: nn.Embedding) -> None:
    if width != embedding.embedding_dim:
        raise ValueError(
            f"the vectors in {path} have {width} numbers, but the network's embedding has {embedding.embedding_dim}; "
            f"set embedding_size (LSTM) or hidden_size (Transformer) to {width}"
        )
