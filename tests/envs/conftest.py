"""For the tests of the environment: what runs without torch and other libraries, and a slow Kneser-Ney model."""

import importlib.util
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenlm.envs import Vocabulary
from tokenlm.envs.targets.kneser_ney import modified_discounts

# The environment itself needs no torch; `make matrix` tests it without.
MISSING = [name for name in ("torch", "tokenizers", "nltk") if importlib.util.find_spec(name) is None]
NEEDED = re.compile(
    rf"^(import|from) ({'|'.join(MISSING)})|^from tokenlm(\.agents| import DQN|.* TokenLMDeviceEnv)", re.MULTILINE
)
HERE = Path(__file__).parent
collect_ignore = [
    str(path.relative_to(HERE))
    for path in HERE.rglob("test_*.py")
    if MISSING and NEEDED.search(path.read_text(encoding="utf-8"))
]


class SlowKneserNey:
    """Interpolated modified Kneser-Ney as in Chen & Goodman 1998, section 3, with dictionaries.

    Args:
        documents: token ids.
        vocab_size: V.
        order: n.
    """

    def __init__(self, documents: list[list[int]], vocab_size: int, order: int) -> None:
        self.order = order
        self.predicted = np.ones(vocab_size, bool)
        self.predicted[[Vocabulary.PAD, Vocabulary.BOS, Vocabulary.SEP]] = False
        raw: list[Counter] = [Counter() for _ in range(order + 1)]
        for document in documents:
            words = [Vocabulary.BOS, *document, Vocabulary.EOS]
            for k in range(1, order + 1):
                raw[k].update(tuple(words[i : i + k]) for i in range(len(words) - k + 1))
        # For every context, the counts of the words after it.
        self.following: dict[tuple[int, ...], Counter] = defaultdict(Counter)
        self.discount = {}
        for k in range(1, order + 1):
            counts = raw[k]
            if k < order:
                preceded = defaultdict(set)
                for gram in raw[k + 1]:
                    preceded[gram[1:]].add(gram[0])
                counts = {g: n if g[0] == Vocabulary.BOS else len(preceded[g]) for g, n in counts.items()}
            counts = {g: n for g, n in counts.items() if self.predicted[g[-1]]}
            for gram, count in counts.items():
                self.following[gram[:-1]][gram[-1]] = count
            self.discount[k] = [0.0, *modified_discounts(np.array(list(counts.values())))]
        self.row = lru_cache(None)(self._row)

    def _row(self, context: tuple[int, ...]) -> np.ndarray:
        """(V,) p(· | context) for a context of at most n - 1 tokens."""
        lower = self.row(context[1:]) if context else self.predicted / self.predicted.sum()
        if context not in self.following:
            return lower
        counts = np.zeros(len(lower))
        for word, count in self.following[context].items():
            counts[word] = count
        taken = np.take(self.discount[len(context) + 1], np.minimum(counts, 3).astype(int))
        return (counts - taken + taken.sum() * lower) / counts.sum()


@pytest.fixture(scope="session")
def check_env_sb3() -> Callable[[Any], None]:
    """The checker of stable-baselines3; without torch, nothing."""
    if "torch" in MISSING:
        return lambda env: None
    from stable_baselines3.common.env_checker import check_env

    return check_env


@pytest.fixture(scope="session")
def slow_kneser_ney() -> type[SlowKneserNey]:
    """The class."""
    return SlowKneserNey
