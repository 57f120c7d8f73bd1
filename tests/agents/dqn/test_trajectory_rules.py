"""Rules with one error for a whole text: π ∝ π_ref·exp(R/τ) against enumeration, and what they do without a reward."""

import dataclasses

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, Schedule
from tokenlm.agents.dqn import losses
from tokenlm.agents.dqn.agent import AgentConfig
from tokenlm.envs import EnvConfig

from fixed_points import AllTexts, distance, fixed_point, learned, solve

RULES = {
    "trajectory_balance": {}, "trajectory_balance, variance": {"learned_normaliser": False},
    "tbrm": {}, "reval": {},
}  # fmt: skip


def environment(every: int, **settings) -> EnvConfig:
    base = {
        "target": "markov", "order": 3, "vocab_size": 8, "max_new_tokens": 3, "context_length": 4,
        "prompt_length": (0, 0), "ending": "fixed", "reward_every": every,
    }  # fmt: skip
    return EnvConfig(**{**base, **settings})


def agent_of(rule: str, temperature: float = 0.7, rate=(0.3, 3e-3), every: int = 0, **settings) -> DQN:
    """An agent with a table whose first policy is far from uniform."""
    name, _, _ = rule.partition(",")
    agent = DQN(
        environment(every), loss=name, temperature=temperature, network="tabular", max_grad_norm=None,
        learning_rate=Schedule(*rate, shape="exponential"), **RULES[rule], **settings,
    )  # fmt: skip
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.normal_(std=0.5)
    agent.learner.target_network.load_state_dict(agent.network.state_dict())
    return agent


def text_log_probs(agent: DQN, texts: AllTexts) -> np.ndarray:
    """(N,) log π of every text."""
    update = agent.learner.update_of(texts.batch(), agent.temperature)
    return update.grid(update.online.frozen().advantage).sum(-1).double().numpy() / agent.temperature


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        ("trajectory_balance", "start"),
        ("trajectory_balance, variance", "none"),
        ("tbrm", "none"),
        ("reval", "start"),
        pytest.param("trajectory_balance", "none", marks=pytest.mark.slow),
        pytest.param("trajectory_balance, variance", "start", marks=pytest.mark.slow),
        pytest.param("tbrm", "start", marks=pytest.mark.slow),
    ],
)
def test_the_optimum_is_the_reference_tilted_by_the_reward(rule, reference):
    agent = agent_of(rule, reference=reference)
    texts = AllTexts(agent.env_config)
    before, start = text_log_probs(agent, texts), learned(agent, texts)
    solve(agent, texts, 600)

    exact = fixed_point(agent.config, texts, 0.7, start if reference == "start" else None)
    assert distance(learned(agent, texts), exact) < 5e-3
    # The same by enumeration of whole texts: log π = log π_ref + R/τ - log Z.
    tilted = texts.rewards.sum(1) / 0.7 + (before if reference == "start" else 0.0)
    tilted -= np.logaddexp.reduce(tilted)
    np.testing.assert_allclose(text_log_probs(agent, texts), tilted, atol=1e-2)


def test_dense_and_late_rewards_have_the_same_error():
    """Only the sum over a text counts."""
    losses_of = []
    for every in (0, 1):
        agent = agent_of("tbrm", every=every)
        losses_of.append(float(agent.learner.update(AllTexts(agent.env_config).batch(), 0.0)["loss"]))
    assert losses_of[0] == pytest.approx(losses_of[1], rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_without_a_reward_reval_stays_and_tbrm_drifts(rule):
    """With r = 0 and a reference the optimum is the reference. A handful of texts cannot tell TBRM so."""
    agent = agent_of(rule, rate=(0.05, 0.05), **({} if rule == "reval" else {"reference": "start"}))
    texts = AllTexts(agent.env_config)
    before = text_log_probs(agent, texts)
    few = texts.batch(rows=range(5))
    few = dataclasses.replace(few, rewards=torch.zeros_like(few.rewards))
    for _ in range(20):
        agent.learner.update(few, 0.0)
    after = text_log_probs(agent, texts)
    divergence = float((np.exp(after) * (after - before)).sum())  # KL(π‖π_ref), nats
    if rule in ("reval", "trajectory_balance, variance"):
        assert divergence == pytest.approx(0.0, abs=1e-6)
    else:
        assert divergence > 1e-3


def test_the_variance_is_that_of_texts_with_the_same_prompt():
    """Two texts of one prompt: ½(x - mean)² of both is ¼ of their squared difference; a prompt alone has 0."""
    env = environment(0, prompt_length=(1, 1), context_length=5)
    agent = DQN(
        env, loss="trajectory_balance", learned_normaliser=False, temperature=1.0, num_envs=64, batch_size=3,
        learning_starts=0, corpus_share=0.0, network={"name": "lstm", "embedding_size": 4, "hidden_size": 4},
        learning_rate=1e-30,
    ).learn(64 * 3)  # fmt: skip
    replay = agent.replay
    firsts = replay.tokens[:, 1].tolist()
    same = next((i, j) for i in range(64) for j in range(i) if firsts[i] == firsts[j])
    other = next(k for k in range(64) if firsts[k] != firsts[same[0]])
    batch = replay.rows(torch.tensor([*same, other]))
    update = agent.learner.update_of(batch, 1.0)
    surplus = (update.grid(update.rewards) - update.grid(update.online.frozen().advantage)).sum(-1)
    by_text = update.grid(agent.config.rule.loss(update).loss.detach()).sum(-1)
    expected = float((surplus[0] - surplus[1]) ** 2 / 8)
    np.testing.assert_allclose(by_text.numpy(), [expected, expected, 0.0], rtol=1e-4, atol=1e-6)


def test_no_update_moves_the_reference():
    """The frozen network is part of the learner's state, and no update moves it."""
    agent = agent_of("reval")
    texts, reference = AllTexts(agent.env_config), agent.learner.target_network.state_dict()
    kept = {name: value.clone() for name, value in reference.items()}
    solve(agent, texts, 5)
    state = agent.learner.state_dict()
    for name, value in kept.items():
        assert torch.equal(state["target_network"][name], value)
    assert any(not torch.equal(state["network"][name], value) for name, value in kept.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "tbrm", "gamma": 0.9}, "tbrm needs gamma 1.0, not 0.9: it compares the reward of a whole text"),
        ({"loss": "tbrm", "temperature": 0.0}, "tbrm needs a temperature above 0"),
        ({"loss": "reval", "reference": "none"}, "reval needs the reference 'start', not 'none'"),
        ({"loss": "tbrm", "reference": "uniform"}, "reference 'uniform' is unknown; use one of none, start"),
        ({"loss": "tbrm", "target_update_rate": 0.5}, "tbrm does not use target_update_rate"),
        ({"loss": "tbrm", "learned_normaliser": False}, "trajectory_balance has it"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AgentConfig.of(None, settings)


def test_soft_values_of_the_oracle_in_the_horizon_episode():
    """With reference "none" V of the first state is the optimum's soft value: τ log Σ exp(R/τ) over all texts."""
    agent = agent_of("trajectory_balance")
    texts = AllTexts(agent.env_config)
    solve(agent, texts, 600)
    update = agent.learner.update_of(texts.batch(), 0.7)
    value = float(update.online.frozen().value[0])
    exact = float(losses.soft_value(torch.from_numpy(texts.rewards.sum(1)), 0.7))
    assert value == pytest.approx(exact, abs=1e-2)
