"""Long learning tests, against what is known exactly; `make test-all` runs them."""

import dataclasses

import pytest

from tokenlm.agents import DQN, evaluate
from tokenlm.parsing import parse_run


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["zh", "en"])
def test_the_quickstart_learns_to_write_from_rewards(corpus):
    run = parse_run(["quickstart"])
    agent = DQN(dataclasses.replace(run.env, corpus=corpus), run.agent, seed=1).learn(100_000)
    result = evaluate(agent, episodes=128)
    assert result["perplexity"] < 1.3 * result["target_perplexity"]
    assert result["kl_to_target"] < 3.0
    assert result["normalized_score"] > 0.97
