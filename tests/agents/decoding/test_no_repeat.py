"""`no_repeat` holds wherever an agent acts, learns, writes and is scored."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, evaluate, play, score_text
from tokenlm.agents.baselines.policy_gradient import GRPO
from tokenlm.agents.baselines.unigram import Unigram
from tokenlm.agents.dqn.update import Backup, Update
from tokenlm.agents.evaluation.exact import every_text, exact_score, log_policy
from tokenlm.envs import EnvConfig, Oracle, World

ENV = EnvConfig(
    target="markov", order=2, vocab_size=10, max_new_tokens=4, context_length=6, prompt_length=(0, 0), no_repeat=2,
    ending="fixed",
)  # fmt: skip
ENDS = dataclasses.replace(ENV, ending="eos", min_new_tokens=1)
NETWORK = {"embedding_size": 8, "hidden_size": 16}


def untrained(env: EnvConfig) -> DQN:
    agent = DQN(env, network=NETWORK, seed=1, device="cpu", num_envs=4, batch_size=8, learning_starts=0)
    with torch.no_grad():
        agent.network.head.weight.mul_(60)
    return agent


def repeats(texts: list[str]) -> bool:
    words = [text.split() for text in texts]
    return any(word in text[max(0, i - 2) : i] for text in words for i, word in enumerate(text))


@pytest.mark.parametrize("env", [ENV, ENDS], ids=["fixed", "eos"])
@pytest.mark.parametrize("kind", [untrained, Unigram])
def test_no_text_repeats(env, kind):
    agent = kind(env)
    beams = [{"temperature": 0.0, "beams": 5, "count": 5}] if kind is untrained else []
    for how in ({"temperature": 0.0}, {"count": 50}, *beams):
        texts = agent.generate("", seed=0, **how)
        assert len(texts) == 1 or any(len(text.split()) > 2 for text in texts)
        assert not repeats(texts)
    assert not repeats(list(agent.generate(["", World.of(env).tokenizer.decode([6, 8])], seed=0)))
    assert not repeats(play(agent, World.of(env), env, 50, 0, 1.0).texts)


@pytest.mark.parametrize("env", [ENV, ENDS], ids=["fixed", "eos"])
@pytest.mark.parametrize("kind", [untrained, Unigram])
def test_all_texts_have_all_the_probability_and_scores_agree_with_sampling(env, kind):
    agent = kind(env)
    texts = every_text(World.of(env), env)
    assert np.exp(texts.log_target).sum() == pytest.approx(1.0, abs=1e-12)
    assert np.exp(log_policy(agent, texts, 1.0, env)).sum() == pytest.approx(1.0, abs=1e-6)
    score = exact_score(agent, temperature=1.0, env=env)
    played = play(agent, World.of(env), env, 3_000, 0, 1.0, 1.0)
    assert played.kl.mean() == pytest.approx(score.kl_to_target, abs=5 * played.kl.std() / math.sqrt(3_000))
    assert score.greedy_return == pytest.approx(play(agent, World.of(env), env, 1, 0, 0.0).returns[0], abs=1e-9)
    best = Oracle(World.of(env), env).optimal_return(np.array([[0] * 5 + [2]]))[0]
    assert texts.log_target.max() == pytest.approx(best, abs=1e-12)
    assert np.isfinite(score_text(agent, "test", 20, env=env).perplexity)
    assert evaluate(agent, env=env, episodes=8, documents=5)["greedy_regret"] >= -1e-9


@pytest.mark.parametrize("dueling", [True, False])
def test_the_values_of_the_next_states_leave_recent_tokens_out(dueling):
    """The soft maximum of every state after an action, from the head's output one state at a time."""
    agent = untrained(ENV)
    agent.learn(64)
    batch = agent.replay.rows(torch.arange(3))
    update = Update(batch, agent.network, agent.network, agent.valid_actions, Backup(temperature=0.5, dueling=dueling))
    target = update.target
    peaks = target.head_of_taken(agent.network.head, 0.5)[1] if dueling else target.value
    place = 0
    for row, column in batch.is_action.nonzero().tolist():
        tokens = batch.tokens[row, : column + 1]
        values = agent.network.q_values(agent.network(tokens[None])[0, -1]).detach().double()
        allowed = [i for i in range(5, 10) if i not in tokens[-2:].tolist()]
        expected = 0.5 * torch.logsumexp(values[allowed] / 0.5, 0)
        assert float(peaks.detach()[place]) == pytest.approx(float(expected), abs=1e-4)
        place += 1
    assert place == len(peaks) == 12


def test_soft_q_learning_finds_the_distribution_without_repeats():
    agent = DQN(
        ENV, temperature=1.0, corpus_share=0.0, num_envs=16, batch_size=32, learning_starts=64, epsilon=0.3,
        learning_rate=2e-2, target_update_rate=0.05, network={"embedding_size": 16, "hidden_size": 32}, device="cpu",
    )  # fmt: skip
    before = exact_score(agent).soft_regret
    agent.learn(5_000)
    assert exact_score(agent).soft_regret < 0.1 * before


def test_policy_gradients_see_the_same_masks():
    agent = GRPO(ENV, network=NETWORK, num_envs=16, device="cpu").learn(64)
    texts = every_text(World.of(ENV), ENV)
    assert np.exp(log_policy(agent, texts, 1.0, ENV)).sum() == pytest.approx(1.0, abs=1e-6)


def test_phrases_are_refused():
    with pytest.raises(ValueError, match="with no_repeat set phrases to 0"):
        DQN(ENV, phrases=3, network=NETWORK, device="cpu")
