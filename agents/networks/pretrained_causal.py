"""Causal language models as Q-networks, with a key-value cache whose rows can be replaced."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from .base import State
from .pairs import refuse_longer, widened
from .pretrained import PretrainedQNetwork, merged, readable

_STEPS = 8  # of the test of a cache


class PretrainedCausalQNetwork(PretrainedQNetwork):
    """GPT-2, Llama and similar models; see `PretrainedQNetwork` for the arguments.

    Attributes:
        has_cache: whether steps use a key-value cache. Models with a cache of another kind, or whose steps differ from
            one pass over the text anywhere up to `max_length` tokens (a sliding or local window), process the whole
            text again at every step.
    """

    def _take(self, model: Any) -> None:
        self.body = _body_of(model)
        names = inspect.signature(self.body.forward).parameters
        self._cache_name = next((name for name in ("cache", "past_key_values") if name in names), "")
        self.has_cache = False
        training = self.training
        self.eval()
        self._check_causal(type(model).__name__)
        self.has_cache = self._steps_as_it_reads()
        self.train(training)

    def _bodies(self) -> list[nn.Module]:
        return [self.body]

    def _probe(self, model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
        body = _body_of(model)
        return body(input_ids=ids, use_cache=False).last_hidden_state, model(input_ids=ids, use_cache=False).logits

    def fill(self, model: Any) -> None:
        """See `PretrainedQNetwork`."""
        _body_of(model).load_state_dict(merged(self.body).state_dict(), strict=False)  # it has no token embedding

    def last_norm(self, model: Any) -> nn.Module:
        """See `PretrainedQNetwork`."""
        outside = [m for name, m in _body_of(model).named_modules() if not any(p.isdigit() for p in name.split("."))]
        return next((m for m in reversed(outside) if type(m).__name__.endswith("Norm")), nn.Identity())

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
    def _check_causal(self, name: str) -> None:
        """Raise ValueError where hidden vectors change with the tokens after them, in texts of `max_length` tokens."""
        text = self._random_text(2)
        half = max(1, self.max_length // 2)
        text[1, :half] = text[0, :half]  # the same text up to there
        with readable(name):
            whole = self(text)
            begun = [self(text[:1, :length])[0] for length in (half, min(4, half))]  # rotary codes may know the length
        change = max(float((read - whole[0, : len(read)]).abs().max()) for read in (whole[1, :half], *begun))
        if not change <= self._tolerance * float(whole.abs().max()):
            raise ValueError(
                f"{name} is not causal: in a text of {self.max_length} tokens, hidden vectors change with the tokens "
                "after them; use a model that reads from left to right, or shorter texts"
            )

    @torch.no_grad()
    def _steps_as_it_reads(self) -> bool:
        """Whether `encode` and a few `step`s give the hidden vectors of one pass, up to `max_length` tokens.

        Three texts of different lengths go on together. A window of the model shows only in texts longer than it, and
        only in rows shorter than the longest.
        """
        window = getattr(self.config, "sliding_window", None)
        if not self._cache_name or (window is not None and window < self.max_length) or self.max_length < 4:
            return False
        steps = min(_STEPS, self.max_length - 1)
        first = self.max_length - steps
        lengths, rows = torch.tensor([first, min(9, first), 1]), torch.arange(3)
        text = self._random_text(3)
        expected = self(text)
        self.has_cache = True
        try:
            found, state = self.encode(text[:, :first], lengths)
            for step in range(steps + 1):
                error = (found - expected[rows, lengths + step - 1]).abs().max()
                if not error <= self._tolerance * expected.abs().max():
                    return False
                if step < steps:
                    found, state = self.step(text[rows, lengths + step], state)
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False  # a model with a cache of another kind
        return True

    def _random_text(self, count: int) -> Tensor:
        """(count, max_length) int64."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(self.vocab_size, (count, self.max_length), generator=generator)

    @property
    def _tolerance(self) -> float:
        """Of hidden vectors, as a part of the largest entry."""
        return 1e-3 if self.weight_dtype == torch.float32 else 5e-2


def _body_of(model: Any) -> Any:
    """The part of a model that computes hidden states; ValueError if none is found."""
    for body in (model.base_model, model.get_decoder(), getattr(model, "model", None)):
        if body is not None and body is not model:
            return body
    raise ValueError(f"{type(model).__name__} has no part that computes hidden states alone; use another model")


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
