"""Pretrained models as Q-networks, on tiny ones of random weights that are made here."""

import shutil

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tokenlm.agents import DQN, AgentConfig
from tokenlm.agents.acting.valid_actions import ValidActions
from tokenlm.agents.dqn.learner import Learner
from tokenlm.agents.networks import put_rows
from tokenlm.agents.networks.hugging_face import language_model
from tokenlm.agents.networks.making import make_q_network
from tokenlm.agents.networks.pieces import pieces_of
from tokenlm.envs import EnvConfig, Vocabulary
from tokenlm.envs.text import make_tokenizer
from tokenlm.envs.text.subwords import SubwordTokenizer

BOS, EOS, SEP = Vocabulary.BOS, Vocabulary.EOS, Vocabulary.SEP
SIZE = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
SMALL = {"num_envs": 4, "batch_size": 8, "learning_starts": 0, "replay_capacity": 512, "learning_rate": 1e-2}
CAUSAL, PAIRED = ("gpt2", "llama", "bloom"), ("t5", "bart")


def make_model(name, size):
    t = transformers
    if name == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=size, n_positions=40, n_embd=16, n_layer=2, n_head=2, **SIZE))
    if name == "llama":
        narrow = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        return t.LlamaForCausalLM(t.LlamaConfig(vocab_size=size, num_key_value_heads=2, **narrow, **SIZE))
    if name == "bloom":
        return t.BloomForCausalLM(t.BloomConfig(vocab_size=size, hidden_size=16, n_layer=2, n_head=2, **SIZE))
    if name == "t5":
        narrow = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 1}
        return t.T5ForConditionalGeneration(t.T5Config(vocab_size=size, eos_token_id=0, pad_token_id=1, **narrow))
    layers = {f"{side}_{n}": 2 for side in ("encoder", "decoder") for n in ("layers", "attention_heads")}
    narrow = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 40}
    own = {"scale_embedding": True, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    return t.BartForConditionalGeneration(t.BartConfig(vocab_size=size, **narrow, **layers, **own, **SIZE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sentences):
    """Folders with a model each and a byte-level BPE that cuts most words in two or three."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=264, special_tokens=["<end>", "<fill>"], initial_alphabet=alphabet, show_progress=False)  # fmt: skip
    made.train_from_iterator(sentences, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<fill>")
    place = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name in CAUSAL + PAIRED:
        model = make_model(name, len(fast))
        for parameter in model.parameters():  # far from nothing, so that equal logits mean something
            parameter.data = parameter.data + 0.2 * torch.randn_like(parameter)
        model.save_pretrained(place / name)
        fast.save_pretrained(place / name)
    return place


@pytest.fixture(scope="module")
def spelled(folder, sentences):
    return EnvConfig(corpus=sentences, tokenizer=str(folder / "gpt2" / "tokenizer.json"), max_new_tokens=8, context_length=12, prompt_length=(0, 2))  # fmt: skip


def network_of(folder, name, tokenizer, env, **settings):
    config = AgentConfig.of(None, {"network": {"name": "pretrained", "pretrained": str(folder / name), **settings}})
    return make_q_network(config.network, env, len(tokenizer.vocabulary), tokenizer=tokenizer).eval()


def model_of(folder, name):
    kind = transformers.AutoModelForSeq2SeqLM if name in PAIRED else transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder / name).eval()


def own_ids(folder, tokenizer):
    """The model's id of each word of the environment, both spelled alike."""
    known = transformers.AutoTokenizer.from_pretrained(folder / "gpt2").get_vocab()
    return [known[word] for word in tokenizer.vocabulary.words]


@pytest.mark.parametrize("name", CAUSAL)
def test_first_preferences_are_the_models_own(folder, spelled, name):
    tokenizer = SubwordTokenizer.from_file(spelled.tokenizer)
    network, ids = network_of(folder, name, tokenizer, spelled), own_ids(folder, tokenizer)
    text = [9, 100, 7, 260, 30]
    with torch.no_grad():
        logits = model_of(folder, name)(torch.tensor([[0, *(ids[i - 5] for i in text)]])).logits[0]
        values = network.q_values(network(torch.tensor([[BOS, *text]])))[0]
    assert logits.std() > 0.1
    assert torch.allclose(values[:, 5:], logits[:, ids], atol=1e-5)
    assert torch.allclose(values[:, EOS], logits[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", PAIRED)
def test_first_preferences_of_an_encoder_decoder_are_its_own(folder, spelled, name):
    tokenizer = SubwordTokenizer.from_file(spelled.tokenizer)
    network, ids = network_of(folder, name, tokenizer, spelled), own_ids(folder, tokenizer)
    source, target = [9, 100, 7], [260, 30]
    model = model_of(folder, name)
    start = [] if name == "t5" else [0]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[*start, *(ids[i - 5] for i in source), 0]]),
            decoder_input_ids=torch.tensor([[model.config.decoder_start_token_id, *(ids[i - 5] for i in target)]]),
        ).logits[0]
        values = network.q_values(network(torch.tensor([[BOS, *source, SEP, *target, 0]])))[0, 4:7]
    assert logits.std() > 0.1
    assert torch.allclose(values[:, 5:], logits[:, ids], atol=1e-5)
    assert torch.allclose(values[:, EOS], logits[:, 0], atol=1e-5)


def test_a_word_of_several_pieces_is_their_mean(folder, tiny, sentences):
    """ "horse" within a text is cut as the model's tokenizer cuts " horse"."""
    tokenizer = make_tokenizer("word", sentences)
    network = network_of(folder, "gpt2", tokenizer, tiny)
    pieces = transformers.AutoTokenizer.from_pretrained(folder / "gpt2")(" horse")["input_ids"]
    assert len(pieces) > 1
    model, word = model_of(folder, "gpt2"), tokenizer.vocabulary.id("horse")
    assert torch.allclose(network.embedding.weight[word], model.transformer.wte.weight[pieces].mean(0), atol=1e-6)
    assert torch.allclose(network.head.weight[word], model.lm_head.weight[pieces].mean(0), atol=1e-5)
    assert "of 16 tokens are the model's own, the others the mean of several" in network.notes[0]


def test_special_tokens_of_a_model_for_chinese(sentences):
    """Such a model has [CLS] and [SEP] only, and a configuration with ids of another vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "the", "hor", "##se"]
    made = tokenizers.Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )
    tokenizer = make_tokenizer("word", sentences)
    found = pieces_of(tokenizer, fast, transformers.GPT2Config(vocab_size=8))
    assert found[:5] == [[0], [1], [2], [3], [3]]
    assert [found[tokenizer.vocabulary.id(w)] for w in ("cat", "the", "horse", "dog")] == [[4], [5], [6, 7], [1]]


@pytest.mark.parametrize("name", CAUSAL + PAIRED)
def test_token_by_token_is_one_pass_also_for_rows_that_begin_again(folder, tiny, sentences, name):
    network = network_of(folder, name, make_tokenizer("word", sentences), tiny)
    assert getattr(network, "has_cache", None) == {"gpt2": True, "llama": True, "bloom": False}.get(name)
    text = torch.randint(5, 16, (3, 12), generator=torch.Generator().manual_seed(0))
    text[:, 0], text[0, 1], text[1, 3], text[2, 2] = BOS, SEP, SEP, SEP
    lengths, rows = torch.tensor([3, 5, 4]), torch.arange(3)
    with torch.no_grad():
        expected = network(text)
        hidden, state = network.encode(text[:, :5] * (torch.arange(5) < lengths[:, None]), lengths)
        assert torch.allclose(hidden, expected[rows, lengths - 1], atol=1e-4)
        for step in range(5):
            hidden, state = network.step(text[rows, lengths + step], state)
            assert torch.allclose(hidden, expected[rows, lengths + step], atol=1e-4)
            if step == 1:  # the third text begins again
                _, fresh = network.encode(text[2:, :6], torch.tensor([6]))
                put_rows(state, torch.tensor([2]), fresh)


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2, "gradient_checkpointing": True}])
def test_an_encoder_decoder_trains(folder, tiny, sentences, pairs, name, settings):
    network = network_of(folder, name, make_tokenizer("word", sentences), tiny, **settings)
    config = AgentConfig(learning_rate=1e-2, batch_size=8)
    learner = Learner(network, config, ValidActions.of(tiny, 16, torch.device("cpu")))
    losses = [float(learner.update(pairs.rows(torch.arange(8)), 0.0)["loss"]) for _ in range(8)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("settings", [{}, {"weight_dtype": "bfloat16"}, {"gradient_checkpointing": True}])
def test_lora_trains_its_additions_and_the_heads_alone(folder, tiny, name, settings):
    agent = DQN(tiny, network={"name": "pretrained", "pretrained": str(folder / name), "lora_rank": 2, **settings}, **SMALL)  # fmt: skip
    before = {n: p.detach().clone() for n, p in agent.network.named_parameters()}
    agent.learn(48)
    after = dict(agent.network.named_parameters())
    changed = {n for n, p in after.items() if not torch.equal(p, before[n])}
    heads = {"head.weight", "head.bias", "value_head.weight", "value_head.bias"}
    assert changed == {n for n in before if "lora_" in n} | heads
    assert all(after[n].dtype == torch.float32 for n in changed)
    target = dict(agent.learner.target_network.named_parameters())
    assert {n for n, p in target.items() if p is after[n]} == set(before) - changed
    assert agent.transitions_trained > 0


def test_full_fine_tuning_trains_everything(folder, tiny):
    agent = DQN(tiny, network={"name": "pretrained", "pretrained": str(folder / "llama")}, **SMALL)
    before = {n: p.detach().clone() for n, p in agent.network.named_parameters()}
    agent.learn(80)
    assert [n for n, p in agent.network.named_parameters() if torch.equal(p, before[n])] == []


def test_checkpoints_of_layers_change_no_gradient(folder, tiny, sentences):
    text, found = torch.randint(5, 16, (2, 6)), []
    for on in (False, True):
        network = network_of(folder, "llama", make_tokenizer("word", sentences), tiny, gradient_checkpointing=on)
        network.train()  # this model has no dropout
        network(text).square().sum().backward()
        found.append([p.grad for n, p in network.named_parameters() if "head" not in n])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}])
def test_a_saved_agent_needs_the_models_folder_no_more(folder, tiny, tmp_path, settings):
    shutil.copytree(folder / "gpt2", tmp_path / "model")
    network = {"name": "pretrained", "pretrained": str(tmp_path / "model"), **settings}
    agent = DQN(tiny, network=network, **SMALL).learn(16)
    agent.save(tmp_path / "agent")
    shutil.rmtree(tmp_path / "model")
    assert {p.suffix for p in (tmp_path / "agent").rglob("*.*")} == {".json", ".safetensors"}
    loaded = DQN.load(tmp_path / "agent")
    assert loaded.config == agent.config
    assert loaded.generate("the", 3, seed=1) == agent.generate("the", 3, seed=1)
    started = DQN(tiny, network=network, start_from=str(tmp_path / "agent"), **SMALL)
    assert torch.equal(started.network.head.weight, agent.policy_network.head.weight)
    again = DQN.load(tmp_path / "agent", env=tiny).learn(8)
    again.save(tmp_path / "agent")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .* with a pretrained model"):
        DQN(tiny, network=network, **SMALL)


def test_logits_under_a_cap_are_no_head(tmp_path, folder, tiny, sentences):
    t, narrow = transformers, {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    config = t.Gemma2Config(vocab_size=264, num_attention_heads=2, num_key_value_heads=1, final_logit_softcapping=0.01, **narrow, **SIZE)  # fmt: skip
    t.Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    t.AutoTokenizer.from_pretrained(folder / "gpt2").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the logits of Gemma2ForCausalLM are not linear in its hidden states"):
        network_of(tmp_path, ".", make_tokenizer("word", sentences), tiny)


def test_a_model_without_its_tokenizer_says_so(tmp_path, tiny, sentences):
    make_model("llama", 20).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no tokenizer that transformers can load"):
        network_of(tmp_path, ".", make_tokenizer("word", sentences), tiny)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "pretrained"}, "the network 'pretrained' needs the setting pretrained, the folder"),
        ({"pretrained": "gpt2"}, "the network 'lstm' has no setting 'pretrained'; pretrained has it"),
        ({"name": "pretrained", "pretrained": "x", "weight_dtype": "bfloat16"}, "lose most of each update"),
        ({"name": "pretrained", "pretrained": "x", "weight_dtype": "half"}, "weight_dtype 'half' is unknown"),
        ({"name": "pretrained", "pretrained": "x", "lora_rank": 0}, "lora_rank must be at least 1"),
        ({"name": "pretrained", "pretrained": "x", "embedding_file": "y"}, "'pretrained' has no setting 'embedding_file'; lstm, "),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_say_why(settings, message):
    with pytest.raises(ValueError, match=message):
        AgentConfig.of(None, {"network": settings})


@pytest.mark.parametrize("lora", [None, 2])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_pretrained_network_is_exported_as_its_model(folder, spelled, tmp_path, name, lora):
    agent = DQN(
        spelled,
        network={"name": "pretrained", "pretrained": str(folder / name), "lora_rank": lora},
        device="cpu",
        **SMALL,
    )
    agent.learn(24)
    made = language_model(*agent.network_policy())
    made.model.save_pretrained(tmp_path)
    model, said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), said
    assert type(model) is type(model_of(folder, name))
    assert (made.bias is None) == (name != "llama")  # whose RMSNorm and head have no biases
    text = torch.randint(5, agent.network.vocab_size, (3, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own = agent.network.eval()
        expected = torch.log_softmax(own.q_values(own(text)), -1)
        logits = model.eval()(text).logits + (0.0 if made.bias is None else made.bias)
    assert torch.allclose(torch.log_softmax(logits, -1).float(), expected, atol=1e-5)


def test_an_encoder_and_decoder_is_not_exported(folder, spelled):
    env = EnvConfig(task="qa", corpus="en", target="reference", max_new_tokens=4, context_length=12)
    agent = DQN(env, network={"name": "pretrained", "pretrained": str(folder / "t5")}, device="cpu", **SMALL)
    with pytest.raises(ValueError, match="encoder-decoder models cannot be exported"):
        language_model(*agent.network_policy())
