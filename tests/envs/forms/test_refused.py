"""What a form and a target that reads the whole text cannot work with has one sentence."""

import gymnasium as gym
import pytest

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig
from tokenlm.parsing import parse_run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "lines", "ending": "fixed"}, "the form 'lines' needs ending 'eos', not 'fixed'"),
        ({"form": "couplet", "min_new_tokens": 3}, "the form 'couplet' needs min_new_tokens 0, not 3"),
        ({"form": "jueju5", "no_repeat": 3}, "the form 'jueju5' needs no_repeat 1, not 3"),
    ],
)
def test_settings_that_a_form_excludes(settings, message):
    with pytest.raises(ValueError, match=message):
        EnvConfig(**settings)


@pytest.mark.parametrize("form", ["os:system", "builtins:dict", "tokenlm.envs:Oracle"])
def test_code_that_is_no_form(form, tiny):
    env = EnvConfig(corpus=tiny.corpus, tokenizer="word", form=form)
    with pytest.raises(ValueError, match=f"form '{form}' is not a Form"):
        gym.make("TokenLM-v0", config=env)


@pytest.mark.parametrize("prompt", ["", "今天", "细雨知时令", "细雨知时令，檐前两岸春。细雨知时令，檐前两岸春。"])
def test_a_quatrain_goes_on_after_two_lines(prompt):
    env = gym.make("TokenLM-Form-v0")
    with pytest.raises(ValueError, match=r"has \d+ tokens, but the form 'jueju5' goes on after 12"):
        env.reset(options={"prompt": prompt})
    with pytest.raises(ValueError, match="goes on after 12"):
        env.unwrapped.oracle.most_likely_text(prompt)


def test_a_prompt_that_an_observation_would_lose():
    """p* of Factored looks at the first two words, so Q* of an observation without them would be wrong."""
    env = gym.make("TokenLM-Factored-v0")
    env.reset(options={"prompt": "20 30"})
    with pytest.raises(ValueError, match=r"has 9 tokens; p. looks at the whole text, and an observation .* at most 2"):
        env.reset(options={"prompt": "20 30 40 50 60 70 80 90 100"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"no_repeat": 0}, "the form 'jueju5' needs no_repeat 1, not 0"),
        ({"ending": "eos"}, "the form 'jueju5' needs ending 'fixed', not 'eos'"),
        ({"prompt_length": [0, 4]}, r"the form 'jueju5' needs prompt_length \(12, 12\), not \[0, 4\]"),
    ],
)
def test_a_default_that_was_asked_for_is_not_overridden_silently(settings, message):
    """That `EnvConfig` itself cannot tell it from one that nobody asked for."""
    pytest.importorskip("torch")  # the command line names agents
    with pytest.raises(ValueError, match=message):
        gym.make("TokenLM-Form-v0", **settings)
    words = [f"--env.{name}={value}" for name, value in settings.items()]
    for asked in (words, [part for word in words for part in word.split("=")]):
        with pytest.raises(ValueError, match=message):
            parse_run(["form", *asked])


def test_what_a_form_fixes_may_be_asked_for(tmp_path):
    pytest.importorskip("torch")
    assert parse_run(["form", "--env.no_repeat=1", "--env.tokenizer", "auto"]) == parse_run(["form"])
    path = tmp_path / "verse.yaml"
    path.write_text("env: {corpus: jueju, form: jueju5, context_length: 25, no_repeat: 0}", encoding="utf-8")
    assert parse_run([str(path), "--env.no_repeat=1"]).env.no_repeat == 1
    with pytest.raises(ValueError, match="needs no_repeat 1, not 0"):
        parse_run([str(path)])
    with pytest.raises(ValueError, match="the task 'classification' needs ending 'fixed', not 'eos'"):
        parse_run(["classification", "--env.ending=eos"])
