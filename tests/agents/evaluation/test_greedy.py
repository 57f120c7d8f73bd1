"""The score of any library's action values: 1 for Q*, 0 for the best trivial policy."""

import numpy as np
import pytest
import torch

from tokenlm.agents.evaluation import greedy_score, trivial_returns
from tokenlm.envs import EnvConfig, Oracle, World, env_config_from


def oracle_of(config: EnvConfig) -> Oracle:
    return Oracle.of(World.of(config), config)


@pytest.mark.parametrize("name", ["TokenLM-Tiny-v0", "unmasked/TokenLM-Markov-v0"])
def test_optimal_values_have_the_score_1(name):
    oracle = oracle_of(env_config_from(name))

    def values(windows: np.ndarray) -> torch.Tensor:
        written = (windows > 0).sum(1) - 1  # all but <bos>
        return torch.from_numpy(oracle.optimal_q(windows, written, temperature=0.0, horizon="episode"))

    assert greedy_score(name, values, episodes=2) == pytest.approx(1.0)


def test_the_best_constant_token_has_the_score_0_where_it_is_the_best_trivial_policy():
    config = env_config_from("TokenLM-Markov-v0")
    trivial = trivial_returns(config)
    assert max(trivial, key=trivial.get) == "constant"
    words = World.of(config).words
    scores = [greedy_score(config, lambda w, k=k: np.tile(np.arange(200) == k, (len(w), 1)), 1) for k in words[:12]]
    assert max(scores) <= 1e-9
    best = max(words, key=lambda k: sum(_log_probs(config, int(k))))
    chosen = greedy_score(config, lambda w: np.tile(np.arange(200) == best, (len(w), 1)), episodes=1)
    assert chosen == pytest.approx(0.0, abs=1e-9)


def test_an_invalid_action_is_never_taken():
    special = np.arange(8) < 5
    assert np.isfinite(greedy_score("TokenLM-Tiny-v0", lambda w: np.tile(special * 9.0, (len(w), 1)), episodes=1))


def _log_probs(config: EnvConfig, token: int) -> list[float]:
    """Log p* of a text of one token over and over."""
    target = World.of(config).target
    state, found = target.track(np.array([[2]])), []
    for _ in range(config.max_new_tokens):
        log_prob, state = target.step(state, np.array([token]), False)
        found.append(float(log_prob[0]))
    return found
