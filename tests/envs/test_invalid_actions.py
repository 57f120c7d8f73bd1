"""`invalid_action="random"` draws uniformly from all valid actions, wherever the episode runs."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401  registers the ids
from tokenlm.envs import TokenLMDeviceEnv, TokenLMEnv, TokenLMVectorEnv, Vocabulary

N = 6_000


def drawn_first(kind: str, config, count: int) -> np.ndarray:
    """The token written at each of the first two steps in `count` episodes, when only masked actions are given."""
    settings = {"invalid_action": "random"}
    masked = np.full(count, Vocabulary.BOS)
    if kind == "single":
        rows, env = [], TokenLMEnv(config, **settings)
        for seed in range(count):
            env.reset(seed=seed)
            rows.append([env.step(2)[0][-1]])
            rows[-1].append(env.step(2)[0][-1] if rows[-1][0] != Vocabulary.EOS else Vocabulary.PAD)
        return np.array(rows)
    make = TokenLMVectorEnv if kind == "vector" else TokenLMDeviceEnv
    envs = make(count, config, **settings, **({} if kind == "vector" else {"device": "cpu"}))
    envs.reset(seed=0)
    given = masked if kind == "vector" else torch.from_numpy(masked)
    written = []
    for _ in range(2):
        episodes = envs._episodes
        envs.step(given)
        written.append(np.asarray(episodes.history)[:, config.context_length + len(written)].copy())
    return np.array(written).T


@pytest.mark.parametrize("kind", ["single", "vector", "device"])
@pytest.mark.parametrize(("ending", "least"), [("eos", 0), ("eos", 1), ("fixed", 0)])
def test_replacements_are_uniform_over_the_valid_actions(tiny, kind, ending, least):
    config = TokenLMEnv(tiny, ending=ending, min_new_tokens=least).config
    env = TokenLMEnv(config)
    env.reset(seed=0)
    count = N if kind != "single" else 1_500
    tokens = drawn_first(kind, config, count)
    valid = np.flatnonzero(env.action_masks())
    assert (Vocabulary.EOS in valid) == (ending == "eos" and least == 0)
    counts = np.bincount(tokens[:, 0], minlength=env.world.vocab_size)
    assert counts.sum() == counts[valid].sum() == count
    expected = count / len(valid)
    assert ((counts[valid] - expected) ** 2 / expected).sum() < 45  # χ² with at most 11 degrees of freedom, p < 1e-5
    if least == 1:  # <eos> is valid from the second token on
        ends = (tokens[:, 1] == Vocabulary.EOS).mean()
        assert ends == pytest.approx(1 / 12, abs=5 * np.sqrt(1 / 12 / count))


def test_the_three_environments_draw_alike(tiny):
    one, many, device = (drawn_first(kind, tiny, 40) for kind in ("single", "vector", "device"))
    going_on = one[:, 0] != Vocabulary.EOS
    np.testing.assert_array_equal(one[going_on], many[going_on])
    np.testing.assert_array_equal(one[going_on], device[going_on])
    np.testing.assert_array_equal(one[:, 0], many[:, 0])


IDS = [name for name in gym.registry if name.startswith("TokenLM-")]


def test_every_id_has_an_unmasked_one_with_the_same_settings():
    assert len(IDS) >= 7
    for name in IDS:
        one, other = gym.spec(name), gym.spec(f"unmasked/{name}")
        assert {**one.kwargs, "invalid_action": "random"} == other.kwargs
        assert (one.max_episode_steps, one.entry_point) == (other.max_episode_steps, other.entry_point)


def test_an_unmasked_id_takes_any_action_and_writes_a_valid_one():
    env = gym.make("tokenlm:unmasked/TokenLM-Tiny-v0")
    env.reset(seed=0)
    for _ in range(4):
        observation, reward, *_ = env.step(Vocabulary.PAD)
        assert observation[-1] >= Vocabulary.FIRST_WORD
        assert np.isfinite(reward)
    envs = gym.make_vec("unmasked/TokenLM-Tiny-v0", num_envs=3)
    envs.reset(seed=0)
    assert (envs.step(np.zeros(3, int))[0][:, -1] >= Vocabulary.FIRST_WORD).all()
    masked = gym.make("TokenLM-Tiny-v0").unwrapped.oracle
    assert env.unwrapped.oracle.most_likely_text() == masked.most_likely_text()
