"""Exact returns of trivial policies against the tree of all texts."""

import dataclasses
import functools
import itertools
import math
from collections import Counter

import numpy as np
import pytest

from tokenlm.envs import EnvConfig, NotExact, Oracle, World
from tokenlm.envs.trivial import policy_returns, single_text, start_distribution, starts_of, unigram_weights

EOS = 3
world_of = functools.cache(World.of)


def small(**settings) -> EnvConfig:
    base = {
        "target": "markov",
        "order": 3,
        "vocab_size": 8,
        "max_new_tokens": 3,
        "context_length": 6,
        "prompt_length": (0, 2),
    }
    return EnvConfig(**{**base, **settings})


WORLDS = {
    "fixed": small(ending="fixed"),
    "eos": small(),
    "least length": small(min_new_tokens=2, order=2),
    "one prompt": small(prompt_length=(0, 0), order=2, target_seed=3),
    "no repeat": small(no_repeat=1, vocab_size=9, prompt_length=(0, 0)),
    "no repeat after a prompt": small(no_repeat=1, vocab_size=9),
    "no repeat, fixed": small(no_repeat=2, order=2, vocab_size=9, ending="fixed"),
    "half weight": small(log_prob_weight=0.5, target_seed=1),
    "words": EnvConfig(
        corpus=tuple(f"{a} {b} {c}" for a, b, c in itertools.product(("x", "y"), ("u", "v", "w"), ("x", "u"))),
        tokenizer="word", max_new_tokens=3, context_length=6, prompt_length=(1, 2), order=2,
    ),
}  # fmt: skip


def prompts_of(config: EnvConfig) -> dict[tuple[int, ...], float]:
    """Every prompt with its probability, one document at a time."""
    documents, chances = world_of(config).documents["train"], Counter()
    for number in range(len(documents)):
        ids = documents[number].tolist()
        least, most = (min(length, len(ids) - 1) for length in config.prompt_length)
        for length in range(least, most + 1):
            chances[tuple(ids[:length])] += 1 / len(documents) / (most - least + 1)
    return dict(chances)


@functools.cache
def log_probs(config: EnvConfig, tokens: tuple[int, ...], ends: bool) -> list[float]:
    """Log p* of every token after the prefix."""
    world = world_of(config)
    window = np.array([([0] * 9 + [2, *tokens])[-config.context_length :]])
    row = world.target.log_probs(world.target.track(window), np.array([ends]))[0]
    row[recent(config, tokens)] = -np.inf
    return (row - np.logaddexp.reduce(row)).tolist()


def recent(config: EnvConfig, tokens: tuple[int, ...]) -> list[int]:
    """The tokens that are not valid now."""
    return list(tokens[-config.no_repeat :]) if config.no_repeat else []


def tree_return(config: EnvConfig, prompt: tuple[int, ...], policy, temperature: float) -> float:
    """E[Σ r] + τ·entropy of `policy`, which maps (written tokens, valid actions) to probabilities, by the tree."""
    every = np.flatnonzero(world_of(config).valid).tolist()

    def walk(written: tuple[int, ...]) -> float:
        if len(written) == config.max_new_tokens or (written and written[-1] == EOS):
            return 0.0
        ends = config.ending == "eos" and len(written) >= config.min_new_tokens
        row = log_probs(config, (*prompt, *written), ends)
        banned = recent(config, (*prompt, *written))
        chances = policy(written, [a for a in every if (ends or a != EOS) and a not in banned])
        return sum(
            c * (config.log_prob_weight * row[a] - temperature * math.log(c) + walk((*written, a)))
            for a, c in chances.items()
        )

    return walk(())


def by_weight(weights):
    def policy(written, valid):
        total = sum(weights[a] for a in valid)
        return {a: weights[a] / total for a in valid}

    return policy


def writing(text):
    return lambda written, valid: {text[len(written)]: 1.0}


def texts_of(config: EnvConfig) -> list[tuple[int, ...]]:
    words, ends = world_of(config).words.tolist(), config.ending == "eos"
    whole = list(itertools.product(words, repeat=config.max_new_tokens))
    for length in range(config.min_new_tokens, config.max_new_tokens) if ends else ():
        whole += [(*text, EOS) for text in itertools.product(words, repeat=length)]
    return whole


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@pytest.mark.parametrize("name", WORLDS)
def test_every_trivial_policy_by_the_tree(name, temperature):
    config = WORLDS[name]
    world, prompts = world_of(config), prompts_of(config)

    def mean(policy) -> float:
        return sum(chance * tree_return(config, p, policy, temperature) for p, chance in prompts.items())

    counts = Counter(world.documents["train"].tokens.tolist())
    weights = {int(w): counts[int(w)] + 1.0 for w in world.words} | {EOS: len(world.documents["train"]) + 1.0}
    words, ends, least = world.words.tolist(), config.ending == "eos", config.min_new_tokens
    constants = [[w] * config.max_new_tokens for w in words] + ([[EOS]] if ends and not least else [])
    expected = {
        "random": mean(by_weight(dict.fromkeys([*words, EOS], 1.0))),
        "constant": max(mean(writing(text)) for text in constants),
        "unigram_sampled": mean(by_weight(weights)),
        "unigram_greedy": mean(lambda written, valid: {max(valid, key=weights.get): 1.0}),
    }
    if ends:
        expected["constant_eos"] = max(mean(writing([w] * max(1, least) + [EOS])) for w in words)
    if len(prompts) > 1:
        expected["same_text"] = max(mean(writing(text)) for text in texts_of(config))
    expected = {policy: value for policy, value in expected.items() if value > -math.inf}
    oracle = Oracle(world, config)
    found = policy_returns(oracle, start_distribution(oracle), temperature, width=1_000)
    assert found.keys() == expected.keys()
    for policy, value in expected.items():
        assert found[policy] == pytest.approx(value, abs=1e-12), policy
    np.testing.assert_allclose(unigram_weights(world)[[*words, EOS]], [weights[w] for w in [*words, EOS]])


def test_a_narrow_search_finds_no_better_text_and_states_its_exact_value():
    config = WORLDS["fixed"]
    oracle = Oracle(world_of(config), config)
    starts = start_distribution(oracle)
    best = {width: single_text(oracle, starts, width) for width in (1, 4, 1_000)}
    assert best[1][0] <= best[4][0] <= best[1_000][0]
    for value, text in best.values():
        mean = sum(c * tree_return(config, p, writing(text), 0.0) for p, c in prompts_of(config).items())
        assert value == pytest.approx(mean, abs=1e-12)


def test_the_returns_on_given_prompts_are_those_of_these_prompts():
    config = WORLDS["eos"]
    oracle = Oracle(world_of(config), config)
    windows = np.array([[0, 0, 0, 0, 2, 5], [0, 0, 0, 2, 5, 6], [0, 0, 0, 2, 5, 6]])
    found = policy_returns(oracle, starts_of(oracle, windows))["random"]
    assert found == pytest.approx(oracle.expected_return("random", windows).mean(), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_target_itself_by_the_tree(temperature):
    config = WORLDS["eos"]
    world = world_of(config)
    oracle = Oracle(world, config)
    window = np.array([[0, 0, 0, 0, 0, 2]])

    def target(written, valid):
        row = log_probs(config, written, True)
        return {a: math.exp(row[a]) for a in valid}

    value = tree_return(config, (), target, temperature)
    assert oracle.expected_return("target", window, temperature)[0] == pytest.approx(value, abs=1e-12)
    if temperature == 1.0:
        assert value == pytest.approx(0.0, abs=1e-12)


def test_what_is_no_automaton_is_refused():
    config = dataclasses.replace(WORLDS["eos"], transition="teacher")
    oracle = Oracle(world_of(config), config)
    with pytest.raises(NotExact, match="contextual bandit"):
        policy_returns(oracle, start_distribution(oracle))
    config = EnvConfig(corpus=("a b", "b a", "a a", "b b"), tokenizer="word", target="reference", context_length=4)
    oracle = Oracle(world_of(config), config)
    with pytest.raises(NotExact, match="looks at the last few tokens"):
        policy_returns(oracle, starts_of(oracle, np.zeros((1, 4), int)))
