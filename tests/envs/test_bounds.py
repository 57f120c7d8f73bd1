"""The bounds against the exact optimum and against the enumeration of every text."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenlm.envs import EnvConfig, Episodes, NotExact, Oracle, World, bounds
from tokenlm.envs.bounds import beam_search, relaxed_optimum
from tokenlm.envs.targets import ConditionedTarget, MarkovTarget, NGramTarget

BOS, EOS = 2, 3
ROUNDING = 1e-12
WIDE = 10_000
RULES = [
    {"ending": "eos"},
    {"ending": "eos", "min_new_tokens": 1},
    {"ending": "eos", "min_new_tokens": 3},
    {"ending": "fixed"},
]


def markov(**settings) -> EnvConfig:
    base = {"target": "markov", "order": 3, "vocab_size": 9, "max_new_tokens": 5, "context_length": 4}
    return EnvConfig(**{**base, "prompt_length": (0, 0), **settings})


def with_target(target: MarkovTarget | NGramTarget, config: EnvConfig) -> World:
    """The world of `config`, which gives the number of tokens, with another p*."""
    world = copy.copy(World.of(config))
    world.target = ConditionedTarget(target, world.valid)
    return world


def windows(prompts, length: int = 4) -> np.ndarray:
    return np.array([([0] * length + [BOS, *p])[-length:] for p in prompts])


def all_prompts(vocab_size: int) -> np.ndarray:
    words = range(5, vocab_size)
    return windows([p for n in range(3) for p in itertools.product(words, repeat=n)])


def log_prob_of(world: World, config: EnvConfig, prefix: np.ndarray, text) -> float:
    """log p*(text | prefix) from p* of whole prefixes, conditioned on the valid tokens by hand; -inf if not a text."""
    ends = config.ending == "eos"
    if not text or len(text) > config.max_new_tokens or EOS in text[:-1]:
        return -math.inf
    if text[-1] == EOS and not ends:
        return -math.inf
    if text[-1] != EOS and len(text) < config.max_new_tokens:
        return -math.inf
    total, tokens = 0.0, list(prefix)
    for count, token in enumerate(text):
        valid = np.arange(world.vocab_size) >= 5
        valid[EOS] = ends and count >= config.min_new_tokens
        row = np.exp(world.target.target.log_probs(np.array([tokens]))[0])
        if not valid[token] or row[token] == 0.0:
            return -math.inf
        total += math.log(row[token] / row[valid].sum())
        tokens.append(token)
    return total


def enumerated(world: World, config: EnvConfig, prefix: np.ndarray) -> float:
    """The log-probability of the best of all texts."""
    words, horizon = range(5, world.vocab_size), config.max_new_tokens
    texts = list(itertools.product(words, repeat=horizon))
    if config.ending == "eos":
        texts += [(*t, EOS) for n in range(horizon) for t in itertools.product(words, repeat=n)]
    return max(log_prob_of(world, config, prefix, t) for t in texts)


def check(world: World, config: EnvConfig, prefixes: np.ndarray, width: int) -> None:
    """All that must hold in any world."""
    exact = Oracle(world, config).optimal_return(prefixes)
    narrow, wide = (beam_search(world, config, prefixes, w) for w in (width, WIDE))
    upper = relaxed_optimum(world, config, prefixes)
    assert narrow.log_probs.shape == upper.shape == (len(prefixes),)
    assert narrow.log_probs.dtype == upper.dtype == np.float64
    assert (narrow.log_probs <= exact + ROUNDING).all()
    assert (exact <= upper + ROUNDING).all()
    assert (upper <= ROUNDING).all()
    np.testing.assert_allclose(wide.log_probs, exact, rtol=0, atol=ROUNDING)
    if config.order <= 2:
        np.testing.assert_allclose(upper, exact, rtol=0, atol=ROUNDING)
    for result in (narrow, wide):
        for prefix, text, log_prob in zip(prefixes, result.tokens, result.log_probs, strict=True):
            if text or np.isfinite(log_prob):
                assert log_prob == pytest.approx(log_prob_of(world, config, prefix, text), abs=ROUNDING)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_markov_lower_exact_upper(order, rules, seed):
    config = markov(order=order, target_seed=seed, **rules)
    for width in (1, 2, 5):
        check(World.of(config), config, all_prompts(9), width)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ngram_of_a_corpus_lower_exact_upper(sentences, order, rules):
    config = EnvConfig(
        corpus=sentences,
        tokenizer="word",
        order=order,
        max_new_tokens=8,
        context_length=6,
        prompt_length=(0, 2),
        **rules,
    )
    world = World.of(config)
    prompts = [[], *([w] for w in range(5, world.vocab_size)), [5, 6], [6, 5], [7, 7]]
    for width in (1, 3, 64):
        check(world, config, windows(prompts, 6), width)


@settings(max_examples=60)
@given(
    documents=st.lists(st.lists(st.integers(5, 9), max_size=6), min_size=1, max_size=8),
    order=st.integers(1, 4),
    rules=st.sampled_from(RULES),
    horizon=st.integers(4, 7),
    width=st.integers(1, 6),
    prompts=st.lists(st.lists(st.integers(5, 10), max_size=3), min_size=1, max_size=4),
)
# Word 10 is in no document: the state behind it knows nothing, though any word may stand before it.
@example(documents=[[5], [5, 6]], order=3, rules=RULES[3], horizon=4, width=2, prompts=[[10], []])
@example(documents=[[]], order=3, rules=RULES[3], horizon=4, width=1, prompts=[[]])
def test_ngram_of_any_documents_lower_exact_upper(documents, order, rules, horizon, width, prompts):
    config = markov(vocab_size=11, order=order, max_new_tokens=horizon, **rules)
    world = with_target(NGramTarget.fit(documents, 11, order), config)
    check(world, config, windows(prompts), width)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    order=st.integers(2, 3),
    rules=st.sampled_from(RULES),
    prompt=st.lists(st.integers(5, 7), max_size=2),
)
def test_against_every_text(seed, order, rules, prompt):
    config = markov(vocab_size=8, order=order, target_seed=seed, max_new_tokens=4, **rules)
    world, prefix = World.of(config), windows([prompt])
    best = enumerated(world, config, prefix[0])
    assert beam_search(world, config, prefix, WIDE).log_probs[0] == pytest.approx(best, abs=ROUNDING)
    assert beam_search(world, config, prefix, 1).log_probs[0] <= best + ROUNDING
    assert relaxed_optimum(world, config, prefix)[0] >= best - ROUNDING


# Under "markov" every context ends with the same probability, so that the best text is the shortest one; here whether
# a text may well end after 7 depends on the word before, and so does what follows 5 and 6.
DOCUMENTS = [[5, 6, 7], [8, 6, 5, 7, 8, 5, 6, 7], [6, 7, 5, 8, 7, 6], [8, 7, 6, 6, 7]] * 3 + [[7, 8], [6, 5, 5]]


@pytest.mark.parametrize("rules", RULES)
def test_the_relaxation_is_the_optimum_over_freely_chosen_contexts(rules):
    config = markov(**rules)
    world, prefixes = with_target(NGramTarget.fit(DOCUMENTS, 9, 3), config), all_prompts(9)
    ends, words = config.ending == "eos", range(5, 9)

    def rows(prefix, count):
        eos_valid = np.array([ends and count >= config.min_new_tokens])
        return world.target.log_probs(world.target.track(np.array([prefix])), eos_valid)[0]

    def best(row, count):  # the value of a step with this row after `count` tokens
        later = {w: after(w, count + 1) for w in words}
        return max([row[w] + later[w] for w in words] + [row[EOS]])

    def after(word, count):
        if count == config.max_new_tokens:
            return 0.0
        if (word, count) not in known:
            contexts = [[0, 0, before, word] for before in range(9)]
            known[word, count] = best(np.max([rows(c, count) for c in contexts], axis=0), count)
        return known[word, count]

    known: dict[tuple[int, int], float] = {}
    expected = [best(rows(prefix, 0), 0) for prefix in prefixes]
    np.testing.assert_allclose(relaxed_optimum(world, config, prefixes), expected, rtol=0, atol=ROUNDING)
    assert (np.array(expected) > Oracle(world, config).optimal_return(prefixes) + 1e-3).any()  # it does relax


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("width", [1, 8])
def test_the_texts_earn_their_log_probability_in_the_environment(sentences, rules, width):
    config = EnvConfig(
        corpus=sentences, tokenizer="word", max_new_tokens=9, context_length=6, prompt_length=(0, 2), **rules
    )
    world = World.of(config)
    episodes = Episodes(world, config, 20)
    episodes.seed_all(list(range(20)))
    episodes.start(np.arange(20))
    result = beam_search(world, config, episodes.observe(), width)
    earned, active = np.zeros(20), np.ones(20, bool)
    for step in range(9):
        actions = np.array([text[step] if step < len(text) else 0 for text in result.tokens])
        np.testing.assert_array_equal(active, [step < len(text) for text in result.tokens])
        episodes.check(actions, active)
        rewards, terminated, truncated, _ = episodes.step(actions, active)
        earned += rewards
        assert not (truncated & ~np.array([len(text) == 9 and text[-1] != EOS for text in result.tokens])).any()
        active &= ~(terminated | truncated)
    assert not active.any()
    np.testing.assert_allclose(earned, result.log_probs, rtol=0, atol=ROUNDING)


def test_more_prefixes_and_states_than_fit_a_chunk(monkeypatch):
    config = markov(vocab_size=30, max_new_tokens=6, min_new_tokens=2)
    world, prefixes = World.of(config), all_prompts(30)
    whole = beam_search(world, config, prefixes, 20), relaxed_optimum(world, config, prefixes)
    for entries in (1, 100, 7 * 30, 1500):
        monkeypatch.setattr(bounds, "_CHUNK", entries)
        some = prefixes[::29]
        beam = beam_search(world, config, some, 20)
        np.testing.assert_array_equal(beam.log_probs, whole[0].log_probs[::29])
        assert beam.tokens == whole[0].tokens[::29]
        np.testing.assert_array_equal(relaxed_optimum(world, config, some), whole[1][::29])


def plain_beam(world: World, config: EnvConfig, prefix: np.ndarray, width: int, merge: bool) -> tuple[float, list[int]]:
    """Beam search of exactly max_new_tokens words, one text at a time."""
    automaton = world.target.automaton
    beam = [(0.0, [], int(world.target.track(prefix[None])[0]))]
    for _ in range(config.max_new_tokens):
        longer = []
        for log_prob, text, state in beam:
            row = world.target.log_probs(np.array([state]), np.array([False]))[0]
            after = automaton.next_states(np.array([state]))[0]
            longer += [(log_prob + row[w], [*text, w], int(after[w])) for w in range(5, world.vocab_size)]
        longer = sorted(longer, key=lambda c: -c[0])[: 4 * width]
        if merge:
            longer = [c for i, c in enumerate(longer) if c[2] not in [d[2] for d in longer[:i]]]
        beam = longer[:width]
    return beam[0][:2]


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_narrow_beam_keeps_the_best_text_of_each_state(width):
    merging_helped = 0
    for seed in (4, 8):  # where it matters
        config = markov(vocab_size=25, order=2, target_seed=seed, max_new_tokens=9, ending="fixed")
        world, prefixes = World.of(config), windows([[], [5], [9]])
        found = beam_search(world, config, prefixes, width)
        for prefix, log_prob, text in zip(prefixes, *found, strict=True):
            expected, words = plain_beam(world, config, prefix, width, merge=True)
            assert log_prob == pytest.approx(expected, abs=ROUNDING)
            assert text == words
            merging_helped += log_prob > plain_beam(world, config, prefix, width, merge=False)[0] + 1e-3
    assert (merging_helped > 0) == (width >= 3)


def test_the_searches_stop_when_nothing_better_can_come(sentences):
    """A limit of a million tokens would otherwise take hours."""
    short, long = (
        EnvConfig(corpus=sentences, tokenizer="word", max_new_tokens=n, context_length=6) for n in (200, 10**6)
    )
    world, prefixes = World.of(short), windows([[], [5], [6, 7]], 6)
    assert beam_search(world, long, prefixes).tokens == beam_search(world, short, prefixes).tokens
    np.testing.assert_array_equal(relaxed_optimum(world, long, prefixes), relaxed_optimum(world, short, prefixes))


def test_where_no_text_can_end_the_truncated_ones_count():
    config, fixed = markov(), markov(ending="fixed")
    world = with_target(MarkovTarget(9, order=3, eos_probability=0.0), config)
    found = beam_search(world, config, all_prompts(9))
    assert found.tokens == beam_search(world, fixed, all_prompts(9)).tokens
    assert {len(text) for text in found.tokens} == {5}
    np.testing.assert_array_equal(found.log_probs, beam_search(world, fixed, all_prompts(9)).log_probs)
    check(world, config, all_prompts(9), 2)
    with pytest.raises(NotExact, match="no text after '' ends within max_new_tokens=5"):
        Oracle(world, config).most_likely_text()


@pytest.mark.parametrize("ending", ["eos", "fixed"])
def test_one_token_episodes(ending):
    config = markov(max_new_tokens=2, min_new_tokens=0, ending=ending)
    world, one = World.of(config), markov(max_new_tokens=1, ending=ending)
    rows = world.target.log_probs(world.target.track(all_prompts(9)), np.full(21, ending == "eos"))
    best = rows.max(1)  # <eos>, or a word after which the text is truncated
    np.testing.assert_allclose(beam_search(world, one, all_prompts(9)).log_probs, best, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(relaxed_optimum(world, one, all_prompts(9)), best, rtol=0, atol=ROUNDING)


def test_no_prefixes_give_no_bounds():
    empty = np.zeros((0, 4), np.int64)
    log_probs, tokens = beam_search(World.of(markov()), markov(), empty)
    assert (log_probs.shape, tokens) == ((0,), [])
    assert relaxed_optimum(World.of(markov()), markov(), empty).shape == (0,)


def test_the_oracle_gives_both():
    config = markov()
    oracle = Oracle(World.of(config), config)
    lower, upper = oracle.bounds(all_prompts(9), width=4)
    np.testing.assert_array_equal(lower, beam_search(oracle.world, config, all_prompts(9), 4).log_probs)
    np.testing.assert_array_equal(upper, relaxed_optimum(oracle.world, config, all_prompts(9)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["markov", "ngram"])
def test_states_know_their_last_token(kind, order):
    documents = [[5, 6, 7, 5], [8, 6], [7, 7]]
    target = MarkovTarget(10, order) if kind == "markov" else NGramTarget.fit(documents, 10, order)
    states = np.arange(target.num_states)
    assert target.last_tokens(states[:1]).tolist() == [-1]
    words = np.arange(5, 10)
    after = target.last_tokens(target.next_states(states)[:, words].ravel()).reshape(-1, 5)
    expected = np.full(5, -1) if order == 1 else words.copy()
    if kind == "ngram":
        expected[words == 9] = -1  # in no document
    np.testing.assert_array_equal(after, np.broadcast_to(expected, after.shape))
    as_tensor = target.last_tokens(torch.from_numpy(states))
    assert as_tensor.dtype == torch.int64
    assert target.last_tokens(states).dtype == np.int64
    np.testing.assert_array_equal(as_tensor.numpy(), target.last_tokens(states))


@pytest.mark.parametrize("bound", [beam_search, relaxed_optimum])
def test_what_cannot_be_bounded_is_refused(bound, sentences):
    config = EnvConfig(corpus=sentences, tokenizer="word", target="reference")
    with pytest.raises(ValueError, match="'reference'"):
        bound(World.of(config), config, windows([[]]))
    teacher = markov(transition="teacher")
    with pytest.raises(ValueError, match="teacher"):
        bound(World.of(teacher), teacher, windows([[]]))
    with pytest.raises(ValueError, match=r"shape \(B, L\), not \(4,\)"):
        bound(World.of(markov()), markov(), windows([[]])[0])


def test_a_beam_has_a_width():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        beam_search(World.of(markov()), markov(), windows([[]]), width=0)


def test_a_relaxation_too_large_to_hold_is_refused(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_TABLE", 80)
    with pytest.raises(ValueError, match=r"table of 81 .* at most 80 "):
        relaxed_optimum(World.of(markov()), markov(), windows([[]]))
