"""Registered ids mean what papers say they mean."""

import dataclasses
import hashlib
from pathlib import Path

import gymnasium as gym
import pytest

import tokenlm  # noqa: F401
from tokenlm import envs
from tokenlm.agents import DQN, AgentConfig
from tokenlm.agents.dqn.rules import RULES
from tokenlm.agents.evaluation.playing import started
from tokenlm.agents.evaluation.scores import Scale
from tokenlm.envs import EnvConfig, Oracle, World, env_config_from
from tokenlm.envs.arguments import names_of
from tokenlm.envs.bounds import beam_search
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


CORPORA = {
    "jueju.txt": "ee6cfd3adbbe7735c3ab808d620ec1d7c1cb4c69b784dd48c5beb330d4c4f302",
    "zh.txt": "085ecee93378f5d28b0dc97ee4b1c8d60f0c8a8673d0e0ae86c6ef67dc041800",
}
# Of the first four test prompts: optimum, best trivial policy and p* sampled, nats a text; scores of a search of width 1
# and 10; the best text after the first. Digests are those of the tokens of each split.
FROZEN = {
    "TokenLM-Form-v0": (
        (-4.42110075322338, -11.140427514372272, -34.672250058501085), (0.12887809052609, 0.8671824494175326),
        "冷月开山色，春风入户频。山僧挑菜去，骤雨后苔痕。", "523355bba491e22c ef7da04ca033ab44 6aa8e6c273429c6a",
    ),
    "TokenLM-Text-v0": (
        (-10.183927724582022, -19.249748601790337, -42.501257997375305), (0.17666255429787403, 0.8290608975244403),
        "你晚上有空吗？我们一起去游泳吧。今天下午要开一个重要的会。",
        "f580bc206a36b1a7 adde9e40b74a8023 14c277a72a9ca0ad",
    ),
}  # fmt: skip


def test_the_corpora_of_the_ids_are_frozen():
    folder = Path(envs.__file__).parent / "text" / "data"
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in CORPORA} == CORPORA


@pytest.mark.parametrize("name", FROZEN)
def test_the_numbers_of_form_and_text_are_frozen(name):
    config = dataclasses.replace(env_config_from(name), split="test")
    world, (returns, scores, text, digests) = World.of(config), FROZEN[name]
    tokens = [documents.tokens.astype("<i8").tobytes() for documents in world.documents.values()]
    assert " ".join(hashlib.sha256(data).hexdigest()[:16] for data in tokens) == digests
    oracle, first = Oracle.of(world, config), started(world, config, 4, 0).observe()
    scale = Scale.of(world, config, first)
    found = (scale.optimal, scale.trivial_return, oracle.expected_return("target", first).mean())
    assert found == pytest.approx(returns, abs=1e-9)
    assert scale.best == "same_text"
    for width, score in zip((1, 10), scores, strict=True):
        reached = float(beam_search(world, config, first, width).log_probs.mean())
        assert scale.score(scale.regret(reached)) == pytest.approx(score, abs=1e-9)
    assert oracle.best_texts(first)[0].text == text


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
