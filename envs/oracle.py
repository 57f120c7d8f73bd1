"""The best return there is, by dynamic programming on the target's automaton."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .config import EnvConfig
from .text import Vocabulary
from .world import World

MAX_ENTRIES = 40_000_000  # (state, token) pairs that the dense tables may hold


def optimal_return(world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Log-probability, in nats, of the most likely text that continues each prefix.

    With the ending "eos" that is the best text that ends within `max_new_tokens`, with "fixed" the best of exactly
    that many tokens.

    Args:
        world: the world.
        config: the episode's rules.
        prefixes: (B, L) observations of episodes that begin.

    Returns: (B,) optimal returns at temperature 0 and γ = 1, or None where the target is not a finite automaton or
    is too large for dense tables.
    """
    target = world.target
    if not target.tracks_states or target.automaton.num_states * world.vocab_size > MAX_ENTRIES:
        return None
    states = np.arange(target.automaton.num_states)
    following = target.automaton.next_states(states)
    tables = {eos: _rows(world, states, eos) for eos in (False, True)}
    ends = config.ending == "eos"
    value = np.full(len(states), -np.inf if ends else 0.0)
    for written in reversed(range(config.max_new_tokens)):
        eos_valid = ends and written >= config.min_new_tokens
        q_values = tables[eos_valid] + value[following]
        if eos_valid:
            q_values[:, Vocabulary.EOS] = tables[True][:, Vocabulary.EOS]
        new = q_values.max(1)
        if np.array_equal(new, value) and not config.min_new_tokens:
            break
        value = new
    result: npt.NDArray[np.float64] = value[target.track(prefixes)]
    return result


def _rows(world: World, states: npt.NDArray[np.int64], eos_valid: bool) -> Any:
    return world.target.log_probs(states, np.full(len(states), eos_valid))
