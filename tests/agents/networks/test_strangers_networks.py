"""Causal models of many kinds as networks: a text read step by step, in rows of different lengths, as in one pass."""

import pytest
import tokenizers
import torch
import transformers

from tokenlm.agents.networks import Heads
from tokenlm.agents.networks.making import make_q_network, network_config
from tokenlm.envs import EnvConfig, World

WORDS = tuple(f"w{i}" for i in range(20))
OWN = {"vocab_size": 22, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {"initializer_range": 0.5}
KINDS = {
    # Of two layers one looks at the last 8 tokens.
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, window_size=8, max_position_embeddings=64,
        attention_types=[[["global", "local"], 1]], **WIDE, **OWN,
    ),
    "openai_gpt": lambda: transformers.OpenAIGPTConfig(n_positions=64, n_embd=16, n_layer=2, n_head=2, **WIDE, **OWN),
    "llama4": lambda: transformers.Llama4TextConfig(
        **SIZES, intermediate_size_mlp=32, num_key_value_heads=1, head_dim=8, num_local_experts=2,
        attention_chunk_size=8, **WIDE, **OWN,
    ),
    "opt": lambda: transformers.OPTConfig(
        hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        word_embed_proj_dim=16, init_std=0.5, **OWN,
    ),
}  # fmt: skip
NOT_CAUSAL = {
    # Other frequencies from the 13th token on, also for the tokens before it.
    "Phi3ForCausalLM": lambda: transformers.Phi3Config(
        **SIZES, num_key_value_heads=1, max_position_embeddings=64, original_max_position_embeddings=12,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
            "original_max_position_embeddings": 12,
        }, **WIDE, **OWN,
    ),
    "XLNetLMHeadModel": lambda: transformers.XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=32, **WIDE, **OWN),
}  # fmt: skip
ENV = EnvConfig(corpus=WORDS, tokenizer="word", context_length=20, max_new_tokens=16, prompt_length=(0, 0))
pytestmark = pytest.mark.filterwarnings("ignore")  # notes of the library on kernels that are not installed


def network_of(folder, config):
    vocabulary = {"<|end|>": 0, "<|pad|>": 1, **{word: i for i, word in enumerate(WORDS, 2)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|pad|>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|pad|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    network = network_config({"name": "pretrained", "pretrained": str(folder)})
    tokenizer = World.of(ENV).tokenizer
    return make_q_network(network, ENV, len(tokenizer.vocabulary), tokenizer=tokenizer).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_equals_reading_the_text_by_itself(kind, tmp_path):
    network = network_of(tmp_path, KINDS[kind]())
    assert network.has_cache == (kind == "opt")
    steps, rows = 20, torch.arange(3)
    lengths = torch.tensor([network.max_length - steps, 9, 3])
    text = torch.randint(5, network.vocab_size, (3, network.max_length))
    hidden, state = network.encode(text[:, : int(lengths.max())], lengths)
    for step in range(steps + 1):
        for row in range(3):
            alone = network(text[row : row + 1, : int(lengths[row]) + step])[0, -1]
            torch.testing.assert_close(hidden[row], alone, atol=1e-4, rtol=1e-4)
        if step < steps:
            hidden, state = network.step(text[rows, lengths + step], state)


def test_a_saved_network_knows_its_window_before_its_weights_are_there(tmp_path):
    network = network_of(tmp_path / "model", KINDS["gpt_neo"]())
    network.save_settings(tmp_path / "saved")
    settings = network_config({"name": "pretrained", "pretrained": "gone"})
    loaded = make_q_network(settings, ENV, network.vocab_size, Heads(), saved=tmp_path / "saved")
    assert not loaded.has_cache


@pytest.mark.parametrize("kind", NOT_CAUSAL)
def test_a_model_that_looks_ahead_is_refused(kind, tmp_path):
    with pytest.raises(ValueError, match=f"{kind} is not causal: in a text of 37 tokens, hidden vectors change with "):
        network_of(tmp_path, NOT_CAUSAL[kind]())
