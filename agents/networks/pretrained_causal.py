"""Causal language models as Q-networks, with a key-value cache whose rows can be replaced."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from .base import State
from .pairs import refuse_longer, widened
from .pretrained import PretrainedQNetwork


class PretrainedCausalQNetwork(PretrainedQNetwork):
    """GPT-2, Llama and similar models; see `PretrainedQNetwork` for the arguments.

    Attributes:
        has_cache: whether steps use a key-value cache. Models with a cache of another kind, or with a sliding window
            shorter than `max_length`, process the whole text again at every step.
    """

    def _take(self, model: Any) -> None:
        self.body = model.base_model if model.base_model is not model else model.get_decoder()
        names = inspect.signature(self.body.forward).parameters
        self._cache_name = next((name for name in ("cache", "past_key_values") if name in names), "")
        self.has_cache = self._steps_as_it_reads()

    def _bodies(self) -> list[nn.Module]:
        return [self.body]

    def _probe(self, model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
        body = model.base_model if model.base_model is not model else model.get_decoder()
        return body(input_ids=ids, use_cache=False).last_hidden_state, model(input_ids=ids, use_cache=False).logits

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        refuse_longer(tokens.shape[1], self.max_length)
        # Padding needs no mask: it is on the right, and attention is causal.
        return self._seen(self.body(inputs_embeds=self._embed(tokens), use_cache=False).last_hidden_state)

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`.

        The state is (keys, values, lengths), with keys and values (B, layers, heads, max_length, D / heads). Without a
        cache it is (tokens (B, max_length), lengths).
        """
        rows = torch.arange(len(tokens), device=tokens.device)
        if not self.has_cache:
            return self(tokens)[rows, lengths - 1], (widened(tokens, self.max_length, 1), lengths.clone())
        refuse_longer(tokens.shape[1], self.max_length)
        hidden, keys, values = self._read_keeping(tokens)
        caches = (widened(part, self.max_length, 3) for part in (keys, values))
        return self._seen(hidden[rows, lengths - 1]), (*caches, lengths.clone())

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`. A text longer than `max_length` raises ValueError."""
        *kept, lengths = state
        used = int(lengths.max()) + 1
        refuse_longer(used, self.max_length)
        rows = torch.arange(len(tokens), device=tokens.device)
        if not self.has_cache:
            kept[0][rows, lengths] = tokens
            return self(kept[0][:, :used])[rows, lengths], (kept[0], lengths + 1)
        keys, values = kept
        x = self._embed(tokens[:, None])
        visible = torch.arange(used, device=tokens.device) <= lengths[:, None]
        mask = torch.zeros(visible.shape, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(~visible, torch.finfo(x.dtype).min)[:, None, None]
        hidden = self.body(
            inputs_embeds=x, attention_mask=mask, position_ids=lengths[:, None], use_cache=True,
            **{self._cache_name: _cache_of(keys, values, lengths, used)},
        ).last_hidden_state  # fmt: skip
        return self._seen(hidden[:, 0]), (keys, values, lengths + 1)

    def _read_keeping(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states (B, T, D), and keys and values of all layers (B, layers, heads, T, D / heads)."""
        from transformers import DynamicCache

        cache = DynamicCache()
        hidden = self.body(
            inputs_embeds=self._embed(tokens), use_cache=True, **{self._cache_name: cache}
        ).last_hidden_state
        keys, values = (torch.stack([getattr(layer, n) for layer in cache.layers], 1) for n in ("keys", "values"))
        return hidden, keys, values

    @torch.no_grad()
    def _steps_as_it_reads(self) -> bool:
        """Whether `encode` and two `step`s, in rows of different lengths, give the hidden vectors of one pass."""
        window = getattr(self.config, "sliding_window", None)
        if not self._cache_name or (window is not None and window < self.max_length) or self.max_length < 4:
            return False
        was_training = self.training
        self.eval()
        self.has_cache = True
        tokens = torch.arange(8).view(2, 4) % self.vocab_size
        lengths = torch.tensor([1, 2])
        expected = self(tokens)
        try:
            _, state = self.encode(tokens[:, :2], lengths)
            for step in range(2):
                found, state = self.step(tokens[torch.arange(2), lengths + step], state)
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False  # a model with a cache of another kind
        finally:
            self.train(was_training)
        tolerance = 1e-3 if self.weight_dtype == torch.float32 else 5e-2
        return bool((found - expected[torch.arange(2), lengths + 1]).abs().max() < tolerance * expected.abs().max())


def _cache_of(keys: Tensor, values: Tensor, lengths: Tensor, used: int) -> Any:
    """The library's cache on our tensors: new tokens are written at their row's length, `used` positions are read."""
    from transformers.cache_utils import Cache, DynamicLayer

    rows = torch.arange(len(lengths), device=lengths.device)

    def write(number: int, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for own, new in ((keys, key), (values, value)):  # (B, heads, 1, S)
            own[rows, number, :, lengths] = new[:, :, 0].to(own.dtype)
        return keys[:, number, :, :used], values[:, number, :, :used]

    layers: list[Any] = []
    for number in range(keys.shape[1]):
        layer: Any = DynamicLayer()
        layer.keys, layer.values, layer.is_initialized = keys[:, number], values[:, number], True
        layer.update = functools.partial(write, number)
        layers.append(layer)
    return Cache(layers=layers)
