"""Which figure of an evaluation says how good it is."""

import dataclasses

import pytest

from tokenlm.agents.runs.selection import best_row, judged_by
from tokenlm.envs import EnvConfig

VERSE = EnvConfig(corpus="jueju", form="jueju5", order=2, context_length=25)


@pytest.mark.parametrize(
    ("env", "temperature", "figure"),
    [
        (EnvConfig(), 1.0, ("perplexity", True)),
        (EnvConfig(), 0.5, ("regret", True)),
        (EnvConfig(), 0.0, ("greedy_return", False)),
        (VERSE, 1.0, ("regret", True)),  # a bonus is paid beside the likelihood
        (dataclasses.replace(VERSE, form_bonus=0.0), 1.0, ("perplexity", True)),
    ],
)
def test_the_figure_follows_the_objective(env, temperature, figure):
    assert judged_by(env, temperature) == figure


def test_maximum_likelihood_keeps_its_best_weights_under_a_form():
    """It measures perplexity and no regret: judged with the bonus, all its rows would be equal."""
    rows = [{"perplexity": 9.0}, {"perplexity": 7.0}, {"perplexity": 8.0}]
    assert best_row(rows, dataclasses.replace(VERSE, form_bonus=0.0), 1.0) == 1
