"""A form in the environment and in the oracle, against the tree of all texts."""

import dataclasses
import functools
import math
import sys
import types

import gymnasium as gym
import numpy as np
import pytest
from array_api_compat import array_namespace

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, Episodes, NotExact, Oracle, TokenLMDeviceEnv, TokenLMVectorEnv, World
from tokenlm.envs.bounds import beam_search, relaxed_optimum
from tokenlm.envs.forms import make_form
from tokenlm.envs.trivial import policy_returns, single_text, start_distribution

EOS = 3


class Sums:
    """Words whose number has the parity of place and sum; `<eos>` where the sum so far is not 1 modulo 3.

    A word that brings the sum to 0 is paid a half, `<eos>` a quarter of the place.
    """

    most_bonus = 4.0

    def __init__(self, tokenizer) -> None:
        self.size = len(tokenizer.vocabulary)

    def start(self, prefixes):
        xp = array_namespace(prefixes)
        total = prefixes[:, -1] % 3
        return xp.stack([xp.zeros_like(total), total], axis=1)

    def allowed(self, states, tokens):
        xp = array_namespace(states)
        place, total = states[:, :1], states[:, 1:2]
        words = (tokens % 2 == (place + total) % 2) | (tokens == 8)
        return xp.where(tokens == EOS, total != 1, words)

    def next(self, states, tokens):
        xp = array_namespace(states)
        return xp.stack([states[:, 0] + 1, (states[:, 1] + tokens) % 3], axis=1)

    def bonus(self, states, tokens):
        xp = array_namespace(states)
        place, total = states[:, :1], states[:, 1:2]
        words = xp.where((total + tokens) % 3 == 0, 0.5, 0.0)
        return xp.where(tokens == EOS, 0.25 * xp.astype(place, xp.float64), words)


class Broken:
    """A form that lacks `bonus`."""

    most_bonus = 0.0

    def __init__(self, tokenizer) -> None:
        pass

    start = allowed = next = None


own_forms = types.ModuleType("own_forms")
own_forms.Sums, own_forms.Broken = Sums, Broken
sys.modules["own_forms"] = own_forms

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=10, max_new_tokens=4, context_length=8, prompt_length=(0, 2),
    form="own_forms:Sums", form_bonus=3.0,
)  # fmt: skip
WORLDS = {
    "eos": CHAIN,
    "fixed": dataclasses.replace(CHAIN, ending="fixed"),
    "no repeat": dataclasses.replace(CHAIN, ending="fixed", no_repeat=1, vocab_size=11),
    "no repeat, eos, order 3": dataclasses.replace(CHAIN, no_repeat=1, order=3, min_new_tokens=1, target_seed=2),
    "half weight, late": dataclasses.replace(CHAIN, ending="fixed", log_prob_weight=0.5, reward_every=0),
    "words": EnvConfig(
        corpus=("a b c d e", "b c d a", "c a b d e", "a b", "b e c", "c d a b", "d a"), tokenizer="word", order=2,
        max_new_tokens=3, context_length=6, prompt_length=(0, 1), form="own_forms:Sums", form_bonus=1.0,
    ),
    "quatrain": EnvConfig(  # two characters of level tone, three of oblique
        corpus=("月水风不山，不月水风山。山风山月水，水月不山风。", "不月山水风，水不月山风。风山风水不，月不月山风。"),
        order=2, context_length=25, form="jueju5", form_bonus=2.0,
    ),
    "couplet": EnvConfig(
        corpus=("风月，水山", "山水，月风", "水山，风月", "月天，天水", "天水，月山"), order=2, prompt_length=(3, 3),
        max_new_tokens=4, context_length=8, form="couplet", form_bonus=1.5,
    ),
    "acrostic": EnvConfig(
        corpus=("ab c cab", "c ab cab", "cab ab", "cab c", "ab cab ab c"), tokenizer="word", order=2,
        prompt_length=(1, 1), max_new_tokens=5, context_length=8, form="lines?length=2", form_bonus=1.0,
    ),
}  # fmt: skip


@functools.cache
def tree(config: EnvConfig, prompt: tuple[int, ...]) -> dict[tuple[int, ...], tuple[float, float]]:
    """Every text with its return and its log-probability under p* over the valid actions."""
    world = World.of(dataclasses.replace(config, no_repeat=0, form=""))
    form, found = make_form(config.form, world.tokenizer), {}
    every = np.arange(world.vocab_size)[None, :]

    def walk(written: tuple[int, ...], state, total: float, log_prob: float) -> None:
        if len(written) == config.max_new_tokens or (written and written[-1] == EOS):
            found[written] = total, log_prob
            return
        prefix = window(config, *prompt, *written).tolist()
        ends = config.ending == "eos" and len(written) >= config.min_new_tokens
        row = world.target.log_probs(world.target.track(np.array([prefix])), np.array([ends]))[0]
        row[[t for t in prefix[len(prefix) - config.no_repeat :] if t != EOS]] = -np.inf
        row[~form.allowed(state, every)[0]] = -np.inf
        row -= np.logaddexp.reduce(row)
        paid = config.form_bonus * form.bonus(state, every)[0]
        for token in np.flatnonzero(row > -np.inf):
            reward = config.log_prob_weight * row[token] + paid[token]
            after = form.next(state, np.array([token]))
            walk((*written, int(token)), after, total + float(reward), log_prob + float(row[token]))

    walk((), form.start(window(config, *prompt)[None]), 0.0, 0.0)
    return found


def window(config: EnvConfig, *tokens: int):
    return np.array(([0] * config.context_length + [2, *tokens])[-config.context_length :])


def prompts_of(config: EnvConfig) -> list[tuple[int, ...]]:
    """None, and three that documents begin with."""
    documents = World.of(config).documents["train"]
    lengths = (min(config.prompt_length[1], len(documents[i]) - 1) for i in range(min(3, len(documents))))
    return [(), *{tuple(documents[i][:length].tolist()) for i, length in enumerate(lengths)}]


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_optimum_is_that_of_all_texts(name, temperature):
    config = WORLDS[name]
    oracle = Oracle(World.of(config), config)
    windows = np.stack([window(config, *p) for p in prompts_of(config)])
    found = oracle.optimal_value(windows, temperature=temperature, horizon="episode")
    np.testing.assert_allclose(oracle.optimal_value(windows, temperature=temperature), found)  # the only horizon
    for prompt, value in zip(prompts_of(config), found, strict=True):
        returns = np.array([r for r, _ in tree(config, prompt).values()])
        soft = temperature * np.logaddexp.reduce(returns / temperature) if temperature else returns.max()
        assert value == pytest.approx(soft, abs=1e-10)
    if temperature == 0.0:
        best = beam_search(oracle.world, config, windows, 200).log_probs
        np.testing.assert_allclose(config.log_prob_weight * best, found, atol=1e-12)


@pytest.mark.parametrize("name", WORLDS)
def test_action_values_are_those_of_the_texts_that_go_on(name):
    config = WORLDS[name]
    prompt = prompts_of(config)[-1]
    oracle, texts = Oracle(World.of(config), config), tree(config, prompt)
    some = sorted(
        {text[:length] for text in texts for length in range(config.max_new_tokens) if EOS not in text[:length]}
    )[::9]
    for written in some:
        q_values = oracle.optimal_q(window(config, *prompt, *written), len(written), temperature=0.7)
        before = [t for t in texts if t[: len(written)] == written and len(t) > len(written)]
        for token in range(oracle.world.vocab_size):
            after = np.array([texts[t][0] for t in before if t[len(written)] == token])
            if not len(after):
                assert q_values[token] == -np.inf
                continue
            value = oracle.optimal_value(window(config, *prompt, *written), len(written), temperature=0.7)
            share = np.logaddexp.reduce(after / 0.7) - np.logaddexp.reduce([texts[t][0] / 0.7 for t in before])
            assert (q_values[token] - value) / 0.7 == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("name", WORLDS)
def test_texts_that_the_oracle_writes(name):
    config = WORLDS[name]
    world = World.of(config)
    prompt = "月水风不山，不月水风山。" if config.form == "jueju5" else ""
    oracle, texts = Oracle(world, config), tree(config, tuple(world.tokenizer.encode(prompt)))
    whole = {t: v for t, v in texts.items() if config.ending == "fixed" or t[-1] == EOS}
    weight = config.log_prob_weight
    best = oracle.most_likely_text(prompt)
    assert whole[tuple(best.tokens)][0] == pytest.approx(max(v[0] for v in whole.values()), abs=1e-10)
    assert best.log_prob == pytest.approx(whole[tuple(best.tokens)][1], abs=1e-10)
    drawn = oracle.sample_power(prompt, temperature=0.8, count=2_000, seed=0)
    scores = {t: v[0] / weight / 0.8 for t, v in whole.items()}
    total = np.logaddexp.reduce(list(scores.values()))
    likeliest = max(scores, key=scores.get)
    share = np.mean([tuple(text.tokens) == likeliest for text in drawn])
    assert share == pytest.approx(math.exp(scores[likeliest] - total), abs=0.04)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_trivial_policies_and_p_star_by_the_tree(name, temperature):
    config = WORLDS[name]
    world = World.of(config)
    oracle = Oracle(world, config)
    documents = world.documents["train"]
    for policy in ("random", "target"):
        for prompt in prompts_of(config):
            found = oracle.expected_return(policy, window(config, *prompt)[None], temperature)[0]
            assert found == pytest.approx(policy_return(config, prompt, policy, temperature), abs=1e-9)
    if temperature > 0.0:
        return
    starts = start_distribution(oracle)
    returns = policy_returns(oracle, starts)
    value, text = single_text(oracle, starts, 300)
    chances: dict[tuple[int, ...], float] = {}
    for number in range(len(documents)):
        ids = documents[number].tolist()
        least, most = (min(length, len(ids) - 1) for length in config.prompt_length)
        for length in range(least, most + 1):
            prompt = tuple(ids[:length])
            chances[prompt] = chances.get(prompt, 0.0) + 1 / len(documents) / (most - least + 1)
    every = {t for p in chances for t in tree(config, p)}
    totals = {t: sum(c * tree(config, p).get(t, (-np.inf,))[0] for p, c in chances.items()) for t in every}
    assert config.log_prob_weight * value == pytest.approx(max(totals.values()), abs=1e-9)
    assert max(totals.values()) == -np.inf or totals[tuple(text)] == pytest.approx(max(totals.values()), abs=1e-9)
    constant = [t for t in every if len(set(t)) == 1 and (len(t) == config.max_new_tokens or t == (EOS,))]
    best = max((totals[t] for t in constant), default=-np.inf)
    assert returns.get("constant", -np.inf) == pytest.approx(best, abs=1e-9)


def policy_return(config: EnvConfig, prompt, policy: str, temperature: float) -> float:
    """E[Σ r] + τ·entropy, from the tree."""
    texts = tree(config, prompt)
    if policy == "target":
        return sum(math.exp(p) * (r - temperature * p) for r, p in texts.values())
    total = 0.0
    for text, (reward, _) in texts.items():
        log_chance = 0.0
        for length in range(len(text)):
            choices = {t[length] for t in texts if t[:length] == text[:length] and len(t) > length}
            log_chance -= math.log(len(choices))
        total += math.exp(log_chance) * (reward - temperature * log_chance)
    return total


@pytest.mark.parametrize("name", WORLDS)
def test_episodes_pay_it_and_all_environments_agree(name):
    config = dataclasses.replace(WORLDS[name], invalid_action="random")
    single = gym.make("TokenLM-v0", config=config).unwrapped
    vector = TokenLMVectorEnv(2, config, autoreset_mode="SameStep")
    device = TokenLMDeviceEnv(2, config, device="cpu")
    rng = np.random.default_rng(0)
    for seed in range(6):
        seen, _ = single.reset(seed=seed)
        seen_by_vector, _ = vector.reset(seed=seed)
        device.reset(seed=seed)
        prompt, written, total, over = tuple(i for i in seen.tolist() if i > 4), [], 0.0, False
        while not over:
            np.testing.assert_array_equal(seen, seen_by_vector[0])
            masks, rows = vector.action_masks(), vector.target_log_probs()
            np.testing.assert_array_equal(masks, device.action_masks().numpy())
            np.testing.assert_array_equal(masks[0], single.action_masks())
            np.testing.assert_allclose(np.exp(rows).sum(1), 1.0)
            np.testing.assert_array_equal(np.isfinite(rows), masks)
            np.testing.assert_allclose(device.target_log_probs().numpy(), rows, atol=1e-12)
            action = int(rng.integers(0, single.world.vocab_size))  # a wrong one is replaced
            if not written:
                copy = single.state_dict()
            seen, reward, terminated, truncated, info = single.step(action)
            seen_by_vector, rewards, *_, infos = vector.step(np.array([action, action]))
            _, more, *_ = device.step(device._rows.new_tensor(np.array([action, action])))
            over = terminated or truncated
            assert rewards[0] == pytest.approx(reward, abs=1e-12)
            assert more[0].item() == pytest.approx(reward, abs=1e-12)
            assert info["log_prob"] == pytest.approx(infos["log_prob"][0], abs=1e-12)
            assert masks[0][seen[-1]]
            written.append(int(seen[-1]))
            total += reward
        assert total == pytest.approx(
            tree(dataclasses.replace(config, invalid_action="raise"), prompt)[tuple(written)][0]
        )
    single.load_state_dict(copy)  # the form's state comes back too
    assert single._episodes._form_states[0, 0] == 0


def test_states_come_back_in_the_middle_of_a_text():
    config = WORLDS["fixed"]
    episodes, other = (Episodes(World.of(config), config, 5) for _ in range(2))
    episodes.start(np.arange(5))
    for _ in range(3):
        episodes.step(episodes.target_log_probs().argmax(1))
    other.load_state_dict(episodes.state_dict())
    np.testing.assert_array_equal(other._form_states, episodes._form_states)
    np.testing.assert_array_equal(other.action_masks(), episodes.action_masks())


def test_random_replacements_are_even_over_the_valid_actions():
    config = dataclasses.replace(WORLDS["eos"], invalid_action="random", prompt_length=(0, 0))
    episodes = Episodes(World.of(config), config, 20_000)
    episodes.seed_all(list(range(20_000)))
    episodes.start_from_prompts(np.arange(20_000), [[6]] * 20_000, None)
    masks = episodes.action_masks()[0]
    episodes.step(np.full(20_000, 5))
    counted = np.bincount(episodes.history[:, config.context_length], minlength=10) / 20_000
    assert not counted[~masks].any()
    assert np.abs(counted[masks] - 1 / masks.sum()).max() < 0.02


def test_what_cannot_work_is_said_in_a_sentence(monkeypatch):
    with pytest.raises(ValueError, match=r"form 'juejv5' is unknown; did you mean 'jueju5'"):
        EnvConfig(form="juejv5")
    with pytest.raises(ValueError, match="form_bonus must be a finite number of at least 0, not -1"):
        EnvConfig(form="lines", form_bonus=-1.0)
    with pytest.raises(ValueError, match="the form 'jueju5' needs max_new_tokens 12, not 20"):
        EnvConfig(form="jueju5", max_new_tokens=20)
    with pytest.raises(ValueError, match="observation must show prompt and text, 6 tokens, but context_length is 5"):
        gym.make("TokenLM-v0", config=dataclasses.replace(CHAIN, context_length=5))
    with pytest.raises(ValueError, match="is not a Form: it lacks bonus"):
        make_form("own_forms:Broken", World.of(CHAIN).tokenizer)
    with pytest.raises(ValueError, match="has the unknown option 'lenght'; its options are length"):
        make_form("lines?lenght=5", World.of(CHAIN).tokenizer)
    with pytest.raises(ValueError, match="no upper bound is known with a form"):
        relaxed_optimum(World.of(CHAIN), CHAIN, window(CHAIN)[None])
    monkeypatch.setattr("tokenlm.envs.form_programme.MAX_FORM_ENTRIES", 10)
    small = Oracle(World.of(CHAIN), CHAIN)
    with pytest.raises(NotExact, match="states of the form times"):
        small.optimal_return(window(CHAIN)[None])
    env = gym.make("TokenLM-v0", config=WORLDS["fixed"]).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="is masked in this state"):
        env.step(int(np.flatnonzero(~env.action_masks() & (np.arange(10) > 4))[0]))
