"""A Hugging Face causal language model as a target."""

from __future__ import annotations

from pathlib import Path

import torch

from ..arguments import refuse_own_code
from ..text import Tokenizer
from ..text.subwords import SubwordTokenizer
from .cache_tests import cache_agrees, check_causal
from .causal import CausalTarget
from .transformer_models import CachedModel, WholeTextModel, library

TOKENIZER_FILE = "tokenizer.json"
_TESTED = 64  # tokens of a test of the cache if the length of texts is not known


def model_tokenizer(name: str) -> SubwordTokenizer:
    """The tokenizer of a model, a local folder or hub name; ValueError if it has no tokenizer.json."""
    return SubwordTokenizer.from_file(_file(name))


def load_huggingface(name: str, tokenizer: Tokenizer, longest: int = 0) -> CausalTarget:
    """The frozen causal model `name`, a local folder or a hub name, over the tokens of `tokenizer`.

    Special tokens map to the model's own: `<eos>` to its end-of-text token; `<bos>` and `<unk>` to its tokens for these
    or else to end-of-text; `<sep>` to a line break if that is a single token, else to end-of-text. The model computes
    in float32. Its probabilities are normalised over the words of the tokenizer and `<eos>`.

    A step reads one token with a cache of keys and values, if that gives what the model gives for whole texts of up to
    `longest` tokens (see `cache_agrees`). Otherwise every step reads the whole text.

    Args:
        name: the model.
        tokenizer: the environment's tokenizer, which must be the model's own.
        longest: most tokens of a text; 0 for as many as a short test takes.

    Raises: FileNotFoundError for a missing model; ValueError for another tokenizer, or for a model without end-of-text
        token, with fewer than `longest` positions, or that is not causal; ImportError naming the extra.
    """
    transformers = library()
    own = model_tokenizer(name)
    if not isinstance(tokenizer, SubwordTokenizer) or tokenizer.vocabulary != own.vocabulary:
        raise ValueError(
            f"the model {name!r} needs its own tokenizer, not {tokenizer.name!r}; "
            f"set tokenizer to 'auto' or to its {TOKENIZER_FILE}"
        )
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        refuse_own_code(name, problem)
        raise ValueError(f"{name!r} holds no causal language model: {str(problem).splitlines()[0]}") from None
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    if 0 < positions < longest:  # XLNet says -1 for no limit
        raise ValueError(
            f"the model {name!r} reads at most {positions} tokens, but context_length + max_new_tokens is {longest}; "
            "make them smaller"
        )
    whole = WholeTextModel(model.eval().requires_grad_(False), own)
    length = longest or min(_TESTED, positions if positions > 0 else _TESTED)
    check_causal(whole, length, name)
    cached = CachedModel(model, own)
    return CausalTarget(cached if cache_agrees(cached, whole, length) else whole)


def _file(name: str) -> str:
    if Path(name).is_dir():
        if not (Path(name) / TOKENIZER_FILE).is_file():
            raise ValueError(f"the folder {name!r} has no {TOKENIZER_FILE}; save the model's fast tokenizer there")
        return str(Path(name) / TOKENIZER_FILE)
    try:
        from transformers.utils import cached_file
    except ImportError:
        library()
        raise
    try:
        return str(cached_file(name, TOKENIZER_FILE))
    except OSError as problem:
        raise FileNotFoundError(
            f"there is no folder {name!r}, and no such model on the hub: {str(problem).splitlines()[0]}"
        ) from None
