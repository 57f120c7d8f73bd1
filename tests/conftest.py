"""Shared by all tests: one thread each (they run side by side), a small corpus, a tiny environment."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tokenlm.envs import EnvConfig

try:
    import torch

    torch.set_num_threads(1)
except ImportError:  # the environment needs no torch
    pass
# How long an example takes says nothing about whether it is right, least of all on a busy machine.
settings.register_profile("tokenlm", deadline=None)
settings.load_profile("tokenlm")

ANIMALS = ("cat", "dog", "bird", "horse", "cow", "fish")
VERBS = ("sees", "likes", "hears", "finds")


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    """144 distinct short sentences."""
    return tuple(f"the {a} {v} the {b}" for a in ANIMALS for v in VERBS for b in ANIMALS)


@pytest.fixture(scope="session")
def corpus(sentences: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the sentences, one on each line."""
    path = tmp_path_factory.mktemp("corpus") / "animals.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny(sentences: tuple[str, ...]) -> EnvConfig:
    """An environment on the small corpus: 11 words, texts of five of them."""
    return EnvConfig(corpus=sentences, tokenizer="word", max_new_tokens=8, context_length=12, prompt_length=(0, 2))
