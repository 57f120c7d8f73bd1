"""What is told a p* without states: the oracle at temperature 1, constants, beams and one text, by enumeration."""

import dataclasses

import numpy as np
import pytest

from tokenlm.agents import evaluate, play
from tokenlm.agents.evaluation.exact import every_text, exact_score
from tokenlm.agents.runs.algorithms import load, make
from tokenlm.envs import EnvConfig, NotExact, Oracle, World
from tokenlm.envs.read_texts import search_texts
from tokenlm.envs.trivial import single_text, start_distribution

FIXED = EnvConfig(
    target="teacher", vocab_size=8, target_seed=100, max_new_tokens=4, context_length=5, ending="fixed",
    prompt_length=(0, 0),
)  # fmt: skip
ENDS = dataclasses.replace(FIXED, ending="eos", min_new_tokens=1)
PROMPTS = dataclasses.replace(FIXED, max_new_tokens=3, context_length=8, prompt_length=(0, 2))
WORLDS = {
    "fixed": FIXED,
    "eos": ENDS,
    "late": dataclasses.replace(FIXED, reward_every=0),
    "half weight": dataclasses.replace(ENDS, log_prob_weight=0.5),
    "no repeat": dataclasses.replace(ENDS, no_repeat=1),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_oracle_writes_p_star_where_that_is_the_optimum(name, tmp_path):
    env = WORLDS[name]
    agent = make("oracle", env, 0, temperature=env.log_prob_weight)
    played = play(agent, World.of(env), env, 32, 0, agent.temperature, agent.temperature)
    np.testing.assert_allclose(played.regret, 0.0, atol=1e-10)
    if env.pays_log_likelihood:
        assert exact_score(agent).kl_to_target == pytest.approx(0.0, abs=1e-10)
    agent.save(tmp_path / "saved")
    again = load("oracle", tmp_path / "saved", env)
    np.testing.assert_allclose(again.log_probs(played.prefixes), agent.log_probs(played.prefixes))


def test_the_oracle_has_the_score_1():
    agent = make("oracle", dataclasses.replace(ENDS, prompt_length=(0, 1), context_length=6), 0, temperature=1.0)
    result = evaluate(agent, episodes=16, documents=4)
    assert result["regret"] == pytest.approx(0.0, abs=1e-10)
    assert result["normalized_score"] == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize(
    ("env", "temperature", "why"),
    [
        (FIXED, 0.0, r"not 'teacher'.*; at temperature 1 p\* itself is the optimum"),
        (dataclasses.replace(FIXED, context_length=3), 1.0, "to write p. the oracle needs context_length 4"),
        (EnvConfig(target="markov", vocab_size=8, transition="teacher"), 1.0, "contextual bandit"),
        (EnvConfig(corpus=("a b", "b a", "a a"), tokenizer="word", target="reference"), 1.0, "which no policy sees"),
    ],
)
def test_what_the_oracle_cannot_know_is_said_in_a_sentence(env, temperature, why):
    with pytest.raises(NotExact, match=why):
        make("oracle", env, 0, temperature=temperature)


@pytest.mark.parametrize("name", WORLDS)
def test_constant_and_beam_by_enumeration(name):
    env = WORLDS[name]
    world, texts = World.of(env), every_text(World.of(env), env)
    greedy = {
        kind: play(make(kind, env, 0, **settings), world, env, 3, 0, 0.0).returns
        for kind, settings in {"constant": {}, "beam": {"beams": 200}, "same-text": {"beams": 200}}.items()
        if kind != "constant" or not env.no_repeat
    }
    highest = env.log_prob_weight * texts.log_target.max()
    np.testing.assert_allclose(greedy["beam"], highest, atol=1e-9)
    np.testing.assert_allclose(greedy["same-text"], highest, atol=1e-9)  # there is one prompt
    words = [tokens[(tokens != 0) & (tokens != 3)] for tokens in texts.tokens]
    ended = (texts.tokens == 3).any(1)
    same = np.array([len(set(own.tolist())) == 1 for own in words])
    length = np.array([len(own) for own in words])
    constant = same & np.where(ended, length == max(1, env.min_new_tokens), length == env.max_new_tokens)
    if "constant" in greedy:
        best = env.log_prob_weight * texts.log_target[constant].max()
        np.testing.assert_allclose(greedy["constant"], best, atol=1e-9)


def test_one_text_for_all_prompts_by_enumeration():
    world, oracle = World.of(PROMPTS), Oracle.of(World.of(PROMPTS), PROMPTS)
    starts, total = start_distribution(oracle), 0.0
    for window, weight in zip(starts.prefixes, starts.weights, strict=True):
        total = total + weight * every_text(world, PROMPTS, [int(t) for t in window if t > 2]).log_target
    text = make("same-text", PROMPTS, 0, beams=100)._text
    assert text.tolist() == every_text(world, PROMPTS).tokens[total.argmax()].tolist()
    with pytest.raises(NotExact, match="reads more than 4,096 texts at every token"):
        make("same-text", PROMPTS, 0, beams=1_000)


@pytest.mark.parametrize("settings", [{}, {"ending": "fixed"}, {"no_repeat": 1, "min_new_tokens": 1}])
def test_a_search_that_reads_finds_what_a_search_by_states_finds(settings):
    env = EnvConfig(
        target="markov", order=2, vocab_size=9, max_new_tokens=3, context_length=8, prompt_length=(0, 2), **settings
    )
    oracle = Oracle.of(World.of(env), env)
    starts = start_distribution(oracle)
    by_states, read = single_text(oracle, starts, 100), search_texts(oracle.world, env, starts, 100)
    assert read[0] == pytest.approx(by_states[0], abs=1e-12)
    assert read[1] == by_states[1]
