"""Exported policies: strictly loaded, the same log-probabilities and the same greedy text as the agent's."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from tokenlm.agents import DQN
from tokenlm.agents.networks import Heads, MLPQNetwork, TransformerQNetwork
from tokenlm.agents.networks.hugging_face import language_model
from tokenlm.agents.networks.linear_policy import linear_policy, without_bias
from tokenlm.agents.runs.algorithms import make
from tokenlm.agents.runs.training import load_run
from tokenlm.cli import main
from tokenlm.envs import EnvConfig, World
from tokenlm.envs.text.tokenizer_json import agreement, as_tokenizer_json

transformers = pytest.importorskip("transformers")

SENTENCES = [
    f"{who}{where}{what}。" for who, where, what in itertools.product("他她我你", ("在家", "在学校", "在路上"), ("看书", "唱歌", "写字", "跑步"))
] * 2  # fmt: skip
MARKOV = EnvConfig(target="markov", order=2, vocab_size=12, max_new_tokens=8, context_length=9)
SMALL = {"num_envs": 8, "batch_size": 8, "learning_starts": 0, "replay_capacity": 512, "learning_rate": 1e-2}
TRANSFORMER = {"name": "transformer", "hidden_size": 16, "num_layers": 2, "num_heads": 2}
NETWORKS = {
    "LlamaForCausalLM": {"layout": "llama"},
    "MistralForCausalLM": {"layout": "llama", "attention_window": 3},
    "Starcoder2ForCausalLM": {"layout": "gpt"},
    "Starcoder2ForCausalLM with a window": {"layout": "gpt", "attention_window": 3},
    "GPT2LMHeadModel": {"layout": "gpt", "positions": "learned"},
}
RULES = {
    "dueling": {"loss": "soft_q", "temperature": 0.5},
    "greedy": {"loss": "dqn"},
    "behaviour": {"loss": "ilql", "temperature": 0.7},
    "quantiles": {"loss": "quantile", "temperature": 0.5, "atoms": 5},
    "histogram of V": {"loss": "hl_gauss", "atoms": 11},
    "noisy": {"loss": "soft_q"},
}


def trained(network, **settings):
    agent = DQN(MARKOV, network={**TRANSFORMER, **network}, device="cpu", **SMALL, **settings)
    return agent.learn(64, lambda _: True)


def reloaded(model, place):
    model.save_pretrained(place)
    found, said = transformers.AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), said
    return found.eval()


def difference(agent, model, temperature):
    """Largest difference of log π over all states of random texts, valid tokens only."""
    network, valid = agent.policy_network.eval(), agent.valid_tokens.valid
    text = torch.randint(5, network.vocab_size, (3, 9), generator=torch.Generator().manual_seed(1))
    text[:, 0] = 2
    with torch.no_grad():
        own = network.policy_values(network(text), valid.expand(3, 9, -1)).double() / (temperature or 1.0)
        other = model(input_ids=text).logits.double()
    own, other = (torch.log_softmax(each.masked_fill(~valid, -torch.inf), -1)[..., valid] for each in (own, other))
    return float((own - other).abs().max())


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_transformer_is_a_model_of_the_library(kind, tmp_path):
    agent = trained(NETWORKS[kind])
    model = reloaded(language_model(*agent.network_policy()).model, tmp_path)
    assert type(model).__name__ == kind.split()[0]
    assert difference(agent, model, agent.temperature) < 1e-5


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", ["gpt", "llama"])
def test_every_linear_policy_goes_into_the_head(rule, layout, tmp_path):
    agent = trained({"layout": layout, "noisy": rule == "noisy"}, **RULES[rule])
    assert (
        difference(agent, reloaded(language_model(*agent.network_policy()).model, tmp_path), agent.temperature) < 1e-5
    )


def test_policies_that_are_not_linear_are_refused():
    for loss in ("c51", "q_sft"):
        with pytest.raises(ValueError, match="not linear in the hidden vectors"):
            linear_policy(trained({}, loss=loss).policy_network, 1.0)


def test_networks_and_agents_without_such_a_model_are_refused():
    with pytest.raises(ValueError, match="MLPQNetwork is no model"):
        language_model(MLPQNetwork(12, window=4, embedding_size=4, hidden_size=8, num_layers=2), 1.0)
    windowed = TransformerQNetwork(12, 16, 1, 2, "learned", 20, attention_window=4)
    with pytest.raises(ValueError, match="no attention_window"):
        language_model(windowed, 1.0)
    with pytest.raises(ValueError, match="Unigram does not act by a network"):
        make("unigram", MARKOV, 0, "cpu").network_policy()


def test_a_policy_gradient_is_exported_too(tmp_path):
    agent = make("reinforce", MARKOV, 0, "cpu", network=TRANSFORMER, num_envs=4)
    agent.learn(40)
    network, temperature = agent.network_policy()
    text = torch.tensor([[2, 7, 6, 9]])
    with torch.no_grad():
        own = torch.log_softmax(network.eval().q_values(network(text)), -1)
        other = torch.log_softmax(reloaded(language_model(network, temperature).model, tmp_path)(text).logits, -1)
    assert torch.allclose(own, other, atol=1e-5)


def test_after_a_layer_norm_a_bias_is_a_matter_of_weights():
    generator = torch.Generator().manual_seed(0)
    norm = nn.LayerNorm(6).double()
    with torch.no_grad():
        norm.weight.normal_(1.0, 0.3, generator=generator)
        norm.bias.normal_(generator=generator)
        weight, bias = torch.randn(9, 6, generator=generator).double(), torch.randn(9, generator=generator).double()
        x = torch.randn(20, 6, generator=generator).double()
        expected = torch.log_softmax(norm(x) @ weight.T + bias, -1)
        folded, shift, left = without_bias(norm, weight, bias)
        norm.bias.copy_(shift)
        assert left is None
        assert torch.allclose(torch.log_softmax(norm(x) @ folded.T, -1), expected, atol=1e-12)
        assert torch.equal(without_bias(nn.RMSNorm(6), weight, bias)[2], bias - bias.mean())
        assert without_bias(nn.RMSNorm(6), weight, torch.full((9,), 3.0))[2] is None


def test_a_llama_without_biases_can_begin_anywhere():
    torch.manual_seed(0)
    network = TransformerQNetwork(40, 32, 2, 2, heads=Heads(behaviour=1.0), layout="llama")
    assert not network.head.bias.requires_grad
    assert not network.behaviour_head.bias.requires_grad
    texts, values = torch.randint(5, 40, (20, 9)), torch.linspace(-9.0, -1.0, 40)
    with torch.no_grad():
        before = network.q_values(network(texts))
        network.start_at(values, texts)
        moved = network.q_values(network(texts)) - before
    assert torch.allclose(moved.mean((0, 1)), values, rtol=0.1)
    assert ((moved - values).abs() < 0.35 * values.abs()).all()


@pytest.mark.parametrize("name", ["char", "word", "bpe", "jieba", "symbol"])
def test_a_tokenizer_json_has_the_same_ids_and_texts(name):
    config = (
        MARKOV
        if name == "symbol"
        else EnvConfig(corpus=SENTENCES, tokenizer=name, max_vocab_size=300 if name == "bpe" else None)
    )
    tokenizer = World.of(config).tokenizer
    texts = ["7 8 9 11", "5"] if name == "symbol" else [*SENTENCES[:12], "他在路上唱新歌。"]
    made, said = as_tokenizer_json(tokenizer)
    assert agreement(made, tokenizer, texts, cut=bool(said)) == (len(texts), len(texts))
    assert bool(said) == (name == "jieba")
    assert made.encode(texts[0]).ids[0] == 2
    assert [made.id_to_token(i) for i in range(5)] == ["<pad>", "<unk>", "<bos>", "<eos>", "<sep>"]


def test_a_question_is_read_between_bos_and_sep():
    tokenizer = World.of(
        EnvConfig(task="qa", corpus="zh", target="reference", max_new_tokens=8, context_length=32)
    ).tokenizer
    made, said = as_tokenizer_json(tokenizer, asks=True)
    assert "jieba" in said
    words = tokenizer.target.words("天空是什么颜色？")
    assert made.encode(" ".join(words)).ids == [2, *tokenizer.encode_source("天空是什么颜色？"), 4]
    assert agreement(made, tokenizer, ["今天天气很好。"], cut=True) == (1, 1)
    separate = EnvConfig(
        task="translation",
        corpus="zh",
        target="reference",
        vocabularies="separate",
        max_new_tokens=8,
        context_length=32,
    )
    with pytest.raises(ValueError, match="one vocabulary"):
        as_tokenizer_json(World.of(separate).tokenizer)


def test_english_words_are_cut_and_joined_as_by_the_agent():
    texts = [
        "Don't worry, it costs 1,000 dollars (about 3.5 % of 2024's).",
        'A well-known café; "quoted".',
        "我有3个 apples！",
    ] * 4
    tokenizer = World.of(EnvConfig(corpus=texts, tokenizer="word")).tokenizer
    made, _ = as_tokenizer_json(tokenizer)
    assert agreement(made, tokenizer, texts)[0] == len(texts)


def train(place, network, **env):
    settings = {
        "name": "run", "output": str(place), "total_steps": 600, "evaluations": 1, "evaluation_documents": 4,
        "evaluation_episodes": 4, "baseline_seconds": 0.0, "samples": 1, "device": "cpu",
        "env": {"corpus": str(place / "corpus.txt"), "max_new_tokens": 8, **env},
        "agent": {"network": network, **SMALL},
    }  # fmt: skip
    (place / "corpus.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    (place / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    main(["train", str(place / "run.yaml")])
    return place / "run"


@pytest.mark.parametrize("layout", ["gpt", "llama"])
def test_a_run_becomes_a_folder_that_writes_the_same_greedy_text(layout, tmp_path, capsys):
    run = train(tmp_path, {**TRANSFORMER, "layout": layout}, tokenizer="char", min_new_tokens=3)
    main(["export", str(run), str(tmp_path / "model")])
    assert "in " in capsys.readouterr().out
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    agent, _ = load_run(run, "cpu")
    for prompt in ("", "他", "我在学"):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        written = model.generate(ids, do_sample=False, temperature=None, top_p=None, top_k=None)
        text = tokenizer.decode(written[0], skip_special_tokens=True)
        assert text == agent.generate(prompt, temperature=0.0)[0]
    sampled = model.generate(ids.repeat(64, 1), do_sample=True)
    assert not set(sampled[:, ids.shape[1] :].unique().tolist()) & {1, 2, 4}
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"(?<!\\)\|", next(line for line in card.splitlines() if "KL(agent" in line))) == 3
    header = yaml.safe_load(card.split("---")[1])
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    metrics = {each["type"]: each["value"] for each in header["model-index"][0]["results"][0]["metrics"]}
    assert metrics["perplexity"] == summary["perplexity"]
    assert f"{summary['target_perplexity']:,.3f}" in card
    assert str(tmp_path) not in card + (tmp_path / "model" / "training.yaml").read_text(encoding="utf-8")


def test_a_folder_that_holds_something_and_another_network_are_refused(tmp_path, capsys):
    run = train(tmp_path, {"name": "mlp", "window": 3, "embedding_size": 4, "hidden_size": 8}, tokenizer="char")
    capsys.readouterr()
    for folder, sentence in ((run, "not empty"), (tmp_path / "model", "MLPQNetwork is no model")):
        with pytest.raises(SystemExit):
            main(["export", str(run), str(folder)])
        assert sentence in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "model" in path.name]
    (tmp_path / "file").touch()
    (tmp_path / "begun").mkdir()
    shutil.copy(run / "config.yaml", tmp_path / "begun")
    for found, folder, sentence in (
        (run, tmp_path / "file", "is a file; give a new folder"),
        (run, tmp_path / "file" / "model", "cannot be made ("),
        (tmp_path / "begun", tmp_path / "model", "is not finished and has nothing to export yet"),
    ):
        with pytest.raises(SystemExit):
            main(["export", str(found), str(folder)])
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("network", [{}, {"num_layers": 2, "skip": True, "layer_norm": True}])
def test_an_lstm_becomes_onnx_with_its_state(network, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    run = train(tmp_path, {"name": "lstm", "embedding_size": 8, "hidden_size": 16, **network}, tokenizer="char")
    main(["export", str(run), str(tmp_path / "model")])
    session = runtime.InferenceSession(tmp_path / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    agent, _ = load_run(run, "cpu")
    valid = agent.valid_tokens.valid.numpy()
    start = np.zeros((1, network.get("num_layers", 1), 16), np.float32)
    ids = [2, *agent.tokenizer.encode("他在学校唱歌")]
    once, *_ = session.run(None, {"tokens": np.array([ids]), "h": start, "c": start})
    h, c, logits = start, start, []
    for token in ids:
        step, h, c = session.run(None, {"tokens": np.array([[token]]), "h": h, "c": c})
        logits.append(step[0, 0])
    windows = np.zeros((len(ids), agent.env_config.context_length), np.int64)
    for place in range(len(ids)):
        windows[place, -place - 1 :] = ids[: place + 1]
    expected = agent.log_probs(windows)[:, valid]
    for found in (once[0], np.array(logits)):
        own = torch.log_softmax(torch.from_numpy(found)[:, valid].double(), -1).numpy()
        assert np.abs(own - expected).max() < 1e-5
