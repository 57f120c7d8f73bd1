"""Regret and score: against the enumeration of all texts, for our policies and for another library's."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tokenlm.agents import DQN, evaluate, play
from tokenlm.agents.baselines.unigram import Unigram
from tokenlm.agents.evaluation import trivial_returns
from tokenlm.agents.evaluation.exact import every_text, exact_score, log_policy
from tokenlm.agents.evaluation.playing import OptimalPolicy
from tokenlm.agents.evaluation.scores import Scale, normalized_score
from tokenlm.agents.protocol import BaseAgent
from tokenlm.envs import EnvConfig, Episodes, Oracle, World
from tokenlm.envs.trivial import start_distribution

CHAIN = EnvConfig(
    target="markov", order=3, vocab_size=8, max_new_tokens=4, context_length=5, ending="fixed", prompt_length=(0, 0)
)
ENDS = dataclasses.replace(CHAIN, ending="eos", min_new_tokens=3)
START = np.array([[0, 0, 0, 0, 2]])


def untrained(env: EnvConfig, temperature: float = 1.0) -> DQN:
    agent = DQN(env, temperature=temperature, network={"embedding_size": 8, "hidden_size": 16}, seed=1, device="cpu")
    with torch.no_grad():
        agent.network.head.weight.mul_(60)  # preferences far from even
    return agent


def soft_regret(agent, env: EnvConfig, acting: float, temperature: float) -> float:
    """τ·KL(π ‖ π*) from its definition over all texts, with π* ∝ exp(return/τ)."""
    texts = every_text(World.of(env), env)
    log_pi = log_policy(agent, texts, acting, env)
    scaled = env.log_prob_weight * texts.log_target / temperature
    log_optimal = scaled - np.logaddexp.reduce(scaled)
    return temperature * float(np.exp(log_pi) @ (log_pi - log_optimal))


@pytest.mark.parametrize("env", [CHAIN, ENDS, dataclasses.replace(ENDS, log_prob_weight=0.5)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_sampled_soft_regret_of_ours(env, temperature):
    agent = untrained(env, temperature)
    expected = soft_regret(agent, env, temperature, temperature)
    played = play(agent, World.of(env), env, 3_000, 0, temperature, temperature)
    assert expected > 0.05
    assert (played.regret >= -1e-9).all()
    assert played.regret.mean() == pytest.approx(expected, abs=5 * played.regret.std() / math.sqrt(3_000) + 1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_sampled_soft_regret_of_another_librarys_agent(temperature):
    sb3 = pytest.importorskip("tokenlm.agents.baselines.sb3")
    agent = sb3.SB3PPO(CHAIN, num_envs=2, network={"embedding_size": 8, "hidden_size": 8})
    expected = soft_regret(agent, CHAIN, 1.0, temperature)
    played = play(agent, World.of(CHAIN), CHAIN, 2_000, 0, 1.0, temperature)
    assert played.regret.mean() == pytest.approx(expected, abs=5 * played.regret.std() / math.sqrt(2_000) + 1e-6)
    result = evaluate(agent, env=CHAIN, episodes=64, temperature=temperature)
    assert result["regret"] == pytest.approx(expected, rel=1e-4)  # listed, so exact
    assert result["regret_ci"] == [result["regret"]] * 2
    assert result["temperature"] == temperature
    assert evaluate(agent, env=CHAIN, episodes=64)["regret"] == pytest.approx(exact_score(agent).greedy_regret)


@pytest.mark.parametrize("env", [CHAIN, ENDS])
def test_the_soft_regret_of_a_greedy_policy_is_that_of_its_text(env):
    agent, texts = untrained(env), every_text(World.of(env), env)
    played = play(agent, World.of(env), env, 3, 0, 0.0, 0.5)
    best = 0.5 * np.logaddexp.reduce(texts.log_target / 0.5)
    np.testing.assert_allclose(played.regret, best - played.returns, atol=1e-9)


@pytest.mark.parametrize("env", [CHAIN, ENDS, dataclasses.replace(ENDS, log_prob_weight=0.5)])
def test_the_best_text_stands_beside_the_agents(env):
    """By enumeration: the best of all texts, the agent's greedy one, and the one it writes most often."""
    agent, world = untrained(env), World.of(env)
    result, texts = evaluate(agent, env=env, episodes=2_000), every_text(world, env)
    ids = [tokens[tokens != 0].tolist() for tokens in texts.tokens]
    own, greedy = (np.exp(log_policy(agent, texts, t, env)) for t in (1.0, 0.0))
    [row] = result["texts"]
    best = int(texts.log_target.argmax())
    assert row["best"] == world.tokenizer.decode(ids[best])
    assert row["best_return"] == pytest.approx(env.log_prob_weight * texts.log_target[best], abs=1e-9)
    assert row["best_return"] == pytest.approx(result["optimal_return"], abs=1e-9)
    assert row["best_truncated"] == (env.ending == "eos" and ids[best][-1] != 3)
    assert row["greedy"] == world.tokenizer.decode(ids[int(greedy.argmax())])
    assert row["greedy_return"] == pytest.approx(result["greedy_return"], abs=1e-9)
    assert row["sampled"] == world.tokenizer.decode(ids[int(own.argmax())])
    assert row["sampled_of"] == 2_000
    assert row["sampled_times"] / 2_000 == pytest.approx(own.max(), abs=0.06)
    assert row["prompt"] == ""


def test_texts_stand_beside_each_other_by_prompt():
    env = dataclasses.replace(CHAIN, order=2, prompt_length=(0, 2), context_length=7)
    oracle, rows = Oracle.of(World.of(env), env), evaluate(untrained(env), env=env, episodes=64)["texts"]
    assert len({row["prompt"] for row in rows}) == len(rows) == 3
    for row in rows:
        assert row["best"] == oracle.best_text(row["prompt"]).text
        assert all(row[kind].startswith(row["prompt"]) for kind in ("best", "greedy", "sampled"))
        assert row["greedy_return"] <= row["best_return"] + 1e-9


def test_no_best_text_is_shown_where_it_is_unknown():
    env = EnvConfig(corpus=("a b", "b a", "a a", "b b"), tokenizer="word", target="reference", context_length=4)
    assert evaluate(Unigram(env), env=env, episodes=4)["texts"] is None


class Optimal(BaseAgent):
    """π* of an environment, as an agent of three methods."""

    env_steps = 0

    def __init__(self, env: EnvConfig, temperature: float) -> None:
        super().__init__(env)
        self._oracle, self._temperature = Oracle(self.world, env), temperature

    def _policy(self, observation, temperature):
        windows = np.atleast_2d(observation)
        written = (windows != 0).sum(1) - 1  # without a prompt all but <bos> is written, in a window of all tokens
        return self._oracle.optimal_policy(windows, written, temperature=temperature, horizon="episode")

    def log_probs(self, observation, action_masks=None):
        with np.errstate(divide="ignore"):
            return np.log(self._policy(observation, self._temperature))

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        assert deterministic
        return self._policy(observation, 0.0).argmax(1), state


@pytest.mark.parametrize("env", [CHAIN, ENDS])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_optimal_policy_has_no_regret_in_any_sample(env, temperature):
    agent = Optimal(env, temperature or 1.0)
    result = evaluate(agent, env=env, episodes=50, documents=5, temperature=temperature)
    assert result["regret"] == pytest.approx(0.0, abs=1e-9)
    assert result["normalized_score"] == pytest.approx(1.0, abs=1e-9)
    assert result["greedy_score"] == pytest.approx(1.0, abs=1e-9)
    if temperature:
        played = play(agent, World.of(env), env, 50, 0, 1.0, temperature)
        np.testing.assert_allclose(played.regret, 0.0, atol=1e-9)


@pytest.mark.parametrize("env", [CHAIN, ENDS])
def test_the_best_trivial_policy_scores_nothing(env):
    for temperature in (0.0, 0.5, 1.0):
        scale = Scale.of(World.of(env), env, START, temperature)
        assert scale.score(scale.trivial_regret) == 0.0
        assert scale.trivial_return == scale.trivial[scale.best]
        assert scale.trivial_return == pytest.approx(max(trivial_returns(env, temperature).values()), abs=1e-12)


def test_a_unigram_policy_scores_at_most_nothing():
    result = evaluate(Unigram(ENDS), episodes=32, temperature=1.0)
    assert result["trivial_returns"]["unigram_greedy"] == pytest.approx(result["greedy_return"], abs=1e-9)
    assert result["regret"] == pytest.approx(-trivial_returns(ENDS, 1.0)["unigram_sampled"], abs=1e-9)
    assert result["normalized_score"] <= 0.0


DOCUMENTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=8, max_size=14, unique_by=tuple)


@st.composite
def worlds(draw) -> EnvConfig:
    """Of every kind that has an exact optimum: small, with prompts, truncation, repeats forbidden and rewards late."""
    kind, ending = draw(st.sampled_from(["ngram", "markov", "factored", "lines", "couplet"])), "eos"
    if kind not in ("lines", "couplet"):
        ending = draw(st.sampled_from(["eos", "fixed"]))
    longest = draw(st.integers(0, 2))
    values = {
        "ending": ending, "max_new_tokens": 3, "min_new_tokens": draw(st.integers(0, 2)) if ending == "eos" else 0,
        "reward_every": draw(st.sampled_from([1, 2, 0])), "log_prob_weight": draw(st.sampled_from([1.0, 0.5])),
        "no_repeat": draw(st.integers(0, 1)), "context_length": 6, "prompt_length": (draw(st.integers(0, longest)), longest),
        "order": draw(st.integers(1, 3)), "target_seed": draw(st.integers(0, 50)), "vocab_size": draw(st.integers(8, 10)),
    }  # fmt: skip
    if kind in ("markov", "factored"):
        return EnvConfig(target=kind, **values)
    words = {"corpus": tuple(" ".join("abcd"[i] for i in text) for text in draw(DOCUMENTS)), "tokenizer": "word"}
    if kind == "lines":
        values |= {"form": "lines?length=2", "prompt_length": (1, 1), "max_new_tokens": 4, "min_new_tokens": 0}
        values["form_bonus"] = draw(st.sampled_from([0.5, 4.0]))
    elif kind == "couplet":
        words = {"corpus": ("风月，水山", "山水，月风", "水山，风月", "月天，天水", "天水，月山"), "tokenizer": "char"}
        values |= {"form": "couplet", "prompt_length": (3, 3), "max_new_tokens": 4, "min_new_tokens": 0, "no_repeat": 0}
        values |= {"form_bonus": draw(st.sampled_from([0.5, 4.0])), "context_length": 8}
    return EnvConfig(**words, **values)


@settings(max_examples=60)
@given(
    config=worlds(),
    power=st.sampled_from([0.0, 1.0, 3.0]),
    whim=st.sampled_from([0.0, 1.0, 5.0]),
    seed=st.integers(0, 1000),
)
def test_no_policy_scores_above_one(config, power, whim, seed):
    """Random worlds; policies from even to one that almost always takes the best token under p*, or ones of a whim."""
    world, rng = World.of(config), np.random.default_rng(seed)
    episodes = Episodes(world, config, 64)
    episodes.seed_all([int(s) for s in rng.integers(0, 1 << 30, 64)])
    episodes.start(np.arange(64))
    starts = episodes.observe()
    returns, running = np.zeros(64), np.ones(64, bool)
    liked = whim * rng.normal(size=world.vocab_size)  # the same in every state
    while running.any():
        values = power * np.maximum(episodes.target_log_probs(), -1e3) + liked
        chosen = np.where(episodes.action_masks(), values + rng.gumbel(size=values.shape), -np.inf)
        rewards, terminated, truncated, _ = episodes.step(chosen.argmax(1), running)
        returns += rewards
        running &= ~(terminated | truncated)
    event(config.form or config.target)
    scale, oracle = Scale.of(world, config, starts), Oracle(world, config)
    best = oracle.optimal_return(starts)
    assert (best >= returns - 1e-9).all()
    if not config.form:  # the text that has it; a form pays beside its log-probability
        earned = [config.log_prob_weight * text.log_prob for text in oracle.best_texts(starts)]
        np.testing.assert_allclose(earned, best, atol=1e-9)
    assert scale.optimal >= scale.trivial_return - 1e-9
    score = scale.score(scale.regret(float(returns.mean())))
    assert score is None or score <= 1.0 + 1e-9
    # No soft return exceeds that of the optimum of the same temperature either.
    soft = Scale.of(world, config, starts, 0.5)
    assert soft.optimal >= max(soft.trivial.values()) - 1e-9
    assert soft.optimal >= scale.optimal - 1e-9


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"temperature must be 0 .* and finite"):
        evaluate(Unigram(CHAIN), temperature=wrong)


def test_scores_of_unknown_or_equal_returns_are_null():
    assert normalized_score(-1.0, -3.0, -1.0) == 1.0
    assert normalized_score(-4.0, -3.0, -1.0) == -0.5
    for values in ((None, -3.0, -1.0), (-1.0, None, -1.0), (-1.0, -3.0, None), (-1.0, -1.0, -1.0)):
        assert normalized_score(*values) is None


def test_the_start_distribution_is_that_of_the_environment():
    config = dataclasses.replace(CHAIN, prompt_length=(0, 2))
    world = World.of(config)
    oracle = Oracle.of(world, config)
    starts = start_distribution(oracle)
    assert starts.weights.sum() == pytest.approx(1.0)
    episodes = Episodes(world, config, 20_000)
    episodes.seed_all(list(range(20_000)))
    episodes.start(np.arange(20_000))
    drawn = np.bincount(oracle.track(episodes.observe()), minlength=oracle.target.automaton.num_states) / 20_000
    expected = np.bincount(oracle.track(starts.prefixes), starts.weights, len(drawn))
    assert np.abs(drawn - expected).max() < 0.02


def test_p_star_is_optimal_at_temperature_one_whatever_it_is():
    """A target that is no automaton: the optimum is known at τ = 1 and nowhere else."""
    config = EnvConfig(corpus=("a b", "b a", "a a", "b b"), tokenizer="word", target="reference", context_length=4)
    policy = OptimalPolicy(World.of(config), config, 1.0)
    assert policy.known
    assert not OptimalPolicy(World.of(config), config, 0.5).known
    assert Scale.of(World.of(config), config, START[:, 1:], 1.0).optimal == 0.0
    assert Scale.of(World.of(config), config, START[:, 1:], 0.5).optimal is None
