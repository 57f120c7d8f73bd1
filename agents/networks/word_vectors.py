"""Pretrained word vectors that initialise a token embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...envs.text import Tokenizer


def use_word_vectors(embedding: nn.Embedding, path: str | Path, tokenizer: Tokenizer) -> int:
    """Copy the vectors of a file into the rows of `embedding`; rows of tokens that are not found stay unchanged.

    Args:
        embedding: (V, E), modified in place.
        path: word2vec or GloVe text, a word and E numbers per line, with or without a first line "words E"; or a .npy
            file with V rows in the order of the token ids.
        tokenizer: tokens are looked up by their spelling in the vocabulary and by their decoded text.

    Returns: the number of tokens found.
    Raises FileNotFoundError; ValueError for vectors of another size or if no token is found.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of word vectors {str(path)!r}")
    if path.suffix == ".npy":
        rows, vectors = _read_array(path, embedding)
    else:
        rows, vectors = _read_text(path, embedding, tokenizer)
    with torch.no_grad():
        embedding.weight[rows] = vectors.to(embedding.weight)
    return len(rows)


def _read_array(path: Path, embedding: nn.Embedding) -> tuple[Tensor, Tensor]:
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as problem:
        raise ValueError(f"{path} is not an array of numbers: {problem}") from None
    if array.ndim != 2 or len(array) != embedding.num_embeddings:
        raise ValueError(
            f"{path} has an array of shape {array.shape}; it must have one row for each of the "
            f"{embedding.num_embeddings} tokens, in the order of their ids"
        )
    _refuse_other_width(path, array.shape[1], embedding)
    return torch.arange(len(array)), torch.from_numpy(array)


def _read_text(path: Path, embedding: nn.Embedding, tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    wanted: dict[str, list[int]] = {}
    for number, word in enumerate(tokenizer.vocabulary.words, tokenizer.vocabulary.FIRST_WORD):
        for spelling in {word, tokenizer.decode([number]).strip()}:
            wanted.setdefault(spelling, []).append(number)
    found: dict[int, Tensor] = {}
    width = 0
    # Some collections have words that are not valid UTF-8; none of them can be in the vocabulary.
    with path.open(encoding="utf-8", errors="replace") as lines:
        for count, line in enumerate(lines, 1):
            parts = line.rstrip().split(" ")
            if count == 1:
                header = len(parts) == 2 and parts[0].isdigit() and parts[1].isdigit()
                width = int(parts[1]) if header else len(parts) - 1
                _refuse_other_width(path, width, embedding)
                if header:
                    continue
            # Split from the right, because some words contain spaces.
            for row in wanted.get(" ".join(parts[:-width]), ()):
                try:
                    found.setdefault(row, torch.tensor([float(part) for part in parts[-width:]]))
                except ValueError:
                    raise ValueError(f"line {count} of {path} is not a word and {width} numbers") from None
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
