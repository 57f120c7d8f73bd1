"""An agent of three methods is measured as the DQN behind it: the two ways of reading a text agree."""

import dataclasses

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, Agent, evaluate, play, score_text
from tokenlm.agents.baselines.unigram import Unigram
from tokenlm.agents.evaluation.exact import every_text, exact_score, log_policy
from tokenlm.agents.evaluation.policies import world_of
from tokenlm.agents.networks.prefixes import windows_at
from tokenlm.agents.protocol import complete
from tokenlm.envs import EnvConfig, World

CHAIN = EnvConfig(
    target="markov", order=3, vocab_size=8, max_new_tokens=4, context_length=5, ending="fixed", prompt_length=(0, 0)
)


class Bare:
    """The three methods of a DQN and its count of steps, and nothing else of it."""

    def __init__(self, agent):
        self.learn, self.predict, self.log_probs = agent.learn, agent.predict, agent.log_probs
        self.env_steps = agent.env_steps


def pair(env, **settings):
    agent = DQN(
        env, temperature=1.0, network={"embedding_size": 8, "hidden_size": 16}, seed=1, device="cpu", **settings
    )
    with torch.no_grad():
        agent.network.head.weight.mul_(60)  # preferences far from even
    return agent, Bare(agent)


@pytest.fixture(params=["chain", "words", "words, least length"])
def env(request, tiny):
    return {
        "chain": CHAIN,
        "words": tiny,
        "words, least length": dataclasses.replace(tiny, min_new_tokens=2),
    }[request.param]


def test_the_bare_one_is_an_agent():
    assert isinstance(Bare(DQN(CHAIN, device="cpu")), Agent)
    assert isinstance(DQN(CHAIN, device="cpu"), Agent)
    assert isinstance(Unigram(CHAIN), Agent)


def test_perplexity(env):
    agent, bare = pair(env)
    one, other = score_text(agent), score_text(bare, env=env)
    assert one.perplexity == pytest.approx(other.perplexity, rel=1e-4)
    assert one.bits_per_character == pytest.approx(other.bits_per_character, rel=1e-4)
    assert (one.target_perplexity, one.tokens) == (other.target_perplexity, other.tokens)


def test_play(env):
    agent, bare = pair(env)
    world = World.of(env)
    for temperature in (0.0, 1.0):
        one = play(agent, world, env, 32, 5, temperature)
        other = play(bare, world, env, 32, 5, temperature)
        assert one.texts == other.texts
        np.testing.assert_allclose(one.returns, other.returns, atol=1e-9)
        np.testing.assert_allclose(one.kl, other.kl, rtol=1e-3, atol=1e-5)


def test_exact_scores():
    agent, bare = pair(CHAIN)
    texts = every_text(World.of(CHAIN), CHAIN)
    for temperature in (0.0, 1.0):
        np.testing.assert_allclose(
            log_policy(agent, texts, temperature), log_policy(bare, texts, temperature, CHAIN), atol=1e-5
        )
    one, other = exact_score(agent), exact_score(bare, env=CHAIN)
    assert np.exp(log_policy(bare, texts, 1.0, CHAIN)).sum() == pytest.approx(1.0)
    for name, value in dataclasses.asdict(one).items():
        assert getattr(other, name) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_everything_at_once():
    agent, bare = pair(CHAIN)
    one, other = evaluate(agent, episodes=16), evaluate(bare, env=CHAIN, episodes=16, temperature=1.0)
    for name in (
        "perplexity",
        "greedy_return",
        "sampled_return",
        "kl_to_target",
        "regret",
        "normalized_score",
        "optimal_return",
    ):
        assert other[name] == pytest.approx(one[name], rel=1e-3), name
    assert other["transitions_trained"] is None
    assert other["exact"]["kl_to_target"] == pytest.approx(one["exact"]["kl_to_target"], rel=1e-4)
    with pytest.raises(ValueError, match="does not know its environment; pass env="):
        evaluate(bare)


def test_log_probs_of_a_dqn_are_those_it_samples_from(tiny):
    agent, _ = pair(tiny)
    window = np.array([[0] * 10 + [2, 6]])
    masks = World.of(tiny).valid.copy()
    masks[6] = False
    log_probs = agent.log_probs(window, masks)
    assert log_probs.shape == (1, agent.world.vocab_size)
    assert np.exp(log_probs).sum() == pytest.approx(1.0)
    assert np.all(log_probs[0, ~masks] == -np.inf)
    drawn, _ = agent.predict(np.repeat(window, 20_000, 0), action_masks=masks)
    found = np.bincount(drawn, minlength=len(masks)) / 20_000
    assert np.abs(found - np.exp(log_probs[0])).max() < 0.02  # five standard deviations of the largest share
    agent.config = dataclasses.replace(agent.config, temperature=0.0)
    assert np.sort(agent.log_probs(window, masks)[0])[-2:].tolist() == [-np.inf, 0.0]


def test_texts_begin_with_their_prompts(tiny):
    agent, bare = pair(tiny)
    writer = complete(bare, tiny)
    texts = writer.generate(["the cat", ""], seed=0, max_new_tokens=3)
    assert texts[0].startswith("the cat")
    assert texts == writer.generate(["the cat", ""], seed=0, max_new_tokens=3)
    assert writer.generate(["the cat"], seed=0, temperature=0.0) == agent.generate("the cat", temperature=0.0)


def test_windows_end_where_they_should():
    tokens = np.array([[2, 5, 6, 7]])
    rows, columns = np.zeros(3, np.int64), np.array([0, 2, 3])
    assert windows_at(tokens, rows, columns, 3).tolist() == [[0, 0, 2], [2, 5, 6], [5, 6, 7]]


def test_unigram_has_the_frequencies_of_the_corpus(tiny):
    agent = Unigram(tiny)
    world, _ = world_of(agent)
    documents = world.documents["train"]
    probabilities = np.exp(agent.log_probs(np.zeros((1, 12), np.int64)))[0]
    counts = np.bincount(documents.tokens, minlength=world.vocab_size) + 1.0
    a, b = world.words[:2]
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[a] / probabilities[b] == pytest.approx(counts[a] / counts[b])
    assert agent.predict(np.zeros(12, np.int64), deterministic=True)[0] == probabilities.argmax()


class Steps(Unigram):
    """Takes eight steps at a time and calls back."""

    def learn(self, total_steps, callback=None):
        for _ in range(0, total_steps, 8):
            self.env_steps += 8
            if callback(self) is False:
                break
        return self


def test_training_ends_with_its_steps_its_time_or_when_told():
    agent = Steps(CHAIN)
    seen = []
    agent.train(80, lambda trained: seen.append(trained.progress))
    assert seen == pytest.approx([i / 10 for i in range(1, 11)])
    agent.train(80, lambda trained: trained.num_steps < 24)
    assert (agent.num_steps, agent.env_steps) == (24, 104)
    short = Steps(CHAIN)
    seen.clear()
    short.train(1 << 40, lambda trained: seen.append(trained.progress), max_seconds=0.02)
    assert short.progress == 1.0
    assert short.learning_seconds >= 0.02
    assert seen.count(1.0) == 1  # no step more, once the time was over
