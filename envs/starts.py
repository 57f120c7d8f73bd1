"""Where episodes begin: every first observation with its probability."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints
from .config import EnvConfig, Split
from .episodes import Episodes
from .text import Vocabulary
from .world import World

_EMPTY = (Vocabulary.PAD, Vocabulary.BOS)
_ROWS = 4096  # prompts that are encoded at once


def first_observations(world: World, config: EnvConfig, split: Split) -> Iterator[tuple[Ints, Floats]]:
    """First observations (B, L) and their probabilities (B,), in blocks: uniform documents, uniform prompt lengths."""
    documents = world.documents[split]
    counts = documents.longest_prompt - documents.shortest_prompt + 1
    rows = np.repeat(np.arange(len(documents)), counts)
    prompts = documents.shortest_prompt[rows] + np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    chances = 1.0 / (len(documents) * counts[rows])
    for first in range(0, len(rows), _ROWS):
        some = slice(first, first + _ROWS)
        episodes = Episodes(world, config, len(rows[some]))
        begin, end = documents.offsets[rows[some]], documents.offsets[rows[some] + 1]
        episodes.start_from(np.arange(len(begin)), documents.tokens, begin, end, prompts[some])
        yield episodes.first_observation(), chances[some]


def shown_prompt(observation: npt.ArrayLike) -> list[int]:
    """Ids of the prompt that a first observation (L,) shows."""
    return [token for token in np.asarray(observation).tolist() if token not in _EMPTY]
