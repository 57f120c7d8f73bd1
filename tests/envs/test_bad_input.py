"""Every mistake a user of the environment can make gets one sentence that says what would be right."""

import gymnasium as gym
import numpy as np
import pytest

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig, NotRunning, TokenLMDeviceEnv, TokenLMEnv, TokenLMVectorEnv, Vocabulary
from tokenlm.envs.single import BadSeed


def env(tiny, **settings) -> TokenLMEnv:
    made = TokenLMEnv(tiny, **settings)
    made.reset(seed=0)
    return made


def envs(tiny, **settings) -> TokenLMVectorEnv:
    made = TokenLMVectorEnv(2, tiny, **settings)
    made.reset(seed=0)
    return made


def over(tiny, **settings) -> TokenLMEnv:
    made = env(tiny, **settings)
    made.step(Vocabulary.EOS)
    return made


CONFIGURATION = [
    ({"ending": "stop"}, "ending 'stop' is unknown; use one of eos, fixed"),
    ({"transition": "freee"}, "transition 'freee' is unknown; did you mean 'free'"),
    ({"task": "generatoin"}, "task 'generatoin' is unknown; did you mean 'generation'"),
    ({"target": "n-gram"}, "target 'n-gram' is unknown; did you mean 'ngram'"),
    ({"tokenizer": "wrod"}, "tokenizer 'wrod' is unknown; did you mean 'word'"),
    ({"split": "vaild"}, "split 'vaild' is unknown; did you mean 'valid'"),
    ({"max_new_token": 3}, "no argument 'max_new_token'; did you mean 'max_new_tokens'"),
    ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
    ({"max_new_tokens": 1 << 40}, "max_new_tokens must be at most 1,048,576, not 1099511627776"),
    ({"context_length": 1 << 40}, "context_length must be at most 1,048,576, not 1099511627776"),
    ({"target": "markov", "target_seed": -1}, "target_seed must be at least 0, not -1"),
    ({"min_new_tokens": 8}, r"min_new_tokens \(8\) must be below max_new_tokens \(8\)"),
    ({"prompt_length": (3, 1)}, r"0 <= shortest <= longest, not \(3, 1\)"),
    ({"reward_every": -1}, "reward_every must be at least 0, not -1"),
    ({"order": 0}, "order must be at least 1, not 0"),
    ({"target": "markov", "order": 10**9}, "order must be at most 100, not 1000000000"),
    ({"epsilon": 1.0}, "epsilon must lie strictly between 0 and 1, not 1.0"),
    ({"context_length": 1}, "looks at the last 2 tokens but context_length is 1; make context_length at least 2"),
    ({"render_mode": "rgb"}, "render_mode 'rgb' is unknown"),
    ({"corpus": ["a", 1, "c"]}, "corpus must be text or a tuple of text or .*, not"),
    ({"corpus": "nowhere.txt"}, "no corpus 'nowhere.txt'"),
    ({"corpus": 3}, "corpus must be text or a tuple of text or .*, not 3"),
    ({"max_new_tokens": "8"}, "max_new_tokens must be a whole number, not '8'"),
    ({"order": 2.5}, "order must be a whole number, not 2.5"),
    ({"prompt_length": (1, 2, 3)}, "prompt_length must be a tuple of a whole number and a whole number"),
    ({"mask_in_info": 1}, "mask_in_info must be True or False, not 1"),
    ({"min_count": None}, "min_count must be a whole number, not None"),
    ({"max_vocab_size": 5}, "max_vocab_size must be at least 6, not 5"),
    (
        {"target": "markov", "ending": "eos", "max_new_tokens": 1},
        "ending 'eos' writes <eos> with probability 1 / max_new_tokens, so max_new_tokens must be at least 2, not 1",
    ),
]


@pytest.mark.parametrize(("settings", "message"), CONFIGURATION)
def test_configuration(tiny, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        TokenLMEnv(tiny, **settings)


USE = [
    (lambda c: TokenLMEnv(c).step(5), NotRunning, r"has not begun; call reset\(\) before step\(\)"),
    (lambda c: over(c).step(5), NotRunning, r"is over; call reset\(\) before step\(\)"),
    (lambda c: env(c).step(99), ValueError, "action 99 is out of range; actions are the token ids 0 to 15"),
    (lambda c: env(c).step(-1), ValueError, "action -1 is out of range"),
    (lambda c: env(c).step(0), ValueError, r"action 0 \(<pad>\) is masked in this state; choose one that action_masks"),
    (lambda c: env(c, ending="fixed").step(3), ValueError, r"action 3 \(<eos>\) is masked"),
    (lambda c: env(c, min_new_tokens=2).step(3), ValueError, r"action 3 \(<eos>\) is masked"),
    (lambda c: env(c, invalid_action="random").step(99), ValueError, "out of range"),
    (lambda c: env(c).step(1.5), ValueError, r"expected 1 whole-number action\(s\)"),
    (lambda c: env(c).step([5, 6]), ValueError, "expected 1 whole-number"),
    (
        lambda c: env(c).reset(options={"prompt": "zebra giraffe"}),
        ValueError,
        "'zebra giraffe' has words outside the vocabulary only: 'zebra', 'giraffe'; use words of the corpus",
    ),
    (lambda c: env(c).reset(options={"prompt": 3}), ValueError, "must be a text, or a list of 1 texts, not 3"),
    (lambda c: env(c, target="reference").reset(options={"prompt": "the"}), ValueError, "a prompt alone is not enough"),
    (lambda c: TokenLMVectorEnv(0, c), ValueError, "num_envs must be at least 1, not 0"),
    (lambda c: TokenLMVectorEnv(2, c).step([5, 5]), NotRunning, r"no episode has begun; call reset\(\)"),
    (lambda c: envs(c).step([5]), ValueError, "expected 2 whole-number"),
    (lambda c: envs(c).step([5, 77]), ValueError, "action 77 is out of range"),
    (lambda c: envs(c).step([5, 2]), ValueError, r"action 2 \(<bos>\) is masked"),
    (lambda c: envs(c).reset(seed=[1]), ValueError, "seed must be one number or 2 of them, not 1"),
    (lambda c: envs(c).reset(seed=-1), BadSeed, "a seed must be a whole number of at least 0, not -1"),
    (lambda c: envs(c).reset(seed=1.5), BadSeed, "not 1.5"),
    (lambda c: envs(c).reset(seed=[1.5, 2]), BadSeed, "not 1.5"),
    (lambda c: envs(c).reset(seed=[1, -2]), BadSeed, "not -2"),
    (lambda c: envs(c).reset(seed=True), BadSeed, "not True"),
    (lambda c: env(c).reset(seed=-1), BadSeed, "a seed must be a whole number of at least 0, not -1"),
    (lambda c: env(c).reset(seed=1.5), BadSeed, "not 1.5"),
    (lambda c: TokenLMDeviceEnv(2, c, device="cpu").reset(seed=[0, 1.5]), BadSeed, "not 1.5"),
    (lambda c: envs(c).reset(options={"reset_mask": [True]}), ValueError, r"must be a \(2,\) bool array"),
    (lambda c: envs(c).reset(options={"prompt": ["the"]}), ValueError, "a text, or a list of 2 texts"),
    (
        lambda c: env(c).reset(options={"promt": "the"}),
        ValueError,
        r"reset has no option 'promt'; did you mean 'prompt'\?; it has prompt, target",
    ),
    (
        lambda c: env(c).reset(options={"reset_mask": np.ones(1, bool)}),
        ValueError,
        "reset has no option 'reset_mask'; it has prompt, target",
    ),
    (
        lambda c: envs(c).reset(options={"seed": 3}),
        ValueError,
        "reset has no option 'seed'; it has prompt, target, reset_mask",
    ),
    (lambda c: TokenLMDeviceEnv(2, c, device="cpu").reset(options={1: 2}), ValueError, "reset has no option 1; it has"),
]


@pytest.mark.parametrize(("call", "error", "message"), USE)
def test_use(tiny, call, error, message):
    with pytest.raises(error, match=message):
        call(tiny)


def test_stepping_an_ended_environment_without_autoreset(tiny):
    made = envs(tiny, autoreset_mode="Disabled")
    made.step([3, 5])
    with pytest.raises(NotRunning, match="the episode of environment 0 is over; start a new one with reset"):
        made.step([5, 5])


def test_a_wrong_start_is_both_a_gymnasium_and_a_value_error(tiny):
    assert issubclass(NotRunning, gym.error.ResetNeeded)
    assert issubclass(NotRunning, ValueError)
    with pytest.raises(gym.error.ResetNeeded):
        gym.make("TokenLM-v0", config=tiny).step(5)


def test_a_path_is_a_corpus(tmp_path, sentences):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    assert EnvConfig(corpus=path).corpus == str(path)
    first = TokenLMEnv(corpus=path, tokenizer="word").world
    assert TokenLMEnv(corpus=path, tokenizer="word", split="test", reward_every=0).world is first
    path.write_text("\n".join(sentences[:50]), encoding="utf-8")
    assert TokenLMEnv(corpus=path, tokenizer="word").world is not first
    assert np.array_equal(first.valid, first.target.valid)


@pytest.mark.parametrize(
    "make", [TokenLMEnv, lambda **k: TokenLMVectorEnv(2, **k), lambda **k: gym.make("TokenLM-v0", **k)]
)
def test_an_unknown_keyword_is_a_type_error_in_pythons_words(make):
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'frameskip'"):
        make(frameskip=1)
    with pytest.raises(ValueError, match="no argument 'max_new_token'; did you mean 'max_new_tokens'"):
        make(max_new_token=3)


def test_torchrl_makes_an_id(tiny):
    gym_env = pytest.importorskip("torchrl.envs").GymEnv("TokenLM-Tiny-v0", invalid_action="random")
    assert gym_env.rollout(3)["next", "reward"].shape == (3, 1)


def test_equal_seeds_of_any_integer_type(tiny):
    made, other = envs(tiny), envs(tiny)
    assert np.array_equal(made.reset(seed=np.int64(5))[0], other.reset(seed=[5, 6])[0])
    assert np.array_equal(env(tiny).reset(seed=np.int64(5))[0], env(tiny).reset(seed=5)[0])


@pytest.mark.parametrize("kind", ["stop_words", "user_dictionary"])
def test_an_edited_word_list_is_read_again(tmp_path, sentences, kind):
    path = tmp_path / "words.txt"
    chinese = tuple(s.replace("the ", "他看").replace(" ", "见") for s in sentences)

    def world() -> object:
        settings = {"cleaning": {"stop_words": str(path)}} if kind == "stop_words" else {"user_dictionary": str(path)}
        how = (
            {"corpus": sentences, "tokenizer": "word"}
            if kind == "stop_words"
            else {"corpus": chinese, "tokenizer": "jieba"}
        )
        return TokenLMEnv(**how, **settings).world

    path.write_text("cat\n" if kind == "stop_words" else "他看cat\n", encoding="utf-8")
    first = world()
    assert world() is first
    path.write_text("dog\n" if kind == "stop_words" else "他看dog\n", encoding="utf-8")
    second = world()
    assert first.vocabulary != second.vocabulary
    if kind == "stop_words":
        assert [word in first.vocabulary for word in ("cat", "dog")] == [False, True]
        assert [word in second.vocabulary for word in ("cat", "dog")] == [True, False]
