"""Models of many kinds as p*: step by step against transformers' own forward pass on each text by itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from tokenlm.envs import EnvConfig, TokenLMDeviceEnv, TokenLMVectorEnv, World
from tokenlm.envs.targets import check_target
from tokenlm.envs.targets.causal import CausalTarget
from tokenlm.envs.targets.huggingface import (
    CachedModel,
    WholeTextModel,
    check_causal,
    load_huggingface,
    model_tokenizer,
)

WORDS = [f"w{i}" for i in range(20)]
OWN = {"vocab_size": 22, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {"initializer_range": 0.5}


def gpt_neo(positions: int) -> transformers.GPTNeoConfig:
    """Of two layers one looks at the last 8 tokens."""
    return transformers.GPTNeoConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, window_size=8,
        max_position_embeddings=positions, attention_types=[[["global", "local"], 1]], **WIDE, **OWN,
    )  # fmt: skip


KINDS = {
    "gpt_neo": lambda: gpt_neo(128),
    # Enough positions for the texts, but not for a cache with the columns of texts that are over.
    "gpt_neo_narrow": lambda: gpt_neo(40),
    # Turns keys by their column in the cache, whatever the position of the token in its text.
    "roformer": lambda: transformers.RoFormerConfig(
        **SIZES, embedding_size=16, is_decoder=True, max_position_embeddings=64, **WIDE, **OWN
    ),
    "openai_gpt": lambda: transformers.OpenAIGPTConfig(n_positions=64, n_embd=16, n_layer=2, n_head=2, **WIDE, **OWN),
    "opt": lambda: transformers.OPTConfig(
        hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        word_embed_proj_dim=16, init_std=0.5, **OWN,
    ),
    "bloom": lambda: transformers.BloomConfig(hidden_size=16, n_layer=2, n_head=2, **WIDE, **OWN),
    "gemma2": lambda: transformers.Gemma2Config(
        **SIZES, num_key_value_heads=1, head_dim=8, sliding_window=5, **WIDE, **OWN
    ),
    # Other frequencies from the 13th token on, also for the tokens before it.
    "phi3": lambda: transformers.Phi3Config(
        **SIZES, num_key_value_heads=1, max_position_embeddings=64, original_max_position_embeddings=12,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
            "original_max_position_embeddings": 12,
        }, **WIDE, **OWN,
    ),
    # No keys and values, but a state.
    "mamba": lambda: transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, **WIDE, **OWN),
}  # fmt: skip
NOT_CAUSAL = {
    "bert": lambda: transformers.BertConfig(**SIZES, max_position_embeddings=64, **WIDE, **OWN),
    "xlnet": lambda: transformers.XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=32, **WIDE, **OWN),
}


def save(folder, config) -> None:
    """A tiny random model with a tokenizer of twenty words."""
    vocabulary = {"<|end|>": 0, "<|pad|>": 1, **{word: i for i, word in enumerate(WORDS, 2)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|pad|>"))
    made.add_special_tokens(["<|end|>", "<|pad|>"])
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("strangers")
    for name, make in {**KINDS, **NOT_CAUSAL}.items():
        save(root / name, make())
    return root


def config_of(folder) -> EnvConfig:
    rng = np.random.default_rng(0)
    corpus = tuple(" ".join(rng.choice(WORDS, 12)) for _ in range(60))
    return EnvConfig(
        corpus=corpus, target="causal_lm", target_model=str(folder), context_length=12, max_new_tokens=14,
        prompt_length=(1, 9),
    )  # fmt: skip


def own_log_probs(model, config: EnvConfig, tokens: list[int]) -> np.ndarray:
    """(V,) the model's log-probabilities after one text by itself, over its words and <eos>."""
    ids = World.of(config).tokenizer.own_ids | {2: 0, 3: 0}
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[ids[t] for t in tokens]])).logits[0, -1].double()
    predicted = [3, *range(5, World.of(config).vocab_size)]
    row = np.full(World.of(config).vocab_size, -np.inf)
    row[predicted] = torch.log_softmax(logits[[ids[i] for i in predicted]], -1).numpy()
    return row


@pytest.mark.filterwarnings("ignore")  # notes of the library on kernels that are not installed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [TokenLMVectorEnv, TokenLMDeviceEnv])
def test_every_step_equals_reading_the_text_by_itself(folders, kind, make):
    config = config_of(folders / kind)
    model = transformers.AutoModelForCausalLM.from_pretrained(folders / kind)
    on_device = make is TokenLMDeviceEnv
    env = make(2, config, **({"device": "cpu"} if on_device else {"autoreset_mode": "SameStep"}))
    env.reset(seed=1)
    rng = np.random.default_rng(2)
    restarts = 0
    for step in range(30):
        texts = [env._episodes.tokens(row) for row in range(2)]
        expected = np.array([own_log_probs(model, config, tokens) for tokens in texts])
        np.testing.assert_allclose(np.asarray(env.target_log_probs()), expected, atol=1e-3, err_msg=f"{step}: {texts}")
        actions = rng.choice(env.world.words, 2)
        actions[rng.random(2) < 0.1] = 3  # one restarts, the other goes on
        over = env.step(torch.from_numpy(actions) if on_device else actions)[2:4]
        restarts += int((np.asarray(over[0]) != np.asarray(over[1])).sum())
    assert restarts >= 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_is_used_only_where_it_agrees(folders, kind):
    model = World.of(config_of(folders / kind)).target.target.model_on(torch.device("cpu"))
    assert isinstance(model, CachedModel) == (kind in ("gpt_neo", "opt", "bloom", "gemma2"))
    check_target(CausalTarget(model), atol=1e-3, longest=26)


@pytest.mark.filterwarnings("ignore")
def test_rows_of_three_and_nine_tokens(folders):
    name = str(folders / "gpt_neo")
    target = load_huggingface(name, model_tokenizer(name), 26)
    rng = np.random.default_rng(0)
    prefixes = np.zeros((2, 9), np.int64)
    prefixes[0, -3:], prefixes[1] = [2, 5, 6], [2, *rng.integers(5, 25, 8)]
    memory = target.memory(2, np.arange(2))
    memory.begin(np.arange(2), prefixes)
    for _ in range(12):
        alone = np.concatenate([target.log_probs(row[None, row != 0]) for row in prefixes])
        np.testing.assert_allclose(memory.log_probs, alone, atol=1e-3)
        np.testing.assert_allclose(target.log_probs(prefixes), alone, atol=1e-3)
        tokens = rng.integers(5, 25, 2)
        memory.advance(tokens, np.ones(2, bool))
        prefixes = np.append(prefixes, tokens[:, None], axis=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", NOT_CAUSAL)
def test_a_model_that_looks_ahead_is_refused(folders, kind):
    with pytest.raises(ValueError, match=r"is not causal: a token changes the log-probabilities before it by up to \d"):
        TokenLMVectorEnv(2, config_of(folders / kind))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["bert", "roformer", "phi3"])
def test_check_target_catches_what_its_cache_gets_wrong(folders, kind):
    model = transformers.AutoModelForCausalLM.from_pretrained(folders / kind).eval()
    target = CausalTarget(CachedModel(model, model_tokenizer(str(folders / kind))))
    with pytest.raises((ValueError, RuntimeError)):  # the differences, or what the library says to a wrong cache
        check_target(target, atol=1e-3, longest=26)


@pytest.mark.filterwarnings("ignore")
def test_copies_of_whole_texts_go_on_alike(folders):
    config = config_of(folders / "roformer")
    env, other = TokenLMVectorEnv(3, config), TokenLMVectorEnv(3, config)
    assert isinstance(env._episodes._memory._model, WholeTextModel)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.array([7, 8, 9]))
    other.load_state_dict(env.state_dict())
    for _ in range(20):
        np.testing.assert_array_equal(env.step(np.array([7, 3, 9]))[1], other.step(np.array([7, 3, 9]))[1])


@pytest.mark.filterwarnings("ignore")
def test_a_tokenizer_file_of_another_kind_says_so(folders, tmp_path):
    save(tmp_path / "m", KINDS["opt"]())
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps({"model": 1}), encoding="utf-8")
    with pytest.raises(ValueError, match="is not a Hugging Face tokenizer file"):
        World.of(replace(config_of(tmp_path / "m")))


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_cannot_read_says_so(folders):
    name = str(folders / "opt")
    with pytest.raises(ValueError, match="cannot read a text of 90 tokens: "):
        check_causal(load_huggingface(name, model_tokenizer(name), 9).model_on(torch.device("cpu")), 90, name)
