"""The oracle against the enumeration of every text."""

import copy
import itertools
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, Episodes, NotExact, Oracle, World, bounds
from tokenlm.envs.targets import ConditionedTarget, NGramTarget

EOS = 3
START = np.array([0, 0, 0, 0, 2])


def small(**settings) -> EnvConfig:
    base = {
        "target": "markov",
        "order": 3,
        "vocab_size": 8,
        "max_new_tokens": 4,
        "context_length": 5,
        "prompt_length": (0, 0),
    }
    return EnvConfig(**{**base, **settings})


def oracle_of(config: EnvConfig) -> Oracle:
    return Oracle(World.of(config), config)


def every_text(config: EnvConfig, world: World | None = None) -> dict[tuple[int, ...], list[float]]:
    """The log-probability of each token of each text that an episode can write, truncated ones too, by the tree."""
    world = world or World.of(config)
    found: dict[tuple[int, ...], list[float]] = {}

    def walk(tokens: tuple[int, ...], log_probs: list[float]) -> None:
        if (tokens and tokens[-1] == EOS) or len(tokens) == config.max_new_tokens:
            found[tokens] = log_probs
            return
        prefix = np.array([([0] * 9 + [2, *tokens])[-config.context_length :]])
        eos_valid = np.array([config.ending == "eos" and len(tokens) >= config.min_new_tokens])
        row = world.target.log_probs(world.target.track(prefix), eos_valid)[0]
        for token in np.flatnonzero(np.isfinite(row)):
            walk((*tokens, int(token)), [*log_probs, float(row[token])])

    walk((), [])
    return found


def complete(texts: dict[tuple[int, ...], list[float]], config: EnvConfig) -> dict[tuple[int, ...], list[float]]:
    """Those of the texts that end."""
    return {tokens: v for tokens, v in texts.items() if config.ending == "fixed" or tokens[-1] == EOS}


def paid(config: EnvConfig, log_probs: list[float]) -> list[float]:
    """Rewards as the environment pays them."""
    rewards, owed = [], 0.0
    for count, log_prob in enumerate(log_probs, 1):
        owed += log_prob
        due = count == len(log_probs) or (config.reward_every and count % config.reward_every == 0)
        rewards.append(owed if due else 0.0)
        owed = 0.0 if due else owed
    return rewards


def brute_force(
    config: EnvConfig, temperature: float, gamma: float, horizon: str = "episode", world: World | None = None
) -> dict[tuple[int, ...], float]:
    """V* of every prefix by the soft Bellman equation on the tree; 0 after the last reward."""
    found = every_text(config, world)
    found = complete(found, config) if horizon == "complete" else found
    texts = {tokens: paid(config, log_probs) for tokens, log_probs in found.items()}
    values = dict.fromkeys(texts, 0.0)
    for length in reversed(range(config.max_new_tokens)):
        q_values: dict[tuple[int, ...], dict[int, float]] = {}
        for tokens, rewards in texts.items():
            if len(tokens) > length:
                after = values[tokens[: length + 1]]
                q_values.setdefault(tokens[:length], {})[tokens[length]] = rewards[length] + gamma * after
        for prefix, actions in q_values.items():
            q = np.array(list(actions.values()))
            top = q.max()
            soft = temperature * math.log(np.exp((q - top) / temperature).sum()) if temperature else 0.0
            values[prefix] = top + soft
    return values


CASES = [
    small(ending="fixed"),
    small(ending="fixed", order=2, target_seed=5),
    small(ending="fixed", order=1),
    small(),
    small(min_new_tokens=2),
    small(order=2, min_new_tokens=1, target_seed=3),
]


@pytest.mark.parametrize("config", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("horizon", ["episode", "complete"])
def test_values_and_q_values_of_every_prefix(config, temperature, gamma, horizon):
    oracle, values = oracle_of(config), brute_force(config, temperature, gamma, horizon)
    for prefix in [p for p in values if len(p) < config.max_new_tokens and EOS not in p]:
        window = np.array(([0] * 9 + [2, *prefix])[-5:])
        how = {"temperature": temperature, "gamma": gamma, "horizon": horizon}
        value = oracle.optimal_value(window, len(prefix), **how)
        q_values = oracle.optimal_q(window, len(prefix), **how)
        assert value == pytest.approx(values[prefix], abs=1e-12)
        for action in np.flatnonzero(np.isfinite(q_values)):
            assert (*prefix, int(action)) in values
        policy = oracle.optimal_policy(window, len(prefix), **how)
        assert policy.sum() == pytest.approx(1.0)
        assert policy[~np.isfinite(q_values)].sum() == 0.0


@pytest.mark.parametrize("every", [0, 2, 3])
@pytest.mark.parametrize(("temperature", "gamma"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 0.8), (0.0, 0.8)])
def test_the_reward_dial_shifts_values_by_what_is_unpaid(every, temperature, gamma):
    config = small(ending="fixed", reward_every=every)
    oracle, values, texts = oracle_of(config), brute_force(config, temperature, gamma), every_text(config)
    for prefix in [p for p in values if len(p) < 4]:
        log_probs = next(v for k, v in texts.items() if k[: len(prefix)] == prefix)[: len(prefix)]
        done = len(prefix) // every * every if every else 0
        window = np.array(([0] * 9 + [2, *prefix])[-5:])
        value = oracle.optimal_value(
            window, len(prefix), temperature=temperature, gamma=gamma, unpaid=sum(log_probs[done:])
        )
        assert value == pytest.approx(values[prefix], abs=1e-12)


def test_many_prefixes_at_once_equal_one_at_a_time():
    oracle = oracle_of(small(ending="fixed"))
    windows = np.array([[0, 0, 0, 0, 2], [0, 0, 0, 2, 6], [0, 2, 6, 7, 5]])
    together = oracle.optimal_q(windows, [0, 1, 3], temperature=0.5)
    for row, written in enumerate([0, 1, 3]):
        np.testing.assert_array_equal(together[row], oracle.optimal_q(windows[row], written, temperature=0.5))


def stationary_by_linear_solve(config: EnvConfig, temperature: float) -> np.ndarray:
    """exp(V/τ) solves (I - A) z = b at γ = 1: A the transition weights p^{1/τ}, b those of <eos>."""
    world = World.of(config)
    target, states = world.target, np.arange(world.target.automaton.num_states)
    rows = target.log_probs(states, np.ones(len(states), bool))
    following = target.automaton.next_states(states)
    matrix = np.eye(len(states))
    for action in np.flatnonzero(np.isfinite(rows[0])):
        if action != EOS:
            np.subtract.at(matrix, (states, following[:, action]), np.exp(rows[:, action] / temperature))
    return temperature * np.log(np.linalg.solve(matrix, np.exp(rows[:, EOS] / temperature)))


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 1.02])
@pytest.mark.parametrize("max_new_tokens", [4, 50])
def test_unlimited_values_solve_the_linear_system(temperature, max_new_tokens):
    config = small(max_new_tokens=max_new_tokens)
    expected = stationary_by_linear_solve(config, temperature)
    windows = np.array([START, [0, 2, 5, 6, 7], [0, 0, 0, 2, 5]])
    values = oracle_of(config).optimal_value(windows, temperature=temperature)
    states = World.of(config).target.track(windows)
    np.testing.assert_allclose(values, expected[states], atol=1e-9)


def test_unlimited_values_at_temperature_zero_are_those_of_a_long_episode():
    short, long = small(max_new_tokens=4), small(max_new_tokens=40)
    # The same chain: <eos> has probability 1 / max_new_tokens, so the long one is asked for both.
    unlimited = oracle_of(long).optimal_value(START, temperature=0.0)
    assert unlimited == pytest.approx(oracle_of(long).optimal_return(START), abs=1e-12)
    assert oracle_of(short).optimal_value(START, temperature=0.0) >= oracle_of(short).optimal_return(START)


@pytest.mark.parametrize("gamma", [0.5, 0.95])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_unlimited_discounted_values_satisfy_their_bellman_equation(gamma, temperature):
    config = small(min_new_tokens=1, order=2)
    oracle, world = oracle_of(config), World.of(config)
    for written in (0, 1, 5):
        q_values = oracle.optimal_q(START, written, temperature=temperature, gamma=gamma)
        rows = world.target.log_probs(world.target.track(START[None]), np.array([written >= 1]))[0]
        for action in np.flatnonzero(np.isfinite(rows)):
            after = oracle.optimal_value(
                np.append(START[1:], action), written + 1, temperature=temperature, gamma=gamma
            )
            later = 0.0 if action == EOS else gamma * after
            assert q_values[action] == pytest.approx(rows[action] + later, abs=1e-9)


def test_values_that_diverge_are_refused():
    with pytest.raises(ValueError, match="no finite fixed point"):
        oracle_of(small(max_new_tokens=30)).optimal_value(START, temperature=3.0)


@pytest.mark.parametrize("config", [small(ending="fixed"), small(min_new_tokens=1)], ids=["fixed", "eos"])
def test_the_most_likely_text(config):
    texts = {tokens: sum(log_probs) for tokens, log_probs in complete(every_text(config), config).items()}
    best = oracle_of(config).most_likely_text()
    assert tuple(best.tokens) == max(texts, key=texts.get)
    assert best.log_prob == pytest.approx(max(texts.values()), abs=1e-12)


@pytest.mark.parametrize("config", CASES, ids=range(len(CASES)))
def test_the_best_text_by_enumeration(config):
    """Truncated texts count: the text that attains J*, whether it ends or not."""
    texts = {tokens: sum(log_probs) for tokens, log_probs in every_text(config).items()}
    oracle = oracle_of(config)
    best = oracle.best_text()
    assert tuple(best.tokens) == max(texts, key=texts.get)
    assert best.log_prob == pytest.approx(max(texts.values()), abs=1e-12)
    assert best.log_prob == pytest.approx(oracle.optimal_return(START[None])[0], abs=1e-12)
    assert oracle.best_texts(np.array([START, START])) == [best, best]


def test_the_best_text_after_every_prompt_is_what_the_environment_pays_most_for():
    """After prompts of several lengths, some cut by the window: no other text earns more."""
    config = small(order=2, prompt_length=(0, 6), target_seed=2, log_prob_weight=0.5)
    oracle, words = oracle_of(config), [int(w) for w in World.of(config).words]
    texts = [list(text) for n in range(5) for text in itertools.product(words, repeat=n)]
    texts = [text if len(text) == config.max_new_tokens else [*text, EOS] for text in texts]
    for prompt in ([], [7], [5, 6, 7, 5, 6, 7]):
        episodes = Episodes(oracle.world, config, len(texts))
        episodes.start_from_prompts(np.arange(len(texts)), [prompt] * len(texts), None)
        first, returns, running = episodes.observe()[:1], np.zeros(len(texts)), np.ones(len(texts), bool)
        for step in range(config.max_new_tokens):
            actions = np.array([text[step] if step < len(text) else words[0] for text in texts])
            rewards, terminated, truncated, _ = episodes.step(actions, running)
            returns += rewards
            running &= ~(terminated | truncated)
        [best] = oracle.best_texts(first)
        assert returns[texts.index(best.tokens)] == pytest.approx(returns.max(), abs=1e-12)
        assert 0.5 * best.log_prob == pytest.approx(returns.max(), abs=1e-12)


@pytest.mark.parametrize("config", [small(ending="fixed"), small()], ids=["fixed", "eos"])
def test_power_samples_have_the_right_distribution_over_whole_texts(config):
    texts = complete(every_text(config), config)
    weights = np.exp(np.array([sum(v) for v in texts.values()]) / 0.5)
    expected = dict(zip(texts, weights / weights.sum(), strict=True))
    count = 40_000
    samples = oracle_of(config).sample_power(temperature=0.5, count=count, seed=1)
    counted: dict[tuple[int, ...], int] = {}
    for sample in samples:
        counted[tuple(sample.tokens)] = counted.get(tuple(sample.tokens), 0) + 1
        assert sample.log_prob == pytest.approx(sum(texts[tuple(sample.tokens)]), abs=1e-12)
    assert set(counted) <= set(expected)
    for tokens, probability in expected.items():
        error = math.sqrt(count * probability * (1 - probability))
        assert abs(counted.get(tokens, 0) - count * probability) <= 5 * error + 3


@pytest.mark.parametrize("config", [small(ending="fixed"), small(min_new_tokens=1, max_new_tokens=3)])
def test_expected_returns_by_enumeration(config):
    # Walk the tree with the ending "fixed" trick undone: truncated texts count with what they earned.
    world, oracle = World.of(config), oracle_of(config)

    def walk(tokens: tuple[int, ...], policy: str) -> float:
        if len(tokens) == config.max_new_tokens or (tokens and tokens[-1] == EOS):
            return 0.0
        prefix = np.array([([0] * 9 + [2, *tokens])[-5:]])
        eos_valid = np.array([config.ending == "eos" and len(tokens) >= config.min_new_tokens])
        row = world.target.log_probs(world.target.track(prefix), eos_valid)[0]
        actions = np.flatnonzero(np.isfinite(row))
        chance = np.exp(row[actions]) if policy == "target" else np.full(len(actions), 1 / len(actions))
        return sum(c * (row[a] + walk((*tokens, int(a)), policy)) for a, c in zip(actions, chance, strict=True))

    for policy in ("random", "target"):
        assert oracle.expected_return(policy, START) == pytest.approx(walk((), policy), abs=1e-12)


def test_ngram_targets_too(sentences):
    config = EnvConfig(
        corpus=tuple(sentences[:20]),
        tokenizer="word",
        order=2,
        max_new_tokens=4,
        context_length=6,
        prompt_length=(0, 0),
    )
    oracle = oracle_of(config)
    texts = every_text(config)
    best = oracle.most_likely_text()
    assert best.log_prob == pytest.approx(max(map(sum, complete(texts, config).values())), abs=1e-12)
    highest = max(map(sum, texts.values()))
    assert oracle.optimal_return(np.array([[0] * 5 + [2]]))[0] == pytest.approx(highest, abs=1e-12)
    assert oracle.optimal_value(np.array([0] * 5 + [2]), temperature=1.0) == pytest.approx(0.0, abs=1e-12)
    assert best.text


def test_the_environment_answers_for_its_present_state():
    env = gym.make("TokenLM-Tiny-v0", reward_every=0)
    observation, _ = env.reset(seed=0)
    total = 0.0
    for step in range(4):
        q_values = env.unwrapped.optimal_q(temperature=0.0)
        value = env.unwrapped.oracle.optimal_value(observation, step, temperature=0.0, unpaid=total)
        assert q_values.max() == pytest.approx(value, abs=1e-12)
        observation, reward, _, _, info = env.step(int(q_values.argmax()))
        total += info["log_prob"]
    assert reward == pytest.approx(env.unwrapped.oracle.most_likely_text().log_prob, abs=1e-12)


def test_every_registered_id_has_its_optimum():
    optima = {
        name: gym.make(name).unwrapped.oracle.is_exact
        for name in ("TokenLM-v0", "TokenLM-Sparse-v0", "TokenLM-Markov-v0", "TokenLM-Tiny-v0")
    }
    assert optima == {
        "TokenLM-v0": True, "TokenLM-Sparse-v0": True, "TokenLM-Markov-v0": True, "TokenLM-Tiny-v0": True,
    }  # fmt: skip


def test_copies_and_pickles_leave_the_tables_behind():
    oracle = oracle_of(small())
    value = oracle.optimal_value(START, temperature=0.5)
    assert copy.deepcopy(oracle) is oracle
    data = pickle.dumps(Oracle(oracle.world, oracle.config))
    assert len(pickle.dumps(oracle)) == len(data)
    assert pickle.loads(data).optimal_value(START, temperature=0.5) == value


def test_what_cannot_be_exact_says_so():
    corpus = ("a b", "b a", "a a", "b b", "b b a")
    reference = oracle_of(EnvConfig(corpus=corpus, tokenizer="word", target="reference", context_length=4))
    with pytest.raises(NotExact, match="looks at the last few tokens"):
        reference.optimal_value(np.zeros(4, int))
    with pytest.raises(NotExact, match="contextual bandit"):
        oracle_of(small(transition="teacher")).optimal_value(START)
    assert oracle_of(small(transition="teacher")).optimal_value(START, gamma=0.0) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(NotExact, match="still unpaid"):
        oracle_of(small(reward_every=0)).optimal_value(START, gamma=0.9)
    with pytest.raises(ValueError, match="must not be negative"):
        oracle_of(small()).optimal_value(START, temperature=-1.0)
    with pytest.raises(ValueError, match="horizon 'ever' is unknown"):
        oracle_of(small()).optimal_value(START, horizon="ever")
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="above 0"):
            oracle_of(small()).sample_power(temperature=wrong)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="must not be negative or infinite"):
            oracle_of(small()).optimal_value(START, temperature=wrong)
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        oracle_of(small()).sample_power(count=0)


@pytest.mark.parametrize("temperature", [1e-308, 1e-38, 1e-12])
def test_a_tiny_temperature_is_almost_zero(temperature):
    oracle = oracle_of(small(ending="fixed"))
    value, best = (oracle.optimal_value(START, temperature=t) for t in (temperature, 0.0))
    assert value == pytest.approx(best, abs=1e-9)
    policy = oracle.optimal_policy(START, temperature=temperature)
    np.testing.assert_array_equal(policy, oracle.optimal_policy(START, temperature=0.0))
    assert oracle.sample_power(temperature=temperature)[0].tokens == oracle.most_likely_text().tokens


DOCUMENTS = st.lists(st.lists(st.integers(5, 8), max_size=6), min_size=1, max_size=6)


@settings(max_examples=60)
@given(
    documents=DOCUMENTS,
    order=st.integers(1, 3),
    horizon=st.integers(1, 4),
    least=st.integers(0, 2),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    every=st.sampled_from([1, 2, 0]),
    weight=st.sampled_from([1.0, 0.5]),
)
def test_no_policy_exceeds_the_optimum_of_the_episode(documents, order, horizon, least, temperature, every, weight):
    """Random worlds with the ending "eos": every episode's return as the environment pays it, truncated ones too."""
    config = small(
        order=order, vocab_size=9, max_new_tokens=max(horizon, 2), min_new_tokens=min(least, horizon - 1),
        reward_every=every, log_prob_weight=weight,
    )  # fmt: skip
    world = copy.copy(World.of(config))
    world.target = ConditionedTarget(NGramTarget.fit(documents, 9, order), world.valid)
    texts = [list(text) for text in every_text(config, world)]
    episodes = Episodes(world, config, len(texts))
    episodes.start_from_prompts(np.arange(len(texts)), [[] for _ in texts], None)
    returns, running = np.zeros(len(texts)), np.ones(len(texts), bool)
    for step in range(config.max_new_tokens):
        actions = np.array([text[step] if step < len(text) else 5 for text in texts])
        rewards, terminated, truncated, _ = episodes.step(actions, running)
        returns += rewards
        running &= ~(terminated | truncated)
    assert not running.any()
    oracle, start = Oracle(world, config), episodes.first_observation()[:1]
    highest = returns.max()
    assert oracle.optimal_return(start)[0] == pytest.approx(highest, abs=1e-12)
    lower, upper = bounds.beam_search(world, config, start, 9).log_probs, bounds.relaxed_optimum(world, config, start)
    assert weight * lower[0] - 1e-12 <= highest <= weight * upper[0] + 1e-12
    # max over policies of E[return] + τ·entropy is τ·log Σ exp(return/τ) over all episodes.
    soft = highest
    if temperature > 0:
        soft += temperature * math.log(np.exp((returns - highest) / temperature).sum())
    value = oracle.optimal_value(start, temperature=temperature, horizon="episode")[0]
    assert value == pytest.approx(soft, abs=1e-10)
    if temperature == weight == 1.0:
        assert value == pytest.approx(0.0, abs=1e-10)


def test_a_truncated_text_can_be_the_best():
    env = gym.make("TokenLM-v0", order=2, max_new_tokens=4, context_length=24).unwrapped
    observation, _ = env.reset(options={"prompt": ""})
    earned = sum(env.step(action)[1] for action in (210, 139, 176, 6))
    best = env.oracle.optimal_return(observation[None])[0]
    assert best == pytest.approx(earned, abs=1e-9)
    assert env.oracle.most_likely_text().log_prob < best - 0.1
    assert env.oracle.best_text().tokens == [210, 139, 176, 6]
    assert env.oracle.bounds(observation[None]).lower[0] == pytest.approx(best, abs=1e-9)


def test_all_texts_are_enumerated_here():
    assert len(every_text(small(ending="fixed"))) == len(list(itertools.product("abc", repeat=4)))
