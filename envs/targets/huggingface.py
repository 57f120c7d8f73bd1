"""A Hugging Face causal language model as a target."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..text import Tokenizer, Vocabulary
from ..text.subwords import SubwordTokenizer
from .causal import CausalTarget

TOKENIZER_FILE = "tokenizer.json"
_SLACK = 32  # unused columns at the front of the cache before it is cut


def model_tokenizer(name: str) -> SubwordTokenizer:
    """The tokenizer of a model, a local folder or hub name; ValueError if it has no tokenizer.json."""
    return SubwordTokenizer.from_file(_file(name))


def load_huggingface(name: str, tokenizer: Tokenizer, longest: int = 0) -> CausalTarget:
    """The frozen causal model `name`, a local folder or a hub name, over the tokens of `tokenizer`.

    Special tokens map to the model's own: `<eos>` to its end-of-text token; `<bos>` and `<unk>` to its tokens for these
    or else to end-of-text; `<sep>` to a line break if that is a single token, else to end-of-text. The model computes
    in float32. Its probabilities are normalised over the words of the tokenizer and `<eos>`.

    Args:
        name: the model.
        tokenizer: the environment's tokenizer, which must be the model's own.
        longest: most tokens of a text.

    Raises: FileNotFoundError for a missing model; ValueError for another tokenizer, or for a model without end-of-text
        token, with fewer than `longest` positions, or without a key-value cache; ImportError naming the extra.
    """
    transformers = library()
    own = model_tokenizer(name)
    if not isinstance(tokenizer, SubwordTokenizer) or tokenizer.vocabulary != own.vocabulary:
        raise ValueError(
            f"the model {name!r} needs its own tokenizer, not {tokenizer.name!r}; "
            f"set tokenizer to 'auto' or to its {TOKENIZER_FILE}"
        )
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as problem:
        raise ValueError(f"{name!r} holds no causal language model: {str(problem).splitlines()[0]}") from None
    if getattr(model, "_is_stateful", False):
        raise ValueError(f"the model {name!r} has no cache of keys and values; use a Transformer")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise ValueError(
            f"the model {name!r} reads at most {positions} tokens, but context_length + max_new_tokens is {longest}; "
            "make them smaller"
        )
    return CausalTarget(HuggingFaceModel(model.eval().requires_grad_(False), own))


@dataclass
class CachedText:
    """The key-value cache of B rows.

    A step writes all rows into the same column of the cache; `own` masks the columns that do not belong to a row.

    Args:
        cache: keys and values (B, heads, S, ·) of every layer.
        own: (B, S) bool, True if the column holds a token of the row.
    """

    cache: Any
    own: Tensor


class HuggingFaceModel:
    """See `CausalModel`.

    Args:
        model: a `transformers` causal model, frozen.
        tokenizer: the model's own tokenizer.
    """

    def __init__(self, model: Any, tokenizer: SubwordTokenizer) -> None:
        self.model = model
        self.vocab_size = len(tokenizer.vocabulary)
        self.device = model.device
        ids = _special_ids(model, tokenizer) | tokenizer.own_ids
        rows = model.get_output_embeddings().weight.shape[0]
        if max(ids.values()) >= rows:
            raise ValueError(f"the tokenizer has ids beyond the {rows} of the model; use the model's own")
        self._to_model = torch.tensor([ids[i] for i in range(self.vocab_size)], device=self.device)
        predicted = torch.arange(self.vocab_size) >= Vocabulary.FIRST_WORD
        predicted[Vocabulary.EOS] = True
        self._never = ~predicted.to(self.device)
        arguments = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in arguments else {}
        self._cache = "cache" if "cache" in arguments else "past_key_values"  # its name in newer versions

    def read(self, prefixes: Tensor) -> tuple[Tensor, CachedText]:
        """See `CausalModel`."""
        own = prefixes != Vocabulary.PAD
        return self._forward(prefixes, CachedText(library().DynamicCache(), own[:, :0]), own)

    def step(self, tokens: Tensor, state: CachedText, active: Tensor) -> tuple[Tensor, CachedText]:
        """See `CausalModel`."""
        log_probs, state = self._forward(tokens[:, None], state, torch.ones_like(active)[:, None])
        state.own[:, -1] = active
        used = int(state.own.any(0).to(torch.int64).argmax())
        if used > _SLACK:
            for layer in state.cache.layers:
                layer.keys, layer.values = layer.keys[:, :, used:].clone(), layer.values[:, :, used:].clone()
            state.own = state.own[:, used:]
        return log_probs, state

    def put(self, state: CachedText, rows: Tensor, new: CachedText) -> CachedText:
        """See `CausalModel`."""
        width = new.own.shape[1]
        lacking = max(0, width - state.own.shape[1])
        state.own = torch.nn.functional.pad(state.own, (lacking, 0))
        state.own[rows] = False
        state.own[rows, -width:] = new.own
        for layer, fresh in zip(state.cache.layers, new.cache.layers, strict=True):
            for name in ("keys", "values"):
                wide = torch.nn.functional.pad(getattr(layer, name), (0, 0, lacking, 0))
                wide[rows, :, -width:] = getattr(fresh, name)
                setattr(layer, name, wide)
        return state

    def on(self, device: torch.device) -> HuggingFaceModel:
        """See `CausalModel`."""
        if device == self.device:
            return self
        moved = copy.copy(self)
        moved.model, moved.device = copy.deepcopy(self.model).to(device), device
        moved._to_model, moved._never = self._to_model.to(device), self._never.to(device)
        return moved

    def _forward(self, tokens: Tensor, state: CachedText, own: Tensor) -> tuple[Tensor, CachedText]:
        """Append `tokens` (B, W) where `own` (B, W); log-probabilities after the last one."""
        every = torch.cat([state.own, own], 1)
        place = (every.cumsum(1) - 1).clamp(min=0)[:, state.own.shape[1] :]
        out = self.model(
            input_ids=self._to_model[tokens],
            attention_mask=every.to(torch.int64),
            position_ids=place,
            use_cache=True,
            **{self._cache: state.cache},
            **self._last_only,
        )
        logits = out.logits[:, -1].to(torch.float64)[:, self._to_model]
        return torch.log_softmax(logits.masked_fill(self._never, -torch.inf), -1), CachedText(state.cache, every)


def library() -> Any:
    """The module `transformers`."""
    try:
        import transformers
    except ImportError:
        raise ImportError('the target "causal_lm" needs the library transformers; pip install "tokenlm[hf]"') from None
    return transformers


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


def _special_ids(model: Any, tokenizer: SubwordTokenizer) -> dict[int, int]:
    """The model's own id for each of our special tokens."""
    config = model.config.get_text_config()
    eos = config.eos_token_id
    eos = eos[0] if isinstance(eos, (list, tuple)) and eos else eos
    if not isinstance(eos, int):
        raise ValueError("the model's configuration has no eos_token_id, the token that ends a text; set it")
    bos = config.bos_token_id if isinstance(config.bos_token_id, int) else eos
    line_break = tokenizer.encode("\n")
    return {
        Vocabulary.PAD: eos,
        Vocabulary.UNK: eos if tokenizer.unknown_id is None else tokenizer.unknown_id,
        Vocabulary.BOS: bos,
        Vocabulary.EOS: eos,
        Vocabulary.SEP: tokenizer.own_ids.get(line_break[0], eos) if len(line_break) == 1 else eos,
    }
