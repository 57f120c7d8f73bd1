"""`no_repeat`: tokens of the last places are not valid, in every environment and in the oracle."""

import dataclasses
import math

import gymnasium as gym
import numpy as np
import pytest

import tokenlm  # noqa: F401
from tokenlm.agents.evaluation import trivial_returns
from tokenlm.envs import (
    EnvConfig,
    Episodes,
    NotExact,
    Oracle,
    PhraseActions,
    TokenLMDeviceEnv,
    TokenLMVectorEnv,
    World,
    solver,
)
from tokenlm.envs.bounds import beam_search, relaxed_optimum

EOS = 3
CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=9, max_new_tokens=4, context_length=6, prompt_length=(0, 2), no_repeat=2
)
WORDS = EnvConfig(
    corpus=("a b c d", "b c d a", "c a b d", "a a b", "b b c", "c d a b", "d a"), tokenizer="word", order=2,
    max_new_tokens=3, context_length=6, prompt_length=(0, 1), no_repeat=1,
)  # fmt: skip
WORLDS = {
    "eos": CHAIN,
    "fixed": dataclasses.replace(CHAIN, ending="fixed"),
    "three places, order 3": dataclasses.replace(CHAIN, no_repeat=3, order=3, vocab_size=10, min_new_tokens=1),
    "one place": dataclasses.replace(CHAIN, no_repeat=1, prompt_length=(0, 0), target_seed=2),
    "words": WORDS,
    "late": dataclasses.replace(CHAIN, reward_every=0, ending="fixed", log_prob_weight=0.5),
}


def texts_after(config: EnvConfig, prompt: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Every text with its log-probability under p* over the valid actions, from p* without the rule."""
    world = World.of(dataclasses.replace(config, no_repeat=0))
    found = {}

    def walk(written: tuple[int, ...], total: float) -> None:
        if len(written) == config.max_new_tokens or (written and written[-1] == EOS):
            found[written] = total
            return
        prefix = [0] * 9 + [2, *prompt, *written]
        ends = config.ending == "eos" and len(written) >= config.min_new_tokens
        row = world.target.log_probs(world.target.track(np.array([prefix[-6:]])), np.array([ends]))[0]
        row[prefix[-config.no_repeat :]] = -np.inf
        row -= np.logaddexp.reduce(row)
        for token in np.flatnonzero(row > -np.inf):
            walk((*written, int(token)), total + float(row[token]))

    walk((), 0.0)
    return found


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_optimum_is_that_of_all_texts(name, temperature):
    config = WORLDS[name]
    oracle = Oracle(World.of(config), config)
    prompts = [(), (5,)] if config.prompt_length[1] else [()]
    windows = np.array([([0] * 9 + [2, *prompt])[-6:] for prompt in prompts])
    found = oracle.optimal_value(windows, temperature=temperature, horizon="episode")
    for prompt, value in zip(prompts, found, strict=True):
        returns = config.log_prob_weight * np.array(list(texts_after(config, prompt).values()))
        soft = temperature * np.logaddexp.reduce(returns / temperature) if temperature else returns.max()
        assert value == pytest.approx(soft, abs=1e-10)
    if temperature == 0.0:
        best = beam_search(oracle.world, config, windows, 1_000).log_probs
        np.testing.assert_allclose(config.log_prob_weight * best, found, atol=1e-12)
        text = oracle.most_likely_text()
        assert all(token not in text.tokens[max(0, i - config.no_repeat) : i] for i, token in enumerate(text.tokens))


@pytest.mark.parametrize("name", WORLDS)
def test_episodes_pay_it_and_all_environments_agree(name):
    config = dataclasses.replace(WORLDS[name], invalid_action="random")
    single = gym.make("TokenLM-v0", config=config).unwrapped
    vector = TokenLMVectorEnv(2, config, autoreset_mode="SameStep")
    device = TokenLMDeviceEnv(2, config, device="cpu")
    seen, _ = single.reset(seed=7)
    seen_by_vector, _ = vector.reset(seed=7)
    device.reset(seed=7)
    rng, written, total = np.random.default_rng(0), [], 0.0
    prompt = tuple(i for i in seen.tolist() if i > 4)
    for _ in range(config.max_new_tokens):
        np.testing.assert_array_equal(seen, seen_by_vector[0])
        masks = vector.action_masks()
        np.testing.assert_array_equal(masks, device.action_masks().numpy())
        np.testing.assert_array_equal(masks[0], single.action_masks())
        banned = [t for t in seen[-config.no_repeat :] if t > 4]
        assert not masks[0][banned].any()
        assert masks[0].sum() == single.world.valid.sum() - len(set(banned)) - (
            masks[0][EOS] != single.world.valid[EOS]
        )
        rows = vector.target_log_probs()
        np.testing.assert_allclose(np.exp(rows).sum(1), 1.0)
        np.testing.assert_array_equal(np.isfinite(rows), masks)
        np.testing.assert_allclose(device.target_log_probs().numpy(), rows, atol=1e-12)
        action = int(rng.integers(0, single.world.vocab_size))  # a wrong one is replaced
        actions = np.array([action, action])
        seen, reward, terminated, truncated, info = single.step(action)
        seen_by_vector, rewards, *_, infos = vector.step(actions)
        _, more, *_ = device.step(device._rows.new_tensor(actions))
        assert rewards[0] == reward == pytest.approx(more[0].item(), abs=1e-12)
        assert info["log_prob"] == infos["log_prob"][0]
        assert masks[0][seen[-1]]
        assert info["log_prob"] == pytest.approx(rows[0, seen[-1]], abs=1e-12)
        written.append(int(seen[-1]))
        total += reward
        if terminated or truncated:
            break
    assert total == pytest.approx(config.log_prob_weight * texts_after(config, prompt)[tuple(written)], abs=1e-10)


def test_random_replacements_are_even_over_the_valid_actions():
    config = dataclasses.replace(CHAIN, invalid_action="random", prompt_length=(0, 0))
    episodes = Episodes(World.of(config), config, 20_000)
    episodes.seed_all(list(range(20_000)))
    episodes.start_from_prompts(np.arange(20_000), [[5, 7]] * 20_000, None)
    episodes.step(np.full(20_000, 7))
    counted = np.bincount(episodes.history[:, config.context_length], minlength=9) / 20_000
    assert counted[[5, 7]].tolist() == [0.0, 0.0]
    assert np.abs(counted[[3, 6, 8]] - 1 / 3).max() < 0.02


def test_a_banned_token_is_refused_by_name():
    env = gym.make("TokenLM-v0", config=dataclasses.replace(CHAIN, prompt_length=(0, 0))).unwrapped
    env.reset(seed=0)
    env.step(5)
    with pytest.raises(ValueError, match=r"action 5 .* is masked in this state"):
        env.step(5)


def test_what_is_too_large_says_so(monkeypatch):
    config = dataclasses.replace(CHAIN, vocab_size=200, no_repeat=3, order=2)
    large = Oracle(World.of(config), config)
    with pytest.raises(NotExact, match=r"no_repeat=3 needs at least 7,301,190 states of 200 tokens each"):
        large.optimal_return(np.array([[0] * 5 + [2]]))
    config = dataclasses.replace(CHAIN, vocab_size=200, no_repeat=20, context_length=20, max_new_tokens=30)
    with pytest.raises(NotExact, match="states"):
        trivial_returns(config)
    small = Oracle(World.of(CHAIN), CHAIN)
    monkeypatch.setattr(solver, "MAX_ENTRIES", 120)
    assert "no_repeat=2 needs more than" in str(small.why_not)
    with pytest.raises(ValueError, match="no upper bound is known with no_repeat"):
        relaxed_optimum(World.of(CHAIN), CHAIN, np.array([[0] * 5 + [2]]))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="no_repeat must be at least 0"):
        EnvConfig(no_repeat=-1)
    with pytest.raises(ValueError, match=r"no_repeat \(9\) must be at most context_length \(4\)"):
        EnvConfig(no_repeat=9, context_length=4)
    config = dataclasses.replace(CHAIN, no_repeat=4)
    with pytest.raises(ValueError, match="no_repeat=4 needs more words than that, but only 4 can be written"):
        gym.make("TokenLM-v0", config=config)
    with pytest.raises(ValueError, match="no_repeat must be 0"):
        PhraseActions(gym.make("TokenLM-v0", config=WORDS), phrases=1)


def test_a_prompt_that_no_document_has_is_solved_too():
    config = dataclasses.replace(CHAIN, prompt_length=(0, 0))
    asked = Oracle(World.of(config), config)
    first = asked.optimal_return(np.array([[0, 0, 0, 0, 0, 2]]))[0]
    values = np.array(list(texts_after(config, (6, 8)).values()))
    assert asked.optimal_return(np.array([[0, 0, 0, 2, 6, 8]]))[0] == pytest.approx(values.max(), abs=1e-12)
    assert asked.optimal_return(np.array([[0, 0, 0, 0, 0, 2]]))[0] == pytest.approx(first, abs=1e-12)
    assert math.isfinite(first)
