"""A frozen neural language model as p*: against reading every prefix by itself, and against the model's own numbers."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from tokenlm.envs import EnvConfig, TokenLMDeviceEnv, TokenLMEnv, TokenLMVectorEnv, World, force
from tokenlm.envs.targets import check_target
from tokenlm.envs.targets.causal import CausalMemory

END = "<|end|>"


def save_model(folder, corpus, kind: str, **settings) -> None:
    """A tiny random model with a byte-level BPE tokenizer of the corpus."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(corpus, trainer)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    own = {"vocab_size": made.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 0, **settings}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5, **own)
    elif kind == "llama":
        config = transformers.LlamaConfig(**sizes, num_key_value_heads=1, initializer_range=0.5, **own)
    else:  # attention within five tokens
        config = transformers.MistralConfig(
            **sizes, num_key_value_heads=1, initializer_range=0.5, sliding_window=5, head_dim=8, **own
        )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, sentences):
    root = tmp_path_factory.mktemp("models")
    for kind in ("gpt2", "llama", "mistral"):
        save_model(root / kind, sentences, kind)
    return root


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def config(request, folders, sentences) -> EnvConfig:
    return config_of(folders / request.param, sentences)


def config_of(folder, corpus) -> EnvConfig:
    return EnvConfig(
        corpus=corpus,
        target="causal_lm",
        target_model=str(folder),
        context_length=10,
        max_new_tokens=12,
        prompt_length=(0, 6),
    )


@functools.cache
def load(folder: str) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def own_log_probs(config: EnvConfig, tokens: list[int]) -> np.ndarray:
    """(V,) the model's log-probabilities after one text by itself, over our ids, special tokens but <eos> left out."""
    model = load(config.target_model)
    ids = World.of(config).tokenizer.own_ids | {2: 0, 3: 0}
    with torch.no_grad():
        logits = model(torch.tensor([[ids[t] for t in tokens]])).logits[0, -1].double()
    log_probs = torch.log_softmax(logits, -1).numpy()
    size = World.of(config).vocab_size
    row = np.array([log_probs[ids[i]] if i in ids and i != 2 else -np.inf for i in range(size)])
    return row - np.log(np.exp(row).sum())


@pytest.mark.parametrize(
    ("model", "kind"), [("gpt2", "vector"), ("gpt2", "device"), ("llama", "vector"), ("mistral", "vector")]
)
def test_every_step_equals_reading_the_whole_text_by_itself(folders, sentences, model, kind):
    config = config_of(folders / model, sentences)
    # Windows of 10 that 12 tokens outgrow, episodes of different lengths that begin anew at different times.
    make = TokenLMVectorEnv if kind == "vector" else TokenLMDeviceEnv
    settings = {"autoreset_mode": "SameStep"} if kind == "vector" else {"device": "cpu"}
    env = make(3, config, **settings)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    ends = 0
    for step in range(24):
        rows = np.asarray(env.target_log_probs())
        expected = np.array([own_log_probs(config, env._episodes.tokens(i)) for i in range(3)])
        np.testing.assert_allclose(rows[:, 3:], expected[:, 3:], atol=2e-4, err_msg=f"step {step}")
        np.testing.assert_allclose(np.exp(rows).sum(1), 1.0, atol=1e-12)
        actions = rng.choice(env.world.words, 3)
        actions[rng.random(3) < 0.1] = 3
        _, rewards, terminated, truncated, infos = env.step(actions if kind == "vector" else torch.from_numpy(actions))
        np.testing.assert_allclose(infos.get("final_info", infos)["log_prob"], rows[np.arange(3), actions], atol=1e-12)
        np.testing.assert_array_equal(np.asarray(rewards), rows[np.arange(3), actions])
        ends += int((np.asarray(terminated) | np.asarray(truncated)).sum())
    assert ends > 5


def test_waiting_rows_leave_the_others_alone(config):
    env = TokenLMVectorEnv(4, dataclasses.replace(config, ending="eos"))  # NEXT_STEP: a row rests for one step
    env.reset(seed=0)
    rng = np.random.default_rng(1)
    for step in range(60):
        if step % 4 == 0:
            row = int(np.argmin(env._over))
            expected = own_log_probs(config, env._episodes.tokens(row))
            np.testing.assert_allclose(env.target_log_probs()[row, 3:], expected[3:], atol=2e-4)
        actions = rng.choice(env.world.words, 4)
        actions[rng.random(4) < 0.3] = 3
        env.step(actions)
    memory = env._episodes._memory
    assert memory._state.own.shape[1] <= 10 + 12 + 33  # the cache does not grow with the number of steps


def test_a_step_reads_one_token(config, monkeypatch):
    env = TokenLMEnv(config)
    env.reset(seed=0)
    model = env._episodes._memory._model
    read: list[int] = []
    forward = model.model.forward

    def counting(*args, **kwargs):
        read.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model, "forward", counting)
    for _ in range(8):
        env.step(int(env.world.words[0]))
        env.target_log_probs()
    assert read == [1] * 8


def test_with_the_teacher_the_document_is_read(config):
    env = TokenLMEnv(dataclasses.replace(config, transition="teacher", prompt_length=(1, 1)))
    env.reset(seed=3)
    for _ in range(4):
        env.step(int(env.world.words[7]))
        tokens = env._episodes.tokens(0)
        np.testing.assert_allclose(env.target_log_probs()[3:], own_log_probs(config, tokens)[3:], atol=2e-4)
    assert "the" in env.text


def test_perplexity_of_documents_is_the_models_own(config):
    # <|end|> begins and ends a text, and there are no other special tokens, so p* is the model itself.
    world = World.of(config)
    rows = np.arange(5)
    whole = dataclasses.replace(config, max_new_tokens=40, context_length=10)
    forced = force(world, whole, "train", rows, np.zeros(5, np.int64), skip_invalid=True)
    assert forced.terminated.all()
    model = load(config.target_model)
    ids = world.tokenizer.own_ids
    losses, count = 0.0, 0
    for row in rows:
        text = torch.tensor([[0, *(ids[int(t)] for t in world.documents["train"][row]), 0]])
        with torch.no_grad():
            losses += float(model(text, labels=text).loss) * (text.shape[1] - 1)
        count += text.shape[1] - 1
    assert int(forced.scored.sum()) == count
    perplexity = math.exp(-float(forced.log_probs.sum()) / count)
    assert perplexity == pytest.approx(math.exp(losses / count), rel=1e-4)


def test_values_are_zero_at_temperature_one(config):
    env = TokenLMEnv(dataclasses.replace(config, min_new_tokens=3))  # <eos> masked at first
    env.reset(seed=0)
    for _ in range(6):
        row = env.target_log_probs()
        assert math.log(np.exp(row[env.action_masks()]).sum()) == pytest.approx(0.0, abs=1e-12)
        env.step(int(row.argmax()))


def test_a_saved_state_goes_on_with_the_same_rewards(config):
    env, other = TokenLMVectorEnv(3, config), TokenLMVectorEnv(3, config)
    env.reset(seed=0)
    actions = np.array([7, 8, 9])
    for _ in range(5):
        env.step(actions)
    other.load_state_dict(env.state_dict())
    copied = copy.deepcopy(env)
    for _ in range(4):
        expected = env.step(actions)[1]
        np.testing.assert_allclose(other.step(actions)[1], expected, atol=1e-4)
        np.testing.assert_allclose(copied.step(actions)[1], expected, atol=1e-4)


def test_it_is_a_consistent_target(config):
    world = World.of(config)
    check_target(world.target.target, atol=1e-4)
    memory = world.target.recurrent.memory(2, np.arange(2))
    assert isinstance(memory, CausalMemory)
    with pytest.raises(ValueError, match=r"call begin\(\) first"):
        memory.log_probs  # noqa: B018


def test_rows_may_begin_one_after_the_other(config):
    target = World.of(config).target.recurrent
    memory = target.memory(3, np.arange(3))
    prefixes = np.array([[0, 0, 2, 7], [0, 2, 8, 9], [2, 10, 11, 12]])
    memory.begin(np.array([1]), prefixes[1:2, 1:])
    memory.advance(np.array([7, 7, 7]), np.array([False, True, False]))
    memory.begin(np.array([2, 0]), prefixes[[2, 0]])
    after = np.array([[0, 0, 2, 7, 0], [0, 2, 8, 9, 7], [2, 10, 11, 12, 0]])
    expected = [target.log_probs(row[None, row != 0])[0] for row in after]
    np.testing.assert_allclose(memory.log_probs, expected, atol=1e-4)


def test_the_model_is_frozen_and_shared(config):
    env = TokenLMEnv(config)
    model = env.world.target.target.model_on(torch.device("cpu"))
    assert not model.model.training
    assert not any(p.requires_grad for p in model.model.parameters())
    assert TokenLMEnv(config, split="test").world is env.world


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": "word"}, "needs its own tokenizer, not 'word'; set tokenizer to 'auto'"),
        ({"target_model": None}, "needs target_model"),
        ({"target": "ngram"}, "target_model belongs to the target 'causal_lm', not to 'ngram'"),
        ({"max_new_tokens": 60}, r"reads at most 64 tokens, but context_length \+ max_new_tokens is 70"),
    ],
)
def test_what_does_not_fit_says_why(folders, sentences, change, message):
    settings = {"corpus": sentences, "target": "causal_lm", "target_model": str(folders / "gpt2"), "context_length": 10}
    with pytest.raises(ValueError, match=message):
        TokenLMEnv(**{**settings, **change})


def test_folders_that_hold_no_model(tmp_path, sentences, folders):
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        TokenLMEnv(corpus=sentences, target="causal_lm", target_model=tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folders / "gpt2" / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="holds no causal language model"):
        TokenLMEnv(corpus=sentences, target="causal_lm", target_model=tmp_path)
    endless = tmp_path / "endless"
    save_model(endless, sentences, "gpt2", eos_token_id=None)
    with pytest.raises(ValueError, match="has no eos_token_id"):
        TokenLMEnv(corpus=sentences, target="causal_lm", target_model=endless, context_length=9)
