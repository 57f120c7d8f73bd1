"""A trained network of ours as the target distribution of another environment."""

import dataclasses

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, MaximumLikelihood, Schedule, score_text
from tokenlm.agents.networks.prefixes import right_padded
from tokenlm.envs import EnvConfig, TokenLMDeviceEnv, TokenLMEnv, TokenLMVectorEnv, World
from tokenlm.envs.targets import check_target

NETWORKS = {
    "lstm": {"name": "lstm", "hidden_size": 16, "embedding_size": 8, "num_layers": 1},
    "transformer": {"name": "transformer", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
}


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def teacher(request, tiny, tmp_path_factory) -> tuple[MaximumLikelihood, str]:
    config = dataclasses.replace(tiny, context_length=6, max_new_tokens=9)
    agent = MaximumLikelihood(config, network=NETWORKS[request.param], batch_size=32, seed=1, device="cpu")
    agent.learn(300)
    folder = tmp_path_factory.mktemp(request.param)
    agent.save(folder)
    return agent, str(folder)


@pytest.fixture
def config(teacher, tiny) -> EnvConfig:
    return dataclasses.replace(
        tiny, tokenizer="auto", target="causal_lm", target_model=teacher[1], context_length=6, max_new_tokens=9
    )


@torch.no_grad()
def own_log_probs(agent: DQN, tokens: list[int]) -> np.ndarray:
    """(V,) log π after one text by itself."""
    hidden = agent.network.eval()(torch.tensor([tokens]))[:, -1]
    return torch.log_softmax(agent.network.policy_values(hidden, agent.valid_tokens.valid)[0].double(), -1).numpy()


def assert_every_step_is_the_agents_own(agent: DQN, config: EnvConfig, kind: str) -> None:
    """p* of three rows that write at random, beside what the agent says of each whole text by itself."""
    env = TokenLMVectorEnv(3, config) if kind == "vector" else TokenLMDeviceEnv(3, config, device="cpu")
    env.reset(seed=0)
    rng, resting = np.random.default_rng(0), np.zeros(3, bool)
    for _ in range(40):
        rows = np.asarray(env.target_log_probs())
        for i in np.flatnonzero(~resting):
            expected = own_log_probs(agent, env._episodes.tokens(i))
            np.testing.assert_allclose(rows[i], expected, atol=1e-5)
        actions = rng.choice(np.flatnonzero(env.world.valid), 3)
        actions[rng.random(3) < 0.15] = 3
        _, _, terminated, truncated, _ = env.step(actions if kind == "vector" else torch.from_numpy(actions))
        if kind == "vector":
            resting = terminated | truncated


@pytest.mark.parametrize("kind", ["vector", "device"])
def test_every_step_equals_reading_the_whole_text_by_itself(teacher, config, kind):
    # Windows of 6 that 9 tokens outgrow; the network goes on from what it has read, as it does when it writes.
    assert_every_step_is_the_agents_own(teacher[0], config, kind)


def test_the_teachers_own_perplexity_is_that_of_its_target(teacher, config):
    score = score_text(teacher[0], "test", env=config)
    assert score.perplexity == pytest.approx(score.target_perplexity, rel=1e-5)


def test_it_is_a_consistent_target(config):
    check_target(World.of(config).target.target, atol=1e-4)


def test_a_student_of_another_network_lives_in_it(config):
    student = DQN(config, network=NETWORKS["lstm"], num_envs=4, batch_size=8, learning_starts=0, device="cpu")
    student.learn(40)
    assert student.transitions_trained > 0


@pytest.mark.parametrize("name", ["seq2seq_lstm", "seq2seq_transformer"])
@pytest.mark.parametrize("kind", ["vector", "device"])
def test_an_encoder_decoder_is_the_target_of_its_task(name, kind, tmp_path):
    pairs = tuple((f"what comes after {a}", b) for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    config = EnvConfig(task="qa", corpus=pairs, target="reference", tokenizer="word", max_new_tokens=5)
    network = {"name": name, "hidden_size": 16, "embedding_size": 8, "num_layers": 1, "num_heads": 2}
    del network["num_heads" if name == "seq2seq_lstm" else "embedding_size"]
    agent = MaximumLikelihood(config, network=network, batch_size=8, device="cpu").learn(200)
    agent.save(tmp_path)
    config = dataclasses.replace(config, target="causal_lm", target_model=str(tmp_path))
    assert_every_step_is_the_agents_own(agent, config, kind)


def test_rows_may_begin_one_after_the_other(tmp_path):
    """Those that have not begun hold what one of the others reads: an encoder–decoder cannot read `<bos>` alone."""
    config = EnvConfig(
        task="qa", corpus=(("a b", "c"), ("b a", "d"), ("a a", "c"), ("b b", "d")), target="reference", tokenizer="word"
    )
    MaximumLikelihood(config, network="seq2seq_lstm", device="cpu").save(tmp_path)
    world = World.of(dataclasses.replace(config, target="causal_lm", target_model=str(tmp_path)))
    target = world.target.target
    prefixes = np.array([[2, 5, 6, 4], [2, 6, 5, 4]])
    memory = target.memory(2, prefixes)
    for row in (1, 0):
        memory.begin(np.array([row]), prefixes[[row]])
    np.testing.assert_allclose(memory.log_probs, target.log_probs(prefixes), atol=1e-6)


def test_what_does_not_fit_says_why(teacher, config, tmp_path, tiny):
    with pytest.raises(ValueError, match=r"vocabulary of 16 tokens that differs from the environment's .* 'auto'"):
        TokenLMEnv(dataclasses.replace(config, tokenizer="char"))
    if getattr(teacher[0].network, "max_length", None) is not None:
        with pytest.raises(ValueError, match="reads at most 16 tokens"):
            TokenLMEnv(dataclasses.replace(config, context_length=30))
    greedy = DQN(tiny, network=NETWORKS["lstm"], temperature=Schedule(0.0, 0.0), device="cpu")
    greedy.save(tmp_path)
    with pytest.raises(ValueError, match="greedy"):
        TokenLMEnv(dataclasses.replace(config, target_model=tmp_path))


def test_observations_of_a_truncated_text_have_a_value(teacher, config):
    env = TokenLMEnv(config)
    env.reset(seed=0)
    for _ in range(9):
        truncated = env.step(int(env.world.words[0]))[3]
    assert truncated
    np.testing.assert_allclose(env.target_log_probs(), own_log_probs(teacher[0], env._episodes.tokens(0)), atol=1e-5)
    assert right_padded(torch.from_numpy(env._episodes.observe()))[1].tolist() == [6]
