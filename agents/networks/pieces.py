"""Maps tokens of the environment to tokens of a pretrained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...envs import Vocabulary
from ...envs.text import Tokenizer
from ...envs.text.subwords import SubwordTokenizer

_SOURCE = "\x1f"  # prefix of the source's words in a vocabulary of pairs
_MARKS = f"\x00{_SOURCE}"  # "\x00" is the prefix of a subword that is spelled like a special token


def pieces_of(tokenizer: Tokenizer, model_tokenizer: Any, config: Any) -> list[list[int]]:
    """The model's token ids for each token id of the environment, at least one each.

    A subword of a tokenizer.json maps to the model's token with the same spelling. The text of any other token is
    encoded by the model's tokenizer, after a space if the environment's tokenizer writes spaces between words.
    `<bos>`, `<eos>`, `<pad>` and `<unk>` map to the model's own, or to its end of text if it has none. `<sep>` maps to
    the start token of an encoder–decoder model, else to the model's separator, or to a line break if it has none.

    Args:
        tokenizer: the environment's.
        model_tokenizer: the model's, from the library transformers.
        config: the model's configuration.
    """
    special = _special_pieces(model_tokenizer, config)
    known = model_tokenizer.get_vocab()
    stand_in = special[Vocabulary.UNK]
    found = [special[i] for i in range(len(Vocabulary.SPECIAL_TOKENS))]
    for number, word in enumerate(tokenizer.vocabulary.words, len(found)):
        spelling = word.lstrip(_MARKS)
        if isinstance(_owner(tokenizer, word), SubwordTokenizer) and spelling in known:
            found.append([known[spelling]])
        else:
            found.append(_cut(tokenizer, number, model_tokenizer) or stand_in)
    return found


def mean_rows(table: Tensor, pieces: Sequence[Sequence[int]]) -> Tensor:
    """(model's vocabulary, D) and V lists of row indices -> (V, D), the mean of the rows of each list."""
    lengths = torch.tensor([len(ids) for ids in pieces])
    owner = torch.arange(len(pieces)).repeat_interleave(lengths)
    rows = table[torch.tensor([i for ids in pieces for i in ids])]
    total = torch.zeros((len(pieces), *table.shape[1:]), dtype=table.dtype).index_add_(0, owner, rows)
    return total / lengths.view(-1, *[1] * (table.ndim - 1))


def _special_pieces(model_tokenizer: Any, config: Any) -> dict[int, list[int]]:
    # The tokenizer has priority: a configuration made for another vocabulary may name ids that do not exist.
    own = {name: getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "decoder_start")}
    end = _first(model_tokenizer.eos_token_id, model_tokenizer.sep_token_id, own["eos"], 0)
    begin = _first(model_tokenizer.bos_token_id, model_tokenizer.cls_token_id, own["bos"], end)
    start = own["decoder_start"] if config.is_encoder_decoder else None
    separator = _first(start, model_tokenizer.sep_token_id)
    line_break = model_tokenizer.encode("\n", add_special_tokens=False)
    return {
        Vocabulary.PAD: [_first(model_tokenizer.pad_token_id, own["pad"], end)],
        Vocabulary.UNK: [_first(model_tokenizer.unk_token_id, end)],
        Vocabulary.BOS: [begin],
        Vocabulary.EOS: [end],
        Vocabulary.SEP: [separator] if separator is not None else line_break or [end],
    }


def _cut(tokenizer: Tokenizer, number: int, model_tokenizer: Any) -> list[int]:
    """The model's ids for the text of a token of the environment."""
    text = tokenizer.decode([number])
    if tokenizer.decode([number, number]) == f"{text} {text}":
        before = model_tokenizer.encode("x", add_special_tokens=False)
        both = model_tokenizer.encode(f"x {text}", add_special_tokens=False)
        if both[: len(before)] == before and len(both) > len(before):
            return list(both[len(before) :])
    return list(model_tokenizer.encode(text, add_special_tokens=False))


def _owner(tokenizer: Tokenizer, word: str) -> Tokenizer:
    """The tokenizer that a word of the vocabulary comes from; a task of pairs may have one for each side."""
    owner: Tokenizer | None = getattr(tokenizer, "source" if word.startswith(_SOURCE) else "target", None)
    return owner or tokenizer


def _first(*ids: Any) -> Any:
    """The first argument that is not None; if it is a list of ids, its first id."""
    for found in ids:
        if found is not None:
            return found[0] if isinstance(found, (list, tuple)) else found
    return None
