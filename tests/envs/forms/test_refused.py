"""What a form and a target that reads the whole text cannot work with has one sentence."""

import gymnasium as gym
import pytest

import tokenlm  # noqa: F401
from tokenlm.envs import EnvConfig


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


@pytest.mark.parametrize("form", ["os:system", "builtins:dict", "tokenlm:DQN"])
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
