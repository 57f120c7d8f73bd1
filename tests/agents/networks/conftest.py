"""Texts of two parts, for encoder–decoder networks."""

import pytest
import torch

from tokenlm.agents.replay.episodes import EpisodeReplay
from tokenlm.envs import Vocabulary


@pytest.fixture(scope="session")
def pairs() -> EpisodeReplay:
    """A replay of eight texts over 16 tokens, with sources of one to three tokens and targets of four."""
    replay = EpisodeReplay(8, 5, 4, 16)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 16, (8, 9), generator=generator)
    tokens[:, 0] = Vocabulary.BOS
    starts = torch.arange(8) % 3 + 2
    tokens[torch.arange(8), starts] = Vocabulary.SEP
    replay.add(
        tokens=tokens * (torch.arange(9) <= starts[:, None] + 4),
        actions=torch.stack([row[start + 1 : start + 5] for row, start in zip(tokens, starts, strict=True)]),
        rewards=-torch.rand(8, 4, generator=generator), prompt_lengths=starts + 1,
        lengths=torch.full((8,), 4), terminated=torch.ones(8, dtype=torch.bool),
    )  # fmt: skip
    return replay
