"""Q-networks as causal language models of the Hugging Face library transformers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...envs import Vocabulary
from .attention import Block, LlamaBlock, each
from .base import QNetwork
from .linear_policy import linear_policy, without_bias
from .pretrained import PretrainedQNetwork
from .transformer import TransformerQNetwork

_CLOSE, _CLOSE_BFLOAT16 = 1e-4, 5e-2  # largest difference of log-probabilities, as a part of the largest
_IDS = {"pad_token_id": Vocabulary.PAD, "bos_token_id": Vocabulary.BOS, "eos_token_id": Vocabulary.EOS}
_LLAMA = {"norm_mix": "input_layernorm", "project": "self_attn.o_proj", "norm_feed": "post_attention_layernorm"}
_STARCODER = {**_LLAMA, "grow": "mlp.c_fc", "shrink": "mlp.c_proj"}
_GPT2 = {
    "norm_mix": "ln_1", "mix": "attn.c_attn", "project": "attn.c_proj", "norm_feed": "ln_2", "grow": "mlp.c_fc",
    "shrink": "mlp.c_proj",
}  # fmt: skip


@dataclass(frozen=True)
class LanguageModel:
    """A policy as a model of transformers.

    Args:
        model: its logits are log π up to a constant of the state, before `bias`.
        bias: (V,) to be added to the logits, which the model has no place for; None where nothing is left.
    """

    model: Any
    bias: Tensor | None = None


@torch.no_grad()
def language_model(network: QNetwork, temperature: float) -> LanguageModel:
    """The policy of a network as a model of transformers, in float32 on the CPU.

    A `TransformerQNetwork` of the layout "llama" is a Llama, with a window a Mistral; of the layout "gpt" a Starcoder2,
    with learned positions a GPT-2. A pretrained network is the model it came from, with its LoRA adapters merged.

    Args:
        network: it stays as it is.
        temperature: τ of the policy, nats; see `linear_policy`.

    Raises ValueError for a network or a policy that no model of the library is, ImportError without the library.
    """
    weight, bias = linear_policy(network, temperature)
    if isinstance(network, TransformerQNetwork):
        made = _transformer(network, weight, bias)
    elif isinstance(network, PretrainedQNetwork):
        made = _pretrained(network, weight, bias)
    else:
        raise ValueError(
            f"a {type(network).__name__} is no model of the library transformers; export a run of the network "
            "transformer or pretrained, or of lstm, which becomes ONNX"
        )
    made.model.eval()
    _check(network, made, weight, bias)
    return made


def _transformer(network: TransformerQNetwork, weight: Tensor, bias: Tensor) -> LanguageModel:
    blocks = list(each(network.blocks, Block))
    sizes: dict[str, Any] = {"vocab_size": network.vocab_size, "tie_word_embeddings": False, **_IDS}
    state: dict[str, Tensor] = {}
    weight, shift, left = without_bias(network.norm, weight, bias)
    norm = network.norm.state_dict() | ({} if shift is None else {"bias": shift})
    if network.positions is not None:
        if network.window is not None:
            raise ValueError("a GPT-2 has no attention_window; export a run with rotary positions, or without a window")
        config = _config("GPT2Config")(
            **sizes, n_positions=network.max_length, n_embd=network.hidden_size, n_layer=len(blocks),
            n_head=network.num_heads, n_inner=blocks[0].shrink.in_features, activation_function="gelu",
            attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
        )  # fmt: skip
        state |= {
            "transformer.wte.weight": network.embedding.weight,
            "transformer.wpe.weight": network.positions.weight,
        }
        state |= {f"transformer.ln_f.{name}": tensor for name, tensor in norm.items()}
        for number, block in enumerate(blocks):
            for ours, theirs in _GPT2.items():
                for name, tensor in block.get_submodule(ours).state_dict().items():
                    # GPT-2 keeps the weights of linear layers transposed.
                    state[f"transformer.h.{number}.{theirs}.{name}"] = tensor.T if tensor.ndim == 2 else tensor
    else:
        llama = isinstance(blocks[0], LlamaBlock)
        sizes |= {
            "hidden_size": network.hidden_size, "intermediate_size": blocks[0].shrink.in_features,
            "num_hidden_layers": len(blocks), "num_attention_heads": network.num_heads,
            "num_key_value_heads": network.num_heads, "max_position_embeddings": network.max_length,
            "rope_theta": 10_000.0,
        }  # fmt: skip
        if not llama:
            sizes |= {"hidden_act": "gelu", "norm_epsilon": 1e-5, "use_bias": True, "sliding_window": network.window}
            kind = "Starcoder2Config"
        else:
            sizes |= {"rms_norm_eps": 1e-6} | ({} if network.window is None else {"sliding_window": network.window})
            kind = "LlamaConfig" if network.window is None else "MistralConfig"
        config = _config(kind)(**sizes)
        state["model.embed_tokens.weight"] = network.embedding.weight
        state |= {f"model.norm.{name}": tensor for name, tensor in norm.items()}
        for number, block in enumerate(blocks):
            for name, tensor in _layer(block).items():
                state[f"model.layers.{number}.{name}"] = tensor
    return LanguageModel(_filled(config, {**state, "lm_head.weight": weight}), left)


def _layer(block: Block) -> dict[str, Tensor]:
    """The weights of a rotary block by their names in a Llama or a Starcoder2."""
    found: dict[str, Tensor] = {}
    names = _LLAMA | {"shrink": "mlp.down_proj"} if isinstance(block, LlamaBlock) else _STARCODER
    for ours, theirs in names.items():
        for name, tensor in block.get_submodule(ours).state_dict().items():
            found[f"{theirs}.{name}"] = tensor
    for name, tensor in block.mix.state_dict().items():
        for part, value in zip("qkv", tensor.chunk(3), strict=True):
            found[f"self_attn.{part}_proj.{name}"] = value
    if isinstance(block, LlamaBlock):
        for part, value in zip(("gate", "up"), block.grow.weight.chunk(2), strict=True):
            found[f"mlp.{part}_proj.weight"] = value
    return found


def _filled(config: Any, state: dict[str, Tensor]) -> Any:
    """The model of a configuration with these weights, all of them and no others."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict({name: tensor.detach().float().cpu() for name, tensor in state.items()})
    return model


def _pretrained(network: PretrainedQNetwork, weight: Tensor, bias: Tensor) -> LanguageModel:
    config = copy.deepcopy(network.config)
    if config.is_encoder_decoder:
        raise ValueError(
            "encoder-decoder models cannot be exported: the policy reads source and target as one text; "
            "`tokenlm generate` writes with them"
        )
    for name, value in {"vocab_size": network.vocab_size, "tie_word_embeddings": False, **_IDS}.items():
        setattr(config, name, value)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network.fill(model)
    table, out = model.get_input_embeddings(), model.get_output_embeddings()
    table.weight.copy_(torch.ones_like(table.weight))
    scale = table(torch.zeros(1, dtype=torch.int64)).flatten()[0]  # some models scale their embeddings
    table.weight.copy_(network.embedding.weight / scale)
    norm = network.last_norm(model)
    if out.bias is not None:
        shift, left = None, None
        out.bias.copy_(bias - bias.mean())
    else:
        weight, shift, left = without_bias(norm, weight, bias)
    out.weight.copy_(weight)
    if shift is not None and isinstance(norm, nn.LayerNorm):
        norm.bias.copy_(shift)
    return LanguageModel(model, left)


def _config(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise ImportError('an export needs the library transformers; pip install "tokenlm[hf]"') from None
    return getattr(transformers, name)


def _check(network: QNetwork, made: LanguageModel, weight: Tensor, bias: Tensor) -> None:
    """Raise ValueError where the model's log-probabilities of some text are not the policy's."""
    length = min(network.max_length or 32, 32)
    text = torch.randint(network.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    on = next(network.parameters()).device
    training = network.training
    hidden = network.eval()(text.to(on)).double().cpu()
    network.train(training)
    expected = torch.log_softmax(hidden @ weight.T + bias, -1)
    logits = made.model(input_ids=text).logits.double()
    found = torch.log_softmax(logits if made.bias is None else logits + made.bias, -1)
    error = float((found - expected).abs().max())
    exact = all(parameter.dtype == torch.float32 for parameter in network.parameters())
    if not error <= (_CLOSE if exact else _CLOSE_BFLOAT16) * max(1.0, float(expected.abs().max())):
        raise ValueError(
            f"the exported {type(made.model).__name__} differs from the policy by {error:.2g} nats; its kind of model "
            "cannot be exported"
        )
