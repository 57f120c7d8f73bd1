"""Pretrained language models as Q-networks: the base class of the causal and the encoder–decoder kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from ...envs.arguments import number, refuse_own_code
from ...envs.text import Tokenizer, write_text_atomically
from .base import QNetwork
from .config import NetworkConfig
from .heads import Heads
from .pieces import mean_rows, pieces_of
from .precision import DTYPES

FOLDER = "pretrained"  # subfolder of a saved agent, with the model's configuration
_PROBED = 8  # tokens for measuring the model's output head
Self = TypeVar("Self", bound="PretrainedQNetwork")


@dataclass(frozen=True)
class PretrainedConfig(NetworkConfig):
    """A Hugging Face model: causal (GPT-2, Llama, …), or for tasks of pairs encoder–decoder (T5, BART, …).

    The model determines sizes and dropout. Use a learning rate around 1e-4.

    Args:
        pretrained: local folder of the model, or its name on the Hugging Face hub.
        lora_rank: train only the heads and LoRA adapters of this rank on the linear layers (Hu et al. 2022); None
            trains all weights.
        gradient_checkpointing: recompute the layers in the backward pass instead of keeping their outputs.
        weight_dtype: of the model's own weights; adapters are float32. "bfloat16" needs lora_rank, because rounding to
            bfloat16 would lose most updates of a trained weight.
        sharded: processes that train together (torchrun) each keep a part of the trained weights, gradients, moments
            and target network (FSDP2), and whole weights to act with. Without others it changes nothing.
    """

    normalized = True
    takes_phrases = False

    name: str = "pretrained"
    unigram_bias: bool = False
    pretrained: str | None = None
    lora_rank: int | None = number(None, 1)
    gradient_checkpointing: bool = False
    weight_dtype: Literal["float32", "bfloat16"] = "float32"
    sharded: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that cannot work."""
        super().__post_init__()
        if self.pretrained is None:
            raise ValueError("the network 'pretrained' needs the setting pretrained, the folder or name of its model")
        if self.weight_dtype != "float32" and self.lora_rank is None:
            raise ValueError(
                "weight_dtype 'bfloat16' needs lora_rank, because trained weights in bfloat16 lose most of each update "
                "to rounding; for faster matrix products use precision bfloat16"
            )

    @property
    def model(self) -> str:
        """`pretrained`, the folder or name of the model."""
        return str(self.pretrained)


class PretrainedQNetwork(QNetwork):
    """Heads on the hidden states of a Hugging Face model.

    The action head, and the behaviour head if there is one, are initialised from the model's output head, so that the
    initial policy at τ = 1 is the model's distribution over the environment's tokens. A token of the environment that
    is several of the model's tokens gets the mean of their embeddings and of their rows in the head (see `pieces_of`).

    Args:
        vocab_size: V.
        settings: which model, and how it is trained.
        max_length: longest text in tokens; at most what the model supports.
        tokenizer: of the environment; None if `saved` is given.
        saved: folder of a saved agent whose weights the caller loads afterwards; None for the pretrained weights.
        heads: which heads the network has, with one atom per action.
    """

    max_length: int

    def __init__(
        self,
        vocab_size: int,
        settings: PretrainedConfig,
        max_length: int = 512,
        tokenizer: Tokenizer | None = None,
        saved: Path | None = None,
        heads: Heads | None = None,
    ) -> None:
        heads = heads or Heads()
        if heads.atoms > 1:
            raise ValueError("the network 'pretrained' has no distributional heads; use a loss without atoms")
        model = _load(settings, saved)
        table_module = model.get_input_embeddings()
        with torch.no_grad():
            # By a forward pass, because some models scale their embeddings.
            table = table_module(torch.arange(table_module.num_embeddings)).float()
            weight = model.get_output_embeddings().weight.detach().float()
        super().__init__(vocab_size, weight.shape[1], heads)
        self.config = model.config
        positions = getattr(model.config, "max_position_embeddings", None) or 0
        self.max_length = min(max_length, positions) if positions > 0 else max_length  # -1 stands for no limit
        self.sharded = settings.sharded
        self.embedding = nn.Embedding(vocab_size, table.shape[1])
        self.weight_dtype = DTYPES[settings.weight_dtype]
        if saved is None:
            if tokenizer is None:
                raise ValueError("a pretrained network needs the environment's tokenizer, which only DQN passes on")
            pieces = pieces_of(tokenizer, _tokenizer(settings.model), model.config)
            scale, bias = self._head_of(model, weight)
            self.embedding.weight.data.copy_(mean_rows(table, pieces))
            for head in (self.head, self.behaviour_head):
                if head is not None:
                    head.weight.data.copy_(mean_rows(scale * weight, pieces))
                    head.bias.data.add_(mean_rows(bias, pieces))
            whole = sum(len(ids) == 1 for ids in pieces)
            self.notes = (
                f"pretrained {settings.model}: {whole:,} of {vocab_size:,} tokens are the model's own"
                + (", the others the mean of several" if whole < vocab_size else ""),
            )
        self._take(model)
        self._without_table(table_module.weight)
        if settings.lora_rank is not None:
            self._add_lora(settings.lora_rank)
        if settings.gradient_checkpointing:
            for body in self._bodies():  # later versions of the library renamed the method
                old: Any = getattr(body, "gradient_checkpointing_enable", None)
                getattr(body, "activation_checkpointing_enable", old)({"use_reentrant": False})

    def _take(self, model: Any) -> None:
        """Keep the parts of the model that compute hidden states."""
        raise NotImplementedError

    def _bodies(self) -> list[nn.Module]:
        """These parts."""
        raise NotImplementedError

    @property
    def bodies(self) -> list[nn.Module]:
        """See `QNetwork`."""
        return self._bodies() if self.sharded else []

    def _probe(self, model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and logits of the whole model for (1, T) of its own ids."""
        raise NotImplementedError

    def fill(self, model: Any) -> None:
        """Put the weights that compute hidden states into a whole model in float32, with the adapters merged."""
        raise NotImplementedError

    def last_norm(self, model: Any) -> nn.Module:
        """The normalisation of a whole model whose output are the hidden states; an identity where it has none."""
        raise NotImplementedError

    def save_settings(self, folder: Path) -> None:
        """See `QNetwork`; saves the model's configuration, so that loading does not need the model's folder."""
        write_text_atomically(folder / FOLDER / "config.json", self.config.to_json_string(use_diff=False))

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(tokens).to(self.weight_dtype)
        return embedded

    def _seen(self, hidden: Tensor) -> Tensor:
        """The model's hidden states as input of the heads: in their dtype, normalised if configured."""
        seen: Tensor = self.norm_heads(hidden.to(self.head.weight.dtype))
        return seen

    @torch.no_grad()
    def _head_of(self, model: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The scale and bias with which logits = scale · W · hidden + bias, for the model's output weights W.

        Measured by a forward pass, because models scale their logits in different ways. Raises ValueError if the
        logits are not linear in the hidden states.
        """
        model.eval()
        ids = torch.arange(_PROBED)[None] % len(weight)
        with readable(type(model).__name__):
            hidden, logits = (part[0].float() for part in self._probe(model, ids))
        plain = hidden @ weight.t()
        spread, own = plain - plain.mean(0), logits - logits.mean(0)
        scale = (spread * own).sum() / (spread * spread).sum()
        bias = (logits - scale * plain).mean(0)
        tolerance = 1e-3 if self.weight_dtype == torch.float32 else 5e-2
        if (scale * plain + bias - logits).abs().max() > tolerance * logits.abs().max():
            raise ValueError(
                f"the logits of {type(model).__name__} are not linear in its hidden states, so they cannot initialise "
                "the action head; use a model whose output head is one linear layer, without logit soft-capping"
            )
        return scale, bias

    def _without_table(self, weight: Tensor) -> None:
        """Drop the model's own token embedding, which the environment's replaces."""
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Embedding) and child.weight is weight:
                    setattr(module, name, nn.Identity())

    def _add_lora(self, rank: int) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise ImportError('lora_rank needs the library peft; pip install "tokenlm[hf]"') from None
        self.embedding.requires_grad_(False)
        for body in self._bodies():
            body.requires_grad_(False)
            turned = any(type(module).__name__ == "Conv1D" for module in body.modules())  # GPT-2 transposes weights
            config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", fan_in_fan_out=turned)
            inject_adapter_in_model(config, body)
        for name, parameter in self.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """A copy that shares the frozen weights, so that a target network needs no second copy of the model."""
        for parameter in self.parameters():
            if not parameter.requires_grad:
                memo[id(parameter)] = parameter
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made


def merged(body: nn.Module) -> nn.Module:
    """A copy of a part of a model in float32 on the CPU, with its LoRA adapters added to its weights."""
    body = copy.deepcopy(body).float().cpu()
    if any("lora_" in name for name, _ in body.named_parameters()):
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, module in list(body.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                body.set_submodule(name, module.get_base_layer())
    return body


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Raise ValueError with one sentence for whatever the library and a model's own code raise inside."""
    try:
        yield
    except Exception as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(f"{name} cannot be used as a network: {reason}") from None


def is_encoder_decoder(settings: PretrainedConfig, saved: Path | None) -> bool:
    """Whether the model has an encoder and a decoder."""
    return bool(_config(settings, saved).is_encoder_decoder)


def _config(settings: PretrainedConfig, saved: Path | None) -> Any:
    place = settings.model if saved is None else str(saved / FOLDER)
    if not Path(place).is_dir() and (saved is not None or Path(place).is_absolute() or place.startswith(".")):
        raise FileNotFoundError(f"there is no folder {place!r} with a pretrained model")
    try:
        return _library("AutoConfig").from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        refuse_own_code(place, problem)
        raise ValueError(
            f"{place!r} is neither a folder nor a Hugging Face name of a model that transformers supports: "
            f"{str(problem).splitlines()[0]}"
        ) from None


def _load(settings: PretrainedConfig, saved: Path | None) -> Any:
    """The whole model, pretrained, or with random weights if `saved` is given."""
    config = _config(settings, saved)
    kind = _library("AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM")
    if saved is not None:
        model = kind.from_config(config, dtype=DTYPES[settings.weight_dtype], trust_remote_code=False)
        for weight in model.parameters():  # as large as trained ones, so that tests of the model show what it does
            if weight.ndim > 1:
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        return model
    dtype = DTYPES[settings.weight_dtype]
    return kind.from_pretrained(settings.model, config=config, dtype=dtype, trust_remote_code=False)


def _tokenizer(model: str) -> Any:
    try:
        return _library("AutoTokenizer").from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        refuse_own_code(model, problem)
        raise ValueError(
            f"the pretrained model {model!r} has no tokenizer that transformers can load: "
            f"{str(problem).splitlines()[0]}"
        ) from None


def _library(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise ImportError('a pretrained network needs the library transformers; pip install "tokenlm[hf]"') from None
    return getattr(transformers, name)
