"""Target `teacher`: a frozen Transformer made from a seed alone, which needs no corpus and no file.

The network has the form of Llama (Touvron et al. 2023, arXiv 2302.13971): RMSNorm before every part, rotary positions,
SwiGLU, no biases. Its weights are drawn by NumPy's generator, whose numbers are the same with every version of torch.
It computes in float64, so that p* is the same on every device but for the last digits.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..arrays import Floats, Ints
from ..text.vocabulary import Vocabulary
from .causal import CausalTarget, compute_device

_RANK = 8  # dimensions in which words differ: what one word teaches holds for those near it
_SHARPNESS = 0.2  # standard deviation of attention logits: heads look at the whole text, not at single places
_MIXED = 4.0  # size of what attention adds to the residual stream while it sees one token, of an embedding's 1
_FED = 1.7  # the same of the perceptron's hidden numbers, of which a gate lets about 0.6 through
_EPSILON = 1e-6  # of RMSNorm
_BASE = 10_000.0  # of the rotary frequencies
_ENTROPY = 0.6  # of a word, as a share of log V
_SCALES = (0.5, 1.5)  # between which the head's scale is looked for, by so many halvings of the interval
_HALVINGS = 5
_PROBE = (32, 64)  # texts and words that the entropy is measured on
_AT_ONCE = 500  # texts that are sampled side by side
_GROWTH = 32  # columns that a full cache grows by


class Sizes(NamedTuple):
    """Sizes of the Transformer.

    Args:
        width: D, numbers in a hidden vector.
        layers: blocks.
        heads: attention heads; D / heads must be an even number.
        inner: width of the perceptrons.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    inner: int = 128


class TeacherTarget(CausalTarget):
    """p* of a Transformer with random weights, see `teacher_weights`.

    Its perplexity is that of text. The head is scaled until a short sample of p*'s own texts has an entropy of
    0.6 log V nats a word: perplexity 63 at V = 1,000, 166 at 5,000 and 660 at 50,000. (Under n-gram models Song lyrics
    by character have 191 at V = 5,048, and WikiText-2 has 226 by word at V = 33,281.)

    Args:
        vocab_size: V, the five special tokens included; words are the ids from 5 on.
        seed: seed of the weights.
        eos_probability: probability of `<eos>` in every context.
        sizes: of the Transformer.
    """

    def __init__(
        self, vocab_size: int, seed: int = 0, eos_probability: float = 0.0, sizes: Sizes | None = None
    ) -> None:
        if vocab_size <= Vocabulary.FIRST_WORD:
            raise ValueError(f"a teacher target needs a vocab_size above {Vocabulary.FIRST_WORD}, not {vocab_size}")
        if not 0.0 <= eos_probability < 1.0:
            raise ValueError(f"eos_probability must lie in [0, 1), not {eos_probability}")
        sizes = sizes or Sizes()
        weights = teacher_weights(vocab_size, seed, sizes)
        head, low, high = weights["lm_head.weight"], *_SCALES
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            weights["lm_head.weight"] = middle * head
            if _entropy(Teacher(weights, sizes)) > _ENTROPY * math.log(vocab_size):
                low = middle
            else:
                high = middle
        weights["lm_head.weight"] = (low + high) / 2 * head
        super().__init__(Teacher(weights, sizes, eos_probability))

    def sample_documents(self, count: int, length: int, seed: int) -> list[list[int]]:
        """`count` documents drawn from p*, each up to `<eos>` (left out) or `length` words.

        The first word is drawn given that it is not `<eos>`, so that no document is empty.
        """
        rng, model = np.random.default_rng(seed), cast(Teacher, self.model_on(compute_device(np.zeros(0))))
        parts = [min(_AT_ONCE, count - first) for first in range(0, count, _AT_ONCE)]
        texts = np.concatenate([model.sample(part, length, rng) for part in parts])
        lengths = (texts != Vocabulary.EOS).sum(1)
        return [text[:end].tolist() for text, end in zip(texts, lengths, strict=True)]


@torch.no_grad()
def _entropy(model: Teacher) -> float:
    """Mean entropy of a word, nats, in a few texts that the model writes."""
    texts = torch.from_numpy(model.sample(*_PROBE, np.random.default_rng(0)))
    return float(np.mean([float(model.entropies(text[None]).mean()) for text in texts]))


def teacher_weights(vocab_size: int, seed: int, sizes: Sizes | None = None) -> dict[str, Floats]:
    """Random weights of the Transformer by the names that `transformers` gives those of a `LlamaForCausalLM`.

    Word a is a point z_a ~ N(0, I) of eight dimensions and has a frequency f_a ~ N(0, 1). Its embedding is
    (√(D - 1), B z_a), its row of the head √(log V / D)·(f_a, C z_a), with random matrices B and C of orthogonal columns
    that make numbers of mean square 1. Blocks neither read nor write the first coordinate: with f it makes some words
    frequent everywhere. As RMSNorm gives vectors of length √D, logits have a variance of about log V over the words,
    and the softmax of V Gaussian numbers of the variance σ² < 2 log V has the entropy log V - σ²/2 (Derrida 1981), half
    of log V here; `TeacherTarget` scales the head to what it wants.

    All other matrices have independent Gaussian entries. Attention is soft: what a head reads is a mean over the whole
    text, so that all words written bear on the next one, not only the last.

    Args:
        vocab_size: V.
        seed: of NumPy's generator.
        sizes: of the Transformer.

    Returns: float64 arrays (outputs, inputs) by name.
    """
    width, layers, heads, inner = sizes or Sizes()
    if width % heads or width // heads % 2 or width <= _RANK:
        raise ValueError(
            f"width {width} must be a multiple of heads {heads}, an even one for rotary positions, and above {_RANK}"
        )
    rng = np.random.default_rng([seed, 1])  # not the numbers that documents of the same seed are sampled by

    def gaussian(rows: int, columns: int, size: float = 1.0) -> Floats:
        """(rows, columns) whose product with a vector of `columns` numbers of size 1 has numbers of size `size`."""
        return rng.standard_normal((rows, columns)) * (size / math.sqrt(columns))

    def reading(rows: int, size: float = 1.0) -> Floats:
        matrix = gaussian(rows, width, size)
        matrix[:, 0] = 0.0
        return matrix

    def writing(columns: int, size: float) -> Floats:
        matrix = gaussian(width, columns, size)
        matrix[0] = 0.0
        return matrix

    def spread_out(points: Floats) -> Floats:
        directions = np.linalg.qr(rng.standard_normal((width - 1, _RANK)))[0]
        return points @ directions.T * math.sqrt((width - 1) / _RANK)

    words = rng.standard_normal((vocab_size, _RANK))
    frequencies = rng.standard_normal((vocab_size, 1))
    shared = np.full((vocab_size, 1), math.sqrt(width - 1))
    scale = math.sqrt(math.log(vocab_size) / width)
    weights = {
        "model.embed_tokens.weight": np.concatenate([shared, spread_out(words)], 1),
        "lm_head.weight": scale * np.concatenate([frequencies, spread_out(words)], 1),
        "model.norm.weight": np.ones(width),
    }
    for layer in range(layers):
        own = {
            "self_attn.q_proj": reading(width, math.sqrt(_SHARPNESS)),
            "self_attn.k_proj": reading(width, math.sqrt(_SHARPNESS)),
            "self_attn.v_proj": reading(width),
            "self_attn.o_proj": writing(width, _MIXED),
            "mlp.gate_proj": reading(inner),
            "mlp.up_proj": reading(inner),
            "mlp.down_proj": writing(inner, _FED),
            "input_layernorm": np.ones(width),
            "post_attention_layernorm": np.ones(width),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": matrix for name, matrix in own.items()}
    return weights


class Cache(NamedTuple):
    """Keys and values of B texts; the token at position p of a text is in column p.

    Args:
        keys: (layers, B, heads, S, D / heads).
        values: of the same shape.
        lengths: (B,) int64, tokens read.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor


class Teacher:
    """The Transformer of `teacher_weights`, as a `CausalModel`; float64.

    Args:
        weights: arrays by name.
        sizes: of the Transformer.
        eos_probability: probability of `<eos>` in every context; words share the rest.
    """

    def __init__(self, weights: dict[str, Floats], sizes: Sizes, eos_probability: float = 0.0) -> None:
        self.sizes = sizes
        self.weights = {name: torch.from_numpy(matrix) for name, matrix in weights.items()}
        self.vocab_size = len(weights["lm_head.weight"])
        self.eos_probability = eos_probability

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) texts of equal length to (B, T, V) logits of the token after each prefix."""
        return self._hidden(tokens)[0] @ self.weights["lm_head.weight"].T

    def entropies(self, tokens: Tensor) -> Tensor:
        """(B, T) texts of equal length to (B, T) entropies of the word after each prefix, nats."""
        log_probs = torch.log_softmax(self.logits(tokens)[..., Vocabulary.FIRST_WORD :], -1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def read(self, prefixes: Tensor) -> tuple[Tensor, Cache]:
        """See `CausalModel`."""
        lengths = (prefixes != Vocabulary.PAD).sum(1)
        # Padding goes behind the text, where a causal model does not see it.
        place = torch.arange(prefixes.shape[1], device=prefixes.device) - lengths[:, None]
        hidden, keys, values = self._hidden(prefixes.gather(1, place % prefixes.shape[1]))
        last = hidden[torch.arange(len(prefixes), device=prefixes.device), lengths - 1]
        return self._log_probs(last), Cache(keys, values, lengths)

    def step(self, tokens: Tensor, state: Cache, active: Tensor) -> tuple[Tensor, Cache]:
        """See `CausalModel`."""
        hidden, state = self.append(tokens, state, active)
        return self._log_probs(hidden), state

    def append(self, tokens: Tensor, state: Cache, active: Tensor) -> tuple[Tensor, Cache]:
        """`step`, with the last hidden vectors (B, D) in place of log-probabilities."""
        lengths = state.lengths
        keys, values = self._with_room(state, int(lengths.max()) + 1)
        rows = torch.arange(len(tokens), device=tokens.device)
        seen = torch.arange(keys.shape[3], device=tokens.device) <= lengths[:, None]
        x = self.weights["model.embed_tokens.weight"][tokens][:, None]
        for layer in range(self.sizes.layers):
            query, key, value = self._heads(layer, x, lengths[:, None])
            keys[layer, rows, :, lengths] = key[:, :, 0]
            values[layer, rows, :, lengths] = value[:, :, 0]
            mixed = F.scaled_dot_product_attention(query, keys[layer], values[layer], attn_mask=seen[:, None, None])
            x = self._finish(layer, x, mixed)
        # A resting row has written behind its text; its next token is written over that.
        return _normalised(x)[:, 0], Cache(keys, values, lengths + active)

    def sample(self, count: int, length: int, rng: np.random.Generator) -> Ints:
        """(count, length) words drawn from p*, `<eos>` after the end of a text; the first word is never `<eos>`."""
        head = self.weights["lm_head.weight"][Vocabulary.FIRST_WORD :].T
        state, active = self.empty(count), torch.ones(count, dtype=torch.bool, device=head.device)
        tokens = torch.full((count,), Vocabulary.BOS, device=head.device)
        texts = np.full((count, length), Vocabulary.EOS)
        for step in range(length):
            hidden, state = self.append(tokens, state, active)
            logits = hidden @ head
            cumulative = (logits - logits.amax(1, keepdim=True)).exp_().cumsum(1)
            ends, place = torch.from_numpy(rng.random((2, count))).to(head.device)
            words = torch.searchsorted(cumulative, place[:, None] * cumulative[:, -1:], right=True)[:, 0]
            active = active & ((ends >= self.eos_probability) | (step == 0))
            tokens = torch.where(active, words + Vocabulary.FIRST_WORD, Vocabulary.EOS)
            texts[:, step] = tokens.cpu()
        return texts

    def empty(self, count: int) -> Cache:
        """The cache of `count` texts without a token."""
        width, layers, heads, _ = self.sizes
        keys = self.weights["lm_head.weight"].new_zeros(layers, count, heads, 0, width // heads)
        return Cache(keys, keys, torch.zeros(count, dtype=torch.int64, device=keys.device))

    def put(self, state: Cache, rows: Tensor, new: Cache) -> Cache:
        """See `CausalModel`."""
        width = new.keys.shape[3]
        keys, values = self._with_room(state, width)
        keys[:, rows, :, :width], values[:, rows, :, :width] = new.keys, new.values
        return Cache(keys, values, state.lengths.index_copy(0, rows, new.lengths))

    def on(self, device: torch.device) -> Teacher:
        """See `CausalModel`."""
        moved = copy.copy(self)
        moved.weights = {name: matrix.to(device) for name, matrix in self.weights.items()}
        return moved

    def _log_probs(self, hidden: Tensor) -> Tensor:
        """(B, D) last hidden vectors to (B, V) log-probabilities of words and `<eos>`, -inf for other tokens."""
        logits = hidden @ self.weights["lm_head.weight"].T
        logits[:, : Vocabulary.FIRST_WORD] = -torch.inf
        log_probs = torch.log_softmax(logits, -1) + math.log1p(-self.eos_probability)
        if self.eos_probability:
            log_probs[:, Vocabulary.EOS] = math.log(self.eos_probability)
        return log_probs

    def _hidden(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T) tokens to hidden vectors (B, T, D), and keys and values (layers, B, heads, T, D / heads)."""
        place = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.weights["model.embed_tokens.weight"][tokens]
        keys, values = [], []
        for layer in range(self.sizes.layers):
            query, key, value = self._heads(layer, x, place)
            x = self._finish(layer, x, F.scaled_dot_product_attention(query, key, value, is_causal=True))
            keys.append(key)
            values.append(value)
        return _normalised(x), torch.stack(keys), torch.stack(values)

    def _of(self, layer: int, name: str) -> Tensor:
        return self.weights[f"model.layers.{layer}.{name}.weight"]

    def _heads(self, layer: int, x: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) at positions `place` (B or 1, T) to query, key and value (B, heads, T, D / heads)."""
        batch, length, width = x.shape
        size = width // self.sizes.heads
        normalised = _normalised(x)
        parts = (normalised @ self._of(layer, f"self_attn.{name}_proj").T for name in "qkv")
        query, key, value = (part.view(batch, length, -1, size).transpose(1, 2) for part in parts)
        frequency = _BASE ** (-torch.arange(0, size, 2, device=x.device, dtype=x.dtype) / size)
        angle = place[:, None, :, None] * frequency
        turn = angle.cos(), angle.sin()
        return _rotated(query, *turn), _rotated(key, *turn), value

    def _finish(self, layer: int, x: Tensor, mixed: Tensor) -> Tensor:
        """(B, T, D) residual stream and (B, heads, T, D / heads) what attention read to the block's output."""
        x = x + mixed.transpose(1, 2).flatten(2) @ self._of(layer, "self_attn.o_proj").T
        normalised = _normalised(x)
        gate, up = (normalised @ self._of(layer, f"mlp.{name}_proj").T for name in ("gate", "up"))
        return x + (F.silu(gate) * up) @ self._of(layer, "mlp.down_proj").T

    def _with_room(self, state: Cache, width: int) -> tuple[Tensor, Tensor]:
        """Keys and values with at least `width` columns, to be written to."""
        if width <= state.keys.shape[3]:
            return state.keys, state.values
        more = width - state.keys.shape[3] + _GROWTH
        return F.pad(state.keys, (0, 0, 0, more)), F.pad(state.values, (0, 0, 0, more))


def _normalised(x: Tensor) -> Tensor:
    """RMSNorm (Zhang & Sennrich 2019) of the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + _EPSILON)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of x (B, heads, T, S), cos and sin (B or 1, 1, T, S / 2)."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
