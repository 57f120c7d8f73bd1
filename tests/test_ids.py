"""Registered ids mean what papers say they mean."""

import dataclasses

import gymnasium as gym
import pytest

import tokenlm  # noqa: F401
from tokenlm.agents import DQN, AgentConfig
from tokenlm.agents.dqn.rules import RULES
from tokenlm.envs import EnvConfig
from tokenlm.envs.arguments import names_of
from tokenlm.parsing import parse_run

SETTINGS = {
    "TokenLM-v0": {},
    "TokenLM-Sparse-v0": {"reward_every": 0, "prompt_length": (0, 0)},
    "TokenLM-Markov-v0": {
        "target": "markov", "order": 2, "vocab_size": 200, "max_new_tokens": 16, "context_length": 17,
        "ending": "fixed", "prompt_length": (0, 0),
    },
    "TokenLM-Tiny-v0": {
        "target": "markov", "order": 3, "vocab_size": 8, "max_new_tokens": 4, "context_length": 5,
        "ending": "fixed", "prompt_length": (0, 0),
    },
    "TokenLM-QA-v0": {"task": "qa", "target": "reference", "context_length": 48, "max_new_tokens": 16},
    "TokenLM-Translation-v0": {
        "task": "translation", "target": "reference", "vocabularies": "separate", "context_length": 64,
        "max_new_tokens": 32,
    },
    "TokenLM-Classification-v0": {
        "task": "classification", "target": "reference", "vocabularies": "separate", "context_length": 64,
        "max_new_tokens": 1, "ending": "fixed",
    },
    "TokenLM-Form-v0": {
        "corpus": "jueju", "tokenizer": "char", "form": "jueju5", "form_bonus": 10.0, "no_repeat": 1, "order": 2,
        "prompt_length": (12, 12), "max_new_tokens": 12, "ending": "fixed", "context_length": 25,
    },
    "TokenLM-Form-Sparse-v0": {
        "corpus": "jueju", "tokenizer": "char", "form": "jueju5", "form_bonus": 10.0, "no_repeat": 1, "order": 2,
        "prompt_length": (12, 12), "max_new_tokens": 12, "ending": "fixed", "context_length": 25, "reward_every": 0,
    },
    "TokenLM-Text-v0": {
        "ending": "fixed", "prompt_length": (2, 2), "max_new_tokens": 16, "context_length": 19,
    },
    "TokenLM-Factored-v0": {
        "target": "factored", "vocab_size": 200, "max_new_tokens": 16, "context_length": 19, "prompt_length": (2, 2),
        "ending": "fixed",
    },
    "TokenLM-Factored-Sparse-v0": {
        "target": "factored", "vocab_size": 200, "max_new_tokens": 16, "context_length": 19, "prompt_length": (2, 2),
        "ending": "fixed", "reward_every": 0,
    },
    "TokenLM-Teacher-v0": {
        "target": "teacher", "vocab_size": 1_000, "max_new_tokens": 64, "context_length": 65, "ending": "fixed",
        "prompt_length": (0, 0),
    },
    "TokenLM-Teacher-Sparse-v0": {
        "target": "teacher", "vocab_size": 1_000, "max_new_tokens": 64, "context_length": 65, "ending": "fixed",
        "prompt_length": (0, 0), "reward_every": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_an_id_never_changes_its_settings(name):
    expected = dataclasses.replace(EnvConfig(), **SETTINGS[name])
    assert gym.make(name).unwrapped.config == expected
    assert gym.make_vec(name, num_envs=2).unwrapped.config == expected
    assert DQN(name, network={"embedding_size": 4, "hidden_size": 4}).env_config == expected


def test_settings_go_over_an_id():
    assert gym.make("TokenLM-Markov-v0", reward_every=0).unwrapped.config.reward_every == 0


def test_the_optimum_of_the_race():
    """The chain of seed 0, as a fact that results can be checked against."""
    oracle = gym.make("TokenLM-Markov-v0").unwrapped.oracle
    best = oracle.most_likely_text()
    assert best.log_prob == pytest.approx(-12.84242341151899, abs=1e-9)
    assert oracle.expected_return("random", [[0] * 16 + [2]])[0] == pytest.approx(-126.61167197, abs=1e-6)


def test_the_optimum_of_factored():
    """The world of seed 0, after one prompt."""
    env = gym.make("TokenLM-Factored-v0").unwrapped
    window = [[0] * 16 + [2, 57, 131]]
    assert env.oracle.optimal_return(window)[0] == pytest.approx(-29.66449453472524, abs=1e-9)
    assert env.oracle.most_likely_text("57 131").log_prob == pytest.approx(-29.66449453472524, abs=1e-9)
    assert env.oracle.expected_return("random", window)[0] == pytest.approx(-116.23535996307952, abs=1e-9)
    observation, _ = env.reset(seed=0)
    assert (observation[:17] == [0] * 16 + [2]).all()  # prompts are two words
    assert parse_run(["reward-model"]).env == env.config


@pytest.mark.parametrize("name", ["markov", "form"])
def test_the_shipped_configuration_is_that_of_the_id(name):
    assert parse_run([name]).env == gym.make(f"TokenLM-{name.capitalize()}-v0").unwrapped.config


@pytest.mark.parametrize("loss", RULES)
def test_every_rule_is_one_word(loss, tiny):
    assert AgentConfig(loss=loss).loss == loss
    assert type(AgentConfig(loss=loss).rule) is RULES[loss]
    run = parse_run(["quickstart", "--agent.loss", loss])
    assert run.agent.loss == loss
    atoms = {"atoms": 5} if "atoms" in names_of(RULES[loss]) else {}
    agent = DQN(
        tiny, loss=loss, network={"embedding_size": 8, "hidden_size": 16}, num_envs=8, batch_size=8, learning_starts=8,
        **atoms,
    ).learn(64)  # fmt: skip
    assert agent.learner.updates > 0
    assert agent.generate(count=2, seed=0)


@pytest.mark.parametrize("name", ["Factored", "Form"])
def test_a_sparse_twin_pays_the_same_with_the_last_token(name):
    dense, sparse = (gym.make(f"TokenLM-{name}{part}-v0").unwrapped for part in ("", "-Sparse"))
    assert dataclasses.replace(dense.config, reward_every=0) == sparse.config
    for env in (dense, sparse):
        env.reset(seed=7)
    total, over = 0.0, False
    while not over:
        action = int(dense.action_masks().nonzero()[0][-1])
        _, reward, over, _, _ = dense.step(action)
        _, late, ended, _, _ = sparse.step(action)
        total += reward
        assert (ended, late) == (over, pytest.approx(total if over else 0.0))
    assert total < -10.0
