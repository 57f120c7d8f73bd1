"""Evaluation: perplexities and divergences against enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, play, score_text
from tokenlm.envs import EnvConfig, Episodes, TokenLMEnv, Vocabulary, World

WORDS, T = (5, 6, 7), 3
ENV = EnvConfig(
    target="markov",
    order=2,
    vocab_size=8,
    max_new_tokens=T,
    context_length=6,
    ending="fixed",
    prompt_length=(0, 0),
)


@pytest.fixture(scope="module")
def agent() -> DQN:
    """Untrained, with preferences that are far from even."""
    agent = DQN(ENV, network={"embedding_size": 8, "hidden_size": 16}, seed=1)
    with torch.no_grad():
        agent.network.head.weight.mul_(60)
    return agent


def log_pi(agent, texts, temperature) -> np.ndarray:
    """Log-probability of whole texts, one prefix at a time."""
    total = np.zeros(len(texts))
    for row, text in enumerate(texts):
        for t in range(len(text)):
            tokens = torch.tensor([[Vocabulary.BOS, *text[:t]]])
            values = agent.network.q_values(agent.network(tokens)[0, -1]).detach().double()
            values[~agent.valid_tokens.valid] = -torch.inf
            total[row] += float(torch.log_softmax(values / temperature, -1)[text[t]])
    return total


def log_p(texts) -> np.ndarray:
    episodes = Episodes(World.of(ENV), ENV, len(texts))
    episodes.start_from_prompts(np.arange(len(texts)), [[] for _ in texts], None)
    return sum(episodes.step(texts[:, t], np.ones(len(texts), bool))[0] for t in range(T))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_played_divergence_is_that_of_whole_texts(agent, temperature):
    texts = np.array(list(itertools.product(WORDS, repeat=T)))
    own, target = log_pi(agent, texts, temperature), log_p(texts)
    assert np.exp(own).sum() == pytest.approx(1.0)
    exact = float((np.exp(own) * (own - target)).sum())
    played = play(agent, World.of(ENV), ENV, 20_000, 0, temperature)
    assert exact > 0.1
    assert played.kl.mean() == pytest.approx(exact, abs=5 * played.kl.std() / math.sqrt(20_000))
    expected = float((np.exp(own) * target).sum())
    assert played.returns.mean() == pytest.approx(expected, abs=5 * played.returns.std() / math.sqrt(20_000))


def test_perplexity_is_that_of_the_documents(agent):
    documents = World.of(ENV).documents["test"]
    texts = np.array([documents[i] for i in range(50)])
    score = score_text(agent, "test", limit=50)
    assert score.tokens == 50 * T
    assert score.perplexity == pytest.approx(math.exp(-log_pi(agent, texts, 1.0).sum() / (50 * T)), rel=1e-5)
    assert score.target_perplexity == pytest.approx(math.exp(-log_p(texts).sum() / (50 * T)), rel=1e-9)


def test_bits_per_character_count_characters(tiny):
    agent = DQN(tiny, network={"embedding_size": 8, "hidden_size": 16})
    score = score_text(agent, "test")
    world = agent.world
    documents = world.documents["test"]
    characters = sum(len(world.tokenizer.decode(documents[i].tolist())) + 1 for i in range(len(documents)))
    bits = score.tokens * math.log2(score.perplexity)
    assert score.bits_per_character == pytest.approx(bits / characters)
    assert score.unknown_share == 0.0


def test_long_documents_are_scored_whole():
    documents = tuple(" ".join(f"w{(3 * i + j * j) % 11}" for j in range(5 + i % 20)) for i in range(150))
    env = EnvConfig(corpus=documents, tokenizer="word", max_new_tokens=7, context_length=30)
    agent = DQN(env, network={"embedding_size": 8, "hidden_size": 16})
    held_out = agent.world.documents["test"]
    assert held_out.lengths.max() > 14
    score = score_text(agent, "test")
    assert score.tokens == held_out.lengths.sum() + len(held_out)
    whole = np.concatenate(
        [log_pi(agent, [[*held_out[i].tolist(), Vocabulary.EOS]], 1.0) for i in range(len(held_out))]
    )
    assert score.perplexity == pytest.approx(math.exp(-whole.sum() / score.tokens), rel=1e-5)


def test_unknown_words_are_left_out_and_counted():
    documents = tuple(f"a{i % 9} rare{i} b{i % 7}" for i in range(150))
    env = EnvConfig(corpus=documents, tokenizer="word", min_count=3, max_new_tokens=6, context_length=8)
    agent = DQN(env, network={"embedding_size": 8, "hidden_size": 16})
    score = score_text(agent, "test")
    documents = agent.world.documents["test"]
    assert score.tokens == 3 * len(documents)
    assert score.unknown_share == pytest.approx(1 / 4)


def test_texts_of_which_nothing_can_be_written_are_refused(tmp_path):
    for name, text in {"train": "a b\n" * 20, "valid": "b a\n", "test": "c d\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    env = EnvConfig(corpus=str(tmp_path), tokenizer="word", max_new_tokens=2, context_length=4, ending="fixed")
    agent = DQN(env, network={"embedding_size": 8, "hidden_size": 16})
    assert score_text(agent, "valid").tokens == 2
    with pytest.raises(ValueError, match="the 2 tokens of the test documents are all outside the vocabulary"):
        score_text(agent, "test")


@pytest.mark.parametrize("network", ["lstm", "seq2seq_lstm", "seq2seq_transformer"])
def test_long_targets_are_scored_as_far_as_they_can_be_written(network):
    pairs = tuple((f"q{i % 5}", " ".join(f"w{(i * j) % 7}" for j in range(3 + i % 9))) for i in range(150))
    env = EnvConfig(corpus=pairs, task="qa", tokenizer="word", target="reference", max_new_tokens=4, context_length=5)
    sizes = {"hidden_size": 16, **({} if network == "seq2seq_transformer" else {"embedding_size": 8})}
    agent = DQN(env, network={"name": network, **sizes})
    documents = agent.world.documents["test"]
    score = score_text(agent, "test")
    assert score.tokens == np.minimum(documents.lengths - documents.shortest_prompt + 1, 4).sum()
    assert 1.0 < score.perplexity < 1000.0


def test_equal_seeds_give_equal_prompts(tiny):
    world = World.of(tiny)
    random, target = (play(policy, world, tiny, 40, 5) for policy in ("random", "target"))
    assert np.array_equal(random.prefixes, target.prefixes)
    assert random.returns.mean() < target.returns.mean()
    assert not random.kl.any()


def test_the_target_at_temperature_0_takes_its_likeliest_token(tiny):
    env = TokenLMEnv(tiny)
    earned = play("target", World.of(tiny), tiny, 3, 5, 0.0).returns
    for seed, expected in enumerate(earned, start=5):
        total, over = 0.0, False
        env.reset(seed=seed)
        while not over:
            _, reward, terminated, truncated, _ = env.step(int(env.target_log_probs().argmax()))
            total, over = total + float(reward), terminated or truncated
        assert total == pytest.approx(expected, abs=1e-12)
