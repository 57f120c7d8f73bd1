"""Causal models of `transformers` over the ids of an environment, with and without a cache of keys and values."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..text import Vocabulary
from ..text.subwords import SubwordTokenizer
from .causal import trimmed

SLACK = 32  # unused columns at the front of the cache before it is cut


class WholeTextModel:
    """A model that reads the whole text at every step, for models whose cache cannot be used; see `CausalModel`.

    It reads texts of the same length together and never sees padding, so that its log-probabilities are exactly those
    of the model's own forward pass. The state of B rows is their texts (B, S), left-padded.

    Args:
        model: a `transformers` causal model, frozen.
        tokenizer: the model's own tokenizer.
    """

    def __init__(self, model: Any, tokenizer: SubwordTokenizer) -> None:
        self.model = model
        self.vocab_size = len(tokenizer.vocabulary)
        self.device = model.device
        ids = _special_ids(model, tokenizer) | tokenizer.own_ids
        head = model.get_output_embeddings()
        rows = model.config.get_text_config().vocab_size if head is None else head.weight.shape[0]
        if max(ids.values()) >= rows:
            raise ValueError(f"the tokenizer has ids beyond the {rows} of the model; use the model's own")
        self.to_model = torch.tensor([ids[i] for i in range(self.vocab_size)], device=self.device)
        predicted = torch.arange(self.vocab_size) >= Vocabulary.FIRST_WORD
        predicted[Vocabulary.EOS] = True
        self._never = ~predicted.to(self.device)
        arguments = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in arguments else {}
        self._no_cache = {"use_cache": False} if "use_cache" in arguments else {}

    def read(self, prefixes: Tensor) -> tuple[Tensor, Any]:
        """See `CausalModel`."""
        return self._read(prefixes), prefixes

    def step(self, tokens: Tensor, state: Any, active: Tensor) -> tuple[Tensor, Any]:
        """See `CausalModel`."""
        longer = torch.cat([state, tokens[:, None]], 1)
        waiting = torch.nn.functional.pad(state, (1, 0), value=Vocabulary.PAD)
        texts = trimmed(torch.where(active[:, None], longer, waiting))
        log_probs = torch.zeros(len(texts), self.vocab_size, dtype=torch.float64, device=self.device)
        log_probs[active] = self._read(texts[active])
        return log_probs, texts

    def put(self, state: Any, rows: Tensor, new: Any) -> Any:
        """See `CausalModel`."""
        width = max(state.shape[1], new.shape[1])
        texts = torch.nn.functional.pad(state, (width - state.shape[1], 0), value=Vocabulary.PAD)
        texts[rows] = torch.nn.functional.pad(new, (width - new.shape[1], 0), value=Vocabulary.PAD)
        return texts

    def on(self, device: torch.device) -> Any:
        """See `CausalModel`."""
        if device == self.device:
            return self
        moved = copy.copy(self)
        moved.model, moved.device = copy.deepcopy(self.model).to(device), device
        moved.to_model, moved._never = self.to_model.to(device), self._never.to(device)
        return moved

    def _read(self, prefixes: Tensor) -> Tensor:
        lengths = (prefixes != Vocabulary.PAD).sum(1)
        log_probs = torch.zeros(len(prefixes), self.vocab_size, dtype=torch.float64, device=self.device)
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1)
            texts = self.to_model[prefixes[rows, prefixes.shape[1] - length :]]
            log_probs[rows] = self.normalised(self.model(input_ids=texts, **self._no_cache, **self._last_only))
        return log_probs

    def normalised(self, output: Any) -> Tensor:
        """(B, V) log-probabilities after the last token of the model's output, nats."""
        logits = output.logits[:, -1].to(torch.float64)[:, self.to_model]
        return torch.log_softmax(logits.masked_fill(self._never, -torch.inf), -1)


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


class CachedModel(WholeTextModel):
    """A model that reads one token per step, with a cache of keys and values; the state is a `CachedText`."""

    def __init__(self, model: Any, tokenizer: SubwordTokenizer) -> None:
        super().__init__(model, tokenizer)
        arguments = inspect.signature(model.forward).parameters
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
        if used > SLACK:
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

    def _forward(self, tokens: Tensor, state: CachedText, own: Tensor) -> tuple[Tensor, CachedText]:
        """Append `tokens` (B, W) where `own` (B, W); log-probabilities after the last one."""
        every = torch.cat([state.own, own], 1)
        place = (every.cumsum(1) - 1).clamp(min=0)[:, state.own.shape[1] :]
        out = self.model(
            input_ids=self.to_model[tokens],
            attention_mask=every.to(torch.int64),
            position_ids=place,
            use_cache=True,
            **{self._cache: state.cache},
            **self._last_only,
        )
        return self.normalised(out), CachedText(state.cache, every)


def library() -> Any:
    """The module `transformers`."""
    try:
        import transformers
    except ImportError:
        raise ImportError('the target "causal_lm" needs the library transformers; pip install "tokenlm[hf]"') from None
    return transformers


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
