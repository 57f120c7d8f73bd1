"""`TokenLM-v0`, one episode: Gymnasium's contract and the decision process of the manual."""

import copy
import pickle
import re
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, TokenLMEnv, Vocabulary

SETTINGS = [
    {},
    {"ending": "fixed"},
    {"min_new_tokens": 3},
    {"transition": "teacher"},
    {"target": "reference"},
    {"target": "markov", "vocab_size": 12, "order": 2, "ending": "fixed"},
    {"reward_every": 0},
    {"mask_in_info": True},
    {"invalid_action": "random"},
]


def walk(env, seed, steps=60):
    """Observations and all that steps return, under valid actions that the seed decides."""
    rng = np.random.default_rng(seed)
    seen = [env.reset(seed=seed)]
    for _ in range(steps):
        step = env.step(rng.choice(np.flatnonzero(env.unwrapped.action_masks())))
        seen.append(step)
        if step[2] or step[3]:
            seen.append(env.reset())
    return seen


@pytest.mark.parametrize("settings", SETTINGS)
def test_both_checkers_pass_without_a_warning(check_env_sb3, tiny, settings):
    env = gym.make("TokenLM-v0", config=tiny, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
        check_env_sb3(env)


def test_every_way_to_make_it(tiny):
    for name in ("TokenLM-v0", "tokenlm:TokenLM-v0"):
        env = gym.make(name, config=tiny, render_mode="ansi")
        assert isinstance(env.unwrapped, TokenLMEnv)
        assert env.unwrapped.render_mode == "ansi"
        assert env.spec.id == "TokenLM-v0"


def test_the_default_is_the_built_in_chinese_corpus():
    env = gym.make("TokenLM-v0")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert len(env.unwrapped.world.documents["train"]) > 2_000
    env.reset(options={"prompt": "今天"})
    assert env.unwrapped.text == "今天"


def test_spaces_and_padding(tiny):
    env = TokenLMEnv(tiny)
    observation, _ = env.reset(seed=1, options={"prompt": "the cat"})
    vocabulary = env.world.vocabulary
    assert env.observation_space.shape == (12,)
    assert env.observation_space.dtype == np.int64
    assert env.action_space.n == len(vocabulary)
    assert observation.tolist() == [0] * 9 + [Vocabulary.BOS, vocabulary.id("the"), vocabulary.id("cat")]
    observation, *_ = env.step(vocabulary.id("sees"))
    assert observation.tolist()[-2:] == [vocabulary.id("cat"), vocabulary.id("sees")]


def test_a_long_prefix_slides_out_on_the_left(sentences):
    env = TokenLMEnv(corpus=sentences, tokenizer="word", context_length=3, max_new_tokens=5, prompt_length=(4, 4))
    observation, _ = env.reset(seed=0)
    assert Vocabulary.BOS not in observation
    before = observation
    observation, *_ = env.step(env.action_space.sample(mask=env.action_masks().astype(np.int8)))
    assert observation[:2].tolist() == before[1:].tolist()


@pytest.mark.parametrize("settings", SETTINGS)
def test_one_seed_one_course(tiny, settings):
    np.testing.assert_equal(walk(TokenLMEnv(tiny, **settings), 7), walk(TokenLMEnv(tiny, **settings), 7))


def test_seeds_differ(tiny):
    starts = {tuple(TokenLMEnv(tiny).reset(seed=s)[0]) for s in range(30)}
    assert len(starts) >= 6  # of 1 + 1 + 6 prompts with none, one or two words


def test_prompts_are_prefixes_of_training_documents(tiny, sentences):
    env = TokenLMEnv(tiny, prompt_length=(1, 3))
    lengths = set()
    for seed in range(60):
        env.reset(seed=seed)
        text = env.text
        lengths.add(len(text.split()))
        assert any(s.startswith(text) for s in sentences)
    assert lengths == {1, 2, 3}


def test_splits_never_mix(tiny):
    world = TokenLMEnv(tiny).world
    texts = {s: {tuple(d[i].tolist()) for i in range(len(d))} for s, d in world.documents.items()}
    assert all(texts.values())
    assert not texts["train"] & texts["valid"]
    assert not texts["train"] & texts["test"]
    assert not texts["valid"] & texts["test"]


def test_reward_is_the_log_likelihood_of_the_target(tiny):
    env = TokenLMEnv(tiny)
    env.reset(seed=0)
    for _ in range(4):
        expected = env.target_log_probs()
        assert np.exp(expected).sum() == pytest.approx(1.0)
        assert np.array_equal(np.isfinite(expected), env.action_masks())
        action = int(np.nanargmax(expected))
        _, reward, terminated, _, info = env.step(action)
        assert reward == pytest.approx(expected[action], abs=1e-12)
        assert info["log_prob"] == reward
        if terminated:
            break


@pytest.mark.parametrize("every", [0, 2, 3])
def test_the_reward_dial_moves_rewards_but_not_their_sum(tiny, every):
    dense, dialled = TokenLMEnv(tiny), TokenLMEnv(tiny, reward_every=every)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        dense.reset(seed=seed)
        dialled.reset(seed=seed)
        paid, over, step = [], False, 0
        logs = []
        while not over:
            action = rng.choice(np.flatnonzero(dense.action_masks()))
            logs.append(dense.step(action)[1])
            _, reward, terminated, truncated, _ = dialled.step(action)
            over = terminated or truncated
            paid.append(reward)
            step += 1
        assert sum(paid) == pytest.approx(sum(logs))
        for number, reward in enumerate(paid[:-1], 1):
            due = bool(every) and number % every == 0
            assert (reward != 0) == due
            if due:
                assert reward == pytest.approx(sum(logs[number - every : number]))


def test_eos_terminates_and_the_limit_truncates(tiny):
    env = TokenLMEnv(tiny)
    env.reset(seed=0)
    *_, terminated, truncated, _ = env.step(Vocabulary.EOS)
    assert (terminated, truncated) == (True, False)
    env.reset()
    for step in range(8):
        *_, terminated, truncated, _ = env.step(5)
        assert (terminated, truncated) == (False, step == 7)


def test_fixed_ending_masks_eos_and_terminates_at_the_limit(tiny):
    env = TokenLMEnv(tiny, ending="fixed")
    env.reset(seed=0)
    for step in range(8):
        assert not env.action_masks()[Vocabulary.EOS]
        *_, terminated, truncated, _ = env.step(5)
        assert (terminated, truncated) == (step == 7, False)


def test_min_new_tokens_masks_eos_until_then(tiny):
    env = TokenLMEnv(tiny, min_new_tokens=2)
    env.reset(seed=0)
    allowed = []
    for _ in range(4):
        allowed.append(bool(env.action_masks()[Vocabulary.EOS]))
        env.step(5)
    assert allowed == [False, False, True, True]


def test_teacher_appends_the_document_whatever_is_chosen(tiny, sentences):
    env = TokenLMEnv(tiny, transition="teacher")
    env.reset(seed=3)
    over = False
    while not over:
        *_, terminated, truncated, _ = env.step(5)
        over = terminated or truncated
    assert env.text in sentences
    assert terminated


def test_reference_target_follows_the_given_text(tiny):
    env = TokenLMEnv(tiny, target="reference", epsilon=0.1)
    env.reset(options={"prompt": "the cat", "target": "sees the dog"})
    vocabulary, size = env.world.vocabulary, env.world.vocab_size
    # ε/V for the four invalid tokens is conditioned away.
    norm = 1 - 4 * 0.1 / size
    for word in ("sees", "the", "dog"):
        assert env.step(vocabulary.id(word))[1] == pytest.approx(np.log((0.9 + 0.1 / size) / norm))
    _, reward, terminated, *_ = env.step(Vocabulary.EOS)
    assert terminated
    assert reward == pytest.approx(np.log((0.9 + 0.1 / size) / norm))


def test_masks_and_samples(tiny):
    env = TokenLMEnv(tiny, mask_in_info=True)
    _, info = env.reset(seed=0)
    mask = env.action_masks()
    assert mask.dtype == np.bool_
    assert mask.tolist() == [i == Vocabulary.EOS or i >= 5 for i in range(len(mask))]
    assert info["action_mask"].tolist() == mask.astype(int).tolist()
    env.action_space.seed(0)
    assert all(mask[env.action_space.sample()] for _ in range(200))


def test_random_stands_in_for_a_masked_action(tiny):
    env = TokenLMEnv(tiny, invalid_action="random")
    env.reset(seed=0)
    written = set()
    for _ in range(6):
        observation, reward, *_ = env.step(Vocabulary.PAD)
        written.add(int(observation[-1]))
        assert np.isfinite(reward)
    assert min(written) >= 5
    assert len(written) > 1


def test_rendering(tiny, capsys):
    env = TokenLMEnv(tiny, render_mode="ansi")
    env.reset(options={"prompt": "the cat"})
    assert env.render() == "the cat"
    env.step(env.world.vocabulary.id("sees"))
    text = env.render()
    assert text.startswith("the cat\x1b[38;2;")
    assert text.endswith(" sees\x1b[0m")
    human = TokenLMEnv(tiny, render_mode="human")
    human.reset(options={"prompt": "the cat"})
    human.step(Vocabulary.EOS)
    assert capsys.readouterr().out.endswith("the cat\n")
    assert human.render() is None


def test_likely_tokens_are_greener():
    from tokenlm.envs.rendering import escape

    def colour(log_prob):
        return [int(v) for v in escape(log_prob)[7:-1].split(";")]

    certain, unlikely = colour(0.0), colour(-10.0)
    assert certain[1] > certain[0]
    assert unlikely[0] > unlikely[1]
    assert colour(-50.0) == unlikely


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
@pytest.mark.parametrize("settings", SETTINGS[:6])
def test_a_copy_goes_on_alike(tiny, copied, settings):
    env = TokenLMEnv(tiny, **settings)
    env.reset(seed=5)
    env.step(7)
    other = copied(env)
    for _ in range(3):
        a, b = env.step(8), other.step(8)
        assert np.array_equal(a[0], b[0])
        assert a[1:] == b[1:]


def test_state_dict_goes_on_exactly_there(tiny):
    env, other = TokenLMEnv(tiny, reward_every=3), TokenLMEnv(tiny, reward_every=3)
    env.reset(seed=5)
    env.step(7)
    other.load_state_dict(env.state_dict())
    for _ in range(4):
        a, b = env.step(8), other.step(8)
        assert np.array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]
    assert np.array_equal(env.reset()[0], other.reset()[0])
    with pytest.raises(ValueError, match=r"history has shape \(1, 21\), this environment needs \(1, 25\)"):
        TokenLMEnv(tiny, context_length=16).load_state_dict(env.state_dict())


def test_observations_share_no_memory(tiny):
    env = TokenLMEnv(tiny)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second, *_ = env.step(6)
    second[:] = 99
    env.step(7)
    assert np.array_equal(first, kept)
    assert env.text.endswith(env.world.tokenizer.decode([6, 7]))


def test_sub_processes_can_use_it(tiny):
    envs = gym.make_vec("TokenLM-v0", num_envs=2, vectorization_mode="async", config=tiny)
    observation, _ = envs.reset(seed=0)
    assert observation.shape == (2, 12)
    assert envs.step(np.array([6, 7]))[1].shape == (2,)
    envs.close()


def test_importing_it_does_not_import_torch():
    code = "import sys, gymnasium, tokenlm; gymnasium.spec('TokenLM-v0'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_own_words_for_jieba(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("深度强化学习\n", encoding="utf-8")
    corpus = ("我喜欢深度强化学习", "他喜欢深度强化学习", "我们学习", "他们喜欢学习")
    env = TokenLMEnv(corpus=corpus, tokenizer="jieba", user_dictionary=str(words))
    assert [env.world.vocabulary.token(i) for i in env.world.tokenizer.encode("我喜欢深度强化学习")][
        -1
    ] == "深度强化学习"


def test_the_manual_names_every_argument_under_gymnasiums_headings():
    manual = TokenLMEnv.__doc__ or ""
    for heading in (
        "Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End", "Arguments",
        "Vectorized environment", "Version History",
    ):  # fmt: skip
        assert f"## {heading}\n" in manual
    named = set(re.findall(r"\w+", manual.split("## Arguments")[1].split("## Vectorized")[0]))
    assert set(EnvConfig.__dataclass_fields__) <= named
