"""Gymnasium's own wrappers on the single and on the vector environment."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import vector as vector_wrappers

import tokenlm  # noqa: F401
from tokenlm.envs import TokenLMEnv, TokenLMVectorEnv, picture
from tokenlm.envs.rendering import colour

N = 4
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def single(tiny, **settings) -> gym.Env:
    return gym.make("TokenLM-v0", config=tiny, **settings)


def vector(tiny, mode=AutoresetMode.NEXT_STEP, **settings) -> TokenLMVectorEnv:
    return TokenLMVectorEnv(N, tiny, autoreset_mode=mode, ending="fixed", **settings)


def valid_actions(envs) -> np.ndarray:
    """The same valid actions for equal states."""
    return np.array([6 + int(row.sum()) % 5 for row in envs.unwrapped._episodes.observe()])


def play(env, plain):
    """Both environments through one episode of one course: pairs of what they return."""
    for e in (env, plain):
        e.reset(seed=0)
    over = False
    while not over:
        wrapped, bare = env.step(7), plain.step(7)
        over = bare[2] or bare[3]
        yield wrapped, bare


def test_record_episode_statistics(tiny):
    env = wrappers.RecordEpisodeStatistics(single(tiny))
    steps = list(play(env, single(tiny)))
    info = steps[-1][0][4]
    assert info["episode"]["r"] == pytest.approx(sum(bare[1] for _, bare in steps))
    assert info["episode"]["l"] == len(steps)


def test_time_limit(tiny):
    for env in (wrappers.TimeLimit(single(tiny), 3), gym.make("TokenLM-v0", config=tiny, max_episode_steps=3)):
        env.reset(seed=0)
        ends = [env.step(7)[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]


def test_normalize_reward(tiny):
    env = wrappers.NormalizeReward(single(tiny), gamma=1.0)
    for wrapped, bare in play(env, single(tiny)):
        assert wrapped[1] < 0 > bare[1]
        assert wrapped[1] == pytest.approx(bare[1] / np.sqrt(env.return_rms.var + env.epsilon))


def test_transform_and_flatten_observation(tiny):
    last = wrappers.TransformObservation(single(tiny), lambda o: o[-3:], Box(0, 10, (3,), np.int64))
    flat = wrappers.FlattenObservation(single(tiny))
    for env, expected in ((last, lambda o: o[-3:]), (flat, lambda o: o)):
        for wrapped, bare in play(env, single(tiny)):
            assert np.array_equal(wrapped[0], expected(bare[0]))
            assert env.observation_space.contains(wrapped[0])


def test_numpy_to_torch(tiny):
    env = wrappers.NumpyToTorch(single(tiny))
    observation, _ = env.reset(seed=0)
    assert observation.dtype == torch.int64
    after, reward, *_ = env.step(torch.tensor(7))
    assert after[-1] == 7
    assert np.isfinite(float(reward))


def test_array_conversion(tiny):
    env = wrappers.ArrayConversion(single(tiny), env_xp=np, target_xp=torch)
    assert isinstance(env.reset(seed=0)[0], torch.Tensor)
    assert isinstance(env.step(torch.tensor(7))[0], torch.Tensor)


def test_masks_can_be_had_through_wrappers(tiny):
    env = wrappers.RecordEpisodeStatistics(wrappers.NormalizeReward(single(tiny)))
    env.reset(seed=0)
    assert np.array_equal(env.get_wrapper_attr("action_masks")(), env.unwrapped.action_masks())


@pytest.mark.parametrize("mode", MODES)
def test_vector_record_episode_statistics(tiny, mode):
    if mode == AutoresetMode.SAME_STEP and gym.__version__.startswith("1.2."):
        pytest.skip("this Gymnasium's wrapper takes every vector environment for one with NEXT_STEP")
    envs, plain = vector_wrappers.RecordEpisodeStatistics(vector(tiny, mode)), vector(tiny, mode)
    envs.reset(seed=0)
    plain.reset(seed=0)
    total, ended = np.zeros(N), 0
    for _ in range(20):
        actions = valid_actions(plain)
        _, _, terminated, _, infos = envs.step(actions)
        total += plain.step(actions)[1]
        for row in np.flatnonzero(terminated):
            ended += 1
            assert infos["episode"]["r"][row] == pytest.approx(total[row])
            assert infos["episode"]["l"][row] == tiny.max_new_tokens
            total[row] = 0.0
    assert ended == 2 * N


@pytest.mark.parametrize("mode", MODES)
def test_vector_normalize_reward(tiny, mode):
    envs, plain = vector_wrappers.NormalizeReward(vector(tiny, mode), gamma=1.0), vector(tiny, mode)
    envs.reset(seed=0)
    plain.reset(seed=0)
    for _ in range(20):
        actions = valid_actions(plain)
        scaled, rewards = envs.step(actions)[1], plain.step(actions)[1]
        np.testing.assert_allclose(scaled, rewards / np.sqrt(envs.return_rms.var + envs.epsilon))


def test_vector_transform_observation(tiny):
    space = Box(0, 10, (3,), np.int64)
    envs = vector_wrappers.TransformObservation(vector(tiny), lambda o: o[..., -3:], batch_space(space, N), space)
    plain = vector(tiny)
    assert np.array_equal(envs.reset(seed=0)[0], plain.reset(seed=0)[0][:, -3:])
    for _ in range(20):
        actions = valid_actions(plain)
        assert np.array_equal(envs.step(actions)[0], plain.step(actions)[0][:, -3:])


@pytest.mark.parametrize("mode", MODES)
def test_dict_info_to_list(tiny, mode):
    envs, plain = vector_wrappers.DictInfoToList(vector(tiny, mode, mask_in_info=True)), vector(tiny, mode)
    assert [set(info) for info in envs.reset(seed=0)[1]] == [{"action_mask"}] * N
    plain.reset(seed=0)
    for _ in range(20):
        actions = valid_actions(plain)
        infos, expected = envs.step(actions)[4], plain.step(actions)[4]
        for row, info in enumerate(infos):
            assert info.get("log_prob", 0.0) == expected["log_prob"][row]
            if mode == AutoresetMode.SAME_STEP and "_final_obs" in expected and expected["_final_obs"][row]:
                assert np.array_equal(info["final_obs"], expected["final_obs"][row])
                assert info["final_info"]["log_prob"] == expected["log_prob"][row]


def test_vector_numpy_to_torch(tiny):
    envs, plain = vector_wrappers.NumpyToTorch(vector(tiny)), vector(tiny)
    assert torch.equal(envs.reset(seed=0)[0], torch.from_numpy(plain.reset(seed=0)[0]))
    for _ in range(10):
        actions = valid_actions(plain)
        wrapped, bare = envs.step(torch.from_numpy(actions)), plain.step(actions)
        for a, b in zip(wrapped[:4], bare[:4], strict=True):
            assert torch.equal(a, torch.from_numpy(b))


def test_a_picture_shows_every_token_in_its_colour(tiny):
    env = single(tiny, render_mode="rgb_array").unwrapped
    env.reset(options={"prompt": "the cat"})
    prompt_only = env.render()
    assert prompt_only.shape == (picture.HEIGHT, picture.WIDTH, 3)
    assert prompt_only.dtype == np.uint8
    word = env.world.tokenizer.encode("sees")[0]
    *_, info = env.step(word)
    written = env.render()
    # Anti-aliasing mixes the colour with the background, but some pixels have all of it.
    assert (written == np.array(colour(info["log_prob"]))).all(-1).any()
    assert not (prompt_only == np.array(colour(info["log_prob"]))).all(-1).any()
    changed = np.flatnonzero((written != prompt_only).any((0, 2)))
    grey = np.flatnonzero((prompt_only != prompt_only[0, 0]).any((0, 2)))
    assert changed.min() > grey.max()  # to the right of the prompt


def test_a_long_text_shows_its_end(tiny):
    env = single(tiny, render_mode="rgb_array", max_new_tokens=400, ending="fixed").unwrapped
    env.reset(seed=0)
    frames = []
    for step in range(400):
        env.step(6 + step % 5)
        if step >= 398:
            frames.append(env.render())
    assert frames[0].shape == frames[1].shape == (picture.HEIGHT, picture.WIDTH, 3)
    assert (frames[0] != frames[1]).any()


def test_rgb_array_passes_gymnasiums_checks(tiny):
    env = single(tiny, render_mode="rgb_array").unwrapped
    env.action_space.seed(0)
    check_env(env, skip_render_check=True)  # a render check would make it by its id, without the corpus
    copy.deepcopy(env).render()


def test_a_vector_of_pictures(tiny):
    envs = vector(tiny, render_mode="rgb_array")
    one = TokenLMEnv(tiny, ending="fixed", render_mode="rgb_array")
    envs.reset(seed=0)
    one.reset(seed=0)
    envs.step(np.full(N, 7))
    one.step(7)
    frames = envs.render()
    assert len(frames) == N
    assert np.array_equal(frames[0], one.render())


def test_record_video(tiny, tmp_path):
    pytest.importorskip("moviepy")
    env = wrappers.RecordVideo(single(tiny, render_mode="rgb_array"), str(tmp_path / "videos"))
    env.reset(seed=0)
    over = False
    while not over:
        *_, terminated, truncated, _ = env.step(7)
        over = terminated or truncated
    env.close()
    assert [p.suffix for p in (tmp_path / "videos").iterdir()] == [".mp4"]


def test_the_font_shows_the_text_or_the_error_says_what_to_install():
    latin = picture.font_for(frozenset("the cat"))
    assert latin.name == "DejaVuSans.ttf"  # comes with Matplotlib
    with pytest.raises(ValueError, match="install one with Chinese characters, such as Noto Sans CJK"):
        picture.font_for(frozenset(map(chr, range(0xF0000, 0xF0100))))  # private use: no font shows them


@pytest.fixture
def without_fonts(monkeypatch):
    """A machine whose only font is Matplotlib's own, which has no Chinese character."""
    monkeypatch.setattr(picture, "_CHINESE", ())
    picture._best_font.cache_clear()
    yield
    picture._best_font.cache_clear()


def test_without_a_chinese_font_there_are_boxes_and_a_note(without_fonts, tiny):
    corpus = tuple(f"今天天气{a}{b}" for a in "好很坏大小" for b in "人山水火土")
    env = TokenLMEnv(corpus=corpus, tokenizer="char", render_mode="rgb_array")
    env.action_space.seed(0)
    check_env(env, skip_render_check=True)
    env.reset(options={"prompt": "今天"})
    before = env.render()
    env.step(env.world.vocabulary.id("好"))
    after = env.render()
    assert (before != after).any()  # a box in the colour of its log-likelihood
    note = slice(picture.HEIGHT - 40, picture.HEIGHT)
    assert (after[note] == np.array(picture._PROMPT)).all(-1).any()
    assert not (single(tiny, render_mode="rgb_array").unwrapped._painter.note)


def test_plain_check_env_and_record_video_need_no_chinese_font(without_fonts, tmp_path):
    pytest.importorskip("moviepy")
    env = gym.make("TokenLM-v0", render_mode="rgb_array")
    env.action_space.seed(0)
    check_env(env.unwrapped)
    video = wrappers.RecordVideo(gym.make("TokenLM-v0", render_mode="rgb_array"), str(tmp_path / "videos"))
    video.reset(seed=0)
    video.step(video.unwrapped.world.words[0])
    video.close()
    assert [p.suffix for p in (tmp_path / "videos").iterdir()] == [".mp4"]


def test_there_is_something_to_see_before_anything_is_written(tiny):
    env = TokenLMEnv(tiny, render_mode="ansi")
    env.reset(options={"prompt": ""})
    assert env.render() == "\x1b[2m<bos>\x1b[0m"
    picture_ = TokenLMEnv(tiny, render_mode="rgb_array")
    picture_.reset(options={"prompt": ""})
    assert len(np.unique(picture_.render().reshape(-1, 3), axis=0)) > 1
    envs = TokenLMVectorEnv(2, tiny, render_mode="ansi")
    envs.reset(options={"prompt": ""})
    assert envs.render() == ("\x1b[2m<bos>\x1b[0m",) * 2


def test_chinese_is_shown_where_the_system_has_a_font_for_it():
    hanzi = {ord(c) for c in "今天气很好"}
    fonts = [font for font in picture._candidates() if hanzi <= picture._shown(font)]
    if not fonts:
        pytest.skip("no Chinese font here")
    assert hanzi <= picture._shown(picture.font_for(frozenset("今天天气很好")))
