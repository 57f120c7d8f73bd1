"""A form holds wherever an agent acts, learns, writes and is scored."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, evaluate, play, score_text
from tokenlm.agents.baselines.policy_gradient import GRPO
from tokenlm.agents.baselines.unigram import Unigram
from tokenlm.agents.dqn.update import Backup, Update
from tokenlm.agents.evaluation.exact import every_text, exact_score, log_policy
from tokenlm.envs import EnvConfig, Episodes, Oracle, World

# An acrostic of the prompt, two words a line, over words that begin with a, b or c.
ENV = EnvConfig(
    corpus=tuple(" ".join(words) for words in itertools.permutations(["ab", "ad", "ba", "be", "ca", "ce"], 4)),
    tokenizer="word", order=2, prompt_length=(1, 2), max_new_tokens=5, context_length=8,
    form="lines?length=2", form_bonus=0.5,
)  # fmt: skip
NETWORK = {"embedding_size": 8, "hidden_size": 16}


def untrained(env: EnvConfig) -> DQN:
    agent = DQN(env, network=NETWORK, seed=1, device="cpu", num_envs=4, batch_size=8, learning_starts=0)
    with torch.no_grad():
        agent.network.head.weight.mul_(60)
    return agent


@pytest.mark.parametrize("kind", [untrained, Unigram])
def test_every_text_has_the_form(kind):
    agent = kind(ENV)
    beams = [{"temperature": 0.0, "beams": 3, "count": 2}] if kind is untrained else []
    for how in ({"temperature": 0.0}, {"count": 20}, *beams):
        for prompt, words in (("ab", 1 + 2 * 2), ("ba be", 2 + 5)):  # four lines are more than fit: truncated
            texts = agent.generate(prompt, seed=0, **how)
            assert {len(text.split()) for text in texts} == {words}
    assert {len(t.split()) for t in play(agent, World.of(ENV), ENV, 20, 0, 1.0).texts} <= {5, 7}


@pytest.mark.parametrize("kind", [untrained, Unigram])
def test_all_texts_have_all_the_probability_and_scores_agree_with_sampling(kind):
    plain = dataclasses.replace(ENV, form_bonus=0.0)
    agent, world = kind(plain), World.of(plain)
    ids = [world.vocabulary.id("ab")]
    texts = every_text(world, plain, ids)
    assert len(texts.tokens) == 6**4
    assert np.exp(texts.log_target).sum() == pytest.approx(1.0, abs=1e-12)
    assert np.exp(log_policy(agent, texts, 1.0, plain)).sum() == pytest.approx(1.0, abs=1e-6)
    best = Oracle(world, plain).optimal_return(np.array([[0] * 6 + [2, *ids]]))[0]
    assert texts.log_target.max() == pytest.approx(best, abs=1e-12)
    assert exact_score(agent, ids, 1.0, plain).greedy_regret >= -1e-9


def test_evaluations_know_the_bonus():
    agent = untrained(ENV)
    result = evaluate(agent, env=ENV, episodes=8, documents=5)
    assert result["greedy_regret"] >= -1e-9
    assert result["trivial_regret"] > 0.0
    assert result["exact"] is None
    assert "planning" in result["supports"]
    assert math.isfinite(score_text(agent, "test", 5, env=ENV).perplexity)
    played = play(agent, World.of(ENV), ENV, 40, 0, 1.0, 0.5)
    assert (played.regret >= -1e-9).all()
    assert played.regret.mean() > 0.0
    with pytest.raises(ValueError, match="exact scores need the log-likelihood as the only reward"):
        exact_score(agent, env=ENV)


def test_masks_of_a_batch_are_those_of_the_environment():
    agent = untrained(ENV)
    agent.learn(64)
    batch = agent.replay.rows(torch.arange(6))
    update = Update(batch, agent.network, agent.network, agent.valid_actions, Backup(temperature=0.5))
    states = update.online
    masks = agent.valid_actions.mask(states.written, states.allowed)
    place = 0
    for row, column in batch.is_action.nonzero().tolist():
        written = int(batch.written[row, column])
        tokens = batch.tokens[row, : column + 1].tolist()
        episodes = Episodes(World.of(ENV), ENV, 1)
        episodes.start_from_prompts(np.arange(1), [tokens[1 : len(tokens) - written]], None)
        for token in tokens[len(tokens) - written :]:
            episodes.step(np.array([token]))
        np.testing.assert_array_equal(masks[place].numpy(), episodes.action_masks()[0])
        place += 1
    assert place == len(masks) > 6


@pytest.mark.slow
def test_soft_q_learning_finds_the_optimum():
    agent = DQN(
        ENV, temperature=0.5, corpus_share=0.0, num_envs=16, batch_size=32, learning_starts=64, epsilon=0.3,
        learning_rate=2e-2, target_update_rate=0.05, network={"embedding_size": 16, "hidden_size": 32}, device="cpu",
    )  # fmt: skip
    before = play(agent, World.of(ENV), ENV, 200, 0, 0.5, 0.5).regret.mean()
    agent.learn(6_000)
    assert play(agent, World.of(ENV), ENV, 200, 0, 0.5, 0.5).regret.mean() < 0.3 * before


def test_policy_gradients_see_the_same_masks():
    agent = GRPO(ENV, network=NETWORK, num_envs=16, device="cpu").learn(64)
    texts = every_text(World.of(ENV), ENV, [World.of(ENV).vocabulary.id("ab")])
    assert np.exp(log_policy(agent, texts, 1.0, ENV)).sum() == pytest.approx(1.0, abs=1e-6)


def test_phrases_are_refused():
    with pytest.raises(ValueError, match="phrases know nothing of the form"):
        DQN(ENV, phrases=3, network=NETWORK, device="cpu")
