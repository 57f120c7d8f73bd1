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
from .causal import CausalTarget, trimmed

TOKENIZER_FILE = "tokenizer.json"
_TESTED = 64  # tokens of a test of the cache if the length of texts is not known
_STEPS = 8  # of that test
_TOLERANCE = 2e-3  # nats; rounding in float32 is below
_SLACK = 32  # unused columns at the front of the cache before it is cut


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
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as problem:
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


@torch.no_grad()
def check_causal(model: WholeTextModel, length: int, name: str) -> None:
    """Raise ValueError if a token changes the log-probabilities before it, in texts of `length` tokens."""
    text = _random_texts(model, 1, max(length, 2)).repeat(3, 1)
    half = text.shape[1] // 2
    text[1, -1] = _another(model, text[1, -1])
    text[2, half] = _another(model, text[2, half])
    try:
        logits = model.model(input_ids=model.to_model[text]).logits.to(torch.float64)
    except Exception as problem:  # the library and the model's own code may raise anything
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(f"the model {name!r} cannot read a text of {text.shape[1]} tokens: {reason}") from None
    log_probs = torch.log_softmax(logits, -1)
    for row, place in ((1, text.shape[1] - 1), (2, half)):
        change = float((log_probs[row, :place] - log_probs[0, :place]).abs().max()) if place else 0.0
        if not change <= _TOLERANCE:
            raise ValueError(
                f"the model {name!r} is not causal: a token changes the log-probabilities before it by up to "
                f"{change:.2g} nats; use a model that reads from left to right"
            )


@torch.no_grad()
def cache_agrees(cached: CachedModel, whole: WholeTextModel, longest: int) -> bool:
    """Whether the cache gives what reading whole texts gives, at all positions in use.

    Three texts of different lengths are read together and go on; two of them begin anew on the way. The longest has
    `longest` tokens in the end, because a sliding window or a change of position codes shows only behind its length.
    The cache has as many columns as it can ever have.
    """
    steps = min(_STEPS, longest - 1)
    if steps < 1:
        return True
    lengths = [longest - steps, min(3, longest - steps), min(9, longest - steps)]
    texts = [_random_texts(whole, 1, length)[0] for length in lengths]
    active = torch.ones(len(texts), dtype=torch.bool, device=whole.device)
    try:
        found, state = cached.read(_together(texts, longest - steps + _SLACK))
        for step in range(steps + 1):
            if step in (0, steps // 2, steps):
                expected = torch.cat([whole.read(text[None])[0] for text in texts])
                if not _same(found, expected):
                    return False
            if step == steps // 2:
                anew = torch.tensor([1, 2], device=whole.device)
                lengths = [max(1, longest // 2 - steps), 1]
                texts[1:] = [_random_texts(whole, 1, length)[0] for length in lengths]
                fresh, begun = cached.read(_together(texts[1:], max(lengths)))
                state = cached.put(state, anew, begun)
                found = found.index_copy(0, anew, fresh)
            if step < steps:
                tokens = _random_texts(whole, len(texts), 1)[:, 0]
                found, state = cached.step(tokens, state, active)
                texts = [torch.cat([text, token[None]]) for text, token in zip(texts, tokens, strict=True)]
    except Exception:  # a model without such a cache may raise anything, from its own code
        return False
    return True


def _same(found: Tensor, expected: Tensor) -> bool:
    finite = torch.isfinite(expected)
    return bool((torch.isfinite(found) == finite).all() and (found - expected)[finite].abs().max() <= _TOLERANCE)


def _random_texts(model: WholeTextModel, count: int, length: int) -> Tensor:
    """(count, length) random words, the same at every call of the same shape."""
    generator = torch.Generator().manual_seed(count * 1_000_003 + length)
    words = torch.randint(Vocabulary.FIRST_WORD, model.vocab_size, (count, length), generator=generator)
    return words.to(model.device)


def _another(model: WholeTextModel, word: Tensor) -> Tensor:
    """A word that is not `word`, if there are two."""
    first = Vocabulary.FIRST_WORD
    return first + (word - first + 1) % (model.vocab_size - first)


def _together(texts: list[Tensor], width: int) -> Tensor:
    """Texts as one batch of `width` columns, left-padded."""
    return torch.stack([torch.nn.functional.pad(t, (width - len(t), 0), value=Vocabulary.PAD) for t in texts])


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
