"""Documents of the corpus as episodes, with the rewards that the environment gives for writing them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, Phrases, Vocabulary, World, force
from .episodes import EpisodeReplay

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 4_096  # episodes per batch of the environment


def corpus_replay(
    world: World,
    config: EnvConfig,
    seed: int,
    device: torch.device | str = "cpu",
    phrases: Phrases | None = None,
    gamma: float = 1.0,
) -> EpisodeReplay:
    """A replay with one episode for every training document, and its rewards from the environment.

    They begin where `starts_of_documents` says. With `phrases` each document is split at random into tokens and
    phrases, and `gamma` discounts the rewards within a phrase.
    """
    documents = world.documents["train"]
    rng = np.random.default_rng(seed)
    starts = starts_of_documents(world, config, rng)
    replay = EpisodeReplay(
        capacity=len(documents),
        prompt_size=int(min(starts.max() + 1, config.context_length)),
        max_new_tokens=config.max_new_tokens,
        vocab_size=world.vocab_size if phrases is None else phrases.num_actions,
        keeps_actions=config.transition == "teacher" or phrases is not None,
        keeps_durations=phrases is not None,
        device=device,
    )
    for first in range(0, len(documents), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(documents)))
        forced = force(world, config, "train", rows, starts[rows])
        kept = forced.lengths > 0
        tokens = np.zeros((len(rows), replay.tokens.shape[1]), np.int64)
        tokens[:, : forced.tokens.shape[1]] = forced.tokens
        actions, rewards = forced.actions, forced.rewards
        durations = np.zeros_like(actions)
        if phrases is not None:
            actions, durations = segment(phrases, actions, forced.lengths, rng)
            rewards = decision_rewards(rewards, durations, gamma)
        arrays = (tokens, actions, rewards.astype(np.float32),
                  forced.prompt_lengths, forced.lengths, forced.terminated, durations)  # fmt: skip
        replay.add(*(torch.from_numpy(a[kept]) for a in arrays))
    return replay


def starts_of_documents(world: World, config: EnvConfig, rng: np.random.Generator) -> Ints:
    """(N,) tokens of each training document that are the prompt when it is written as an episode.

    A document that fits one episode starts after a prompt of random length, as in the environment. A longer one, or one
    with `<unk>` (which truncates the episode), starts at a random position, so that all parts of the corpus occur. A
    pair always starts after its source.
    """
    documents = world.documents["train"]
    starts: Ints = rng.integers(documents.shortest_prompt, documents.longest_prompt + 1)
    if config.has_pairs or config.form:  # a form counts from the prompt
        return starts
    unknown = np.add.reduceat(documents.tokens == Vocabulary.UNK, documents.offsets[:-1]) > 0
    whole = documents.lengths + (config.ending == "eos")  # actions that write it
    broken = unknown | (whole - starts > config.max_new_tokens)
    last = np.where(unknown, documents.lengths - 1, np.maximum(whole - config.max_new_tokens, 0))
    return np.where(broken, np.maximum(rng.integers(0, last + 1), documents.shortest_prompt), starts)


def segment(phrases: Phrases, tokens: Ints, lengths: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Split texts at random into tokens and phrases, so that the values of both are learned.

    At every position where phrases match, a phrase is used with probability ½, chosen uniformly from those that match.

    Args:
        phrases: the phrases.
        tokens: (R, T) texts.
        lengths: (R,) tokens of each text.
        rng: source of randomness.

    Returns: (R, T) actions, and (R, T) durations, the number of tokens that each action writes. Both are 0 within a
    phrase and after the end.
    """
    count, width = tokens.shape
    found = phrases.matches(tokens)
    sizes = np.arange(found.shape[2])
    actions, durations, left = np.zeros_like(tokens), np.zeros_like(tokens), np.zeros(count, np.int64)
    for step in range(width):
        fits = (found[:, step] >= 0) & (step + sizes <= lengths[:, None])
        drawn = np.where(fits, rng.random(fits.shape), -1.0).argmax(1)
        takes = fits.any(1) & (rng.random(count) < 0.5)
        decides = (left == 0) & (step < lengths)
        size = np.where(takes, drawn, 1)
        action = np.where(takes, found[np.arange(count), step, drawn], tokens[:, step])
        actions[:, step] = np.where(decides, action, 0)
        durations[:, step] = np.where(decides, size, 0)
        left = np.maximum(np.where(decides, size, left) - 1, 0)
    return actions, durations


def decision_rewards(rewards: Floats, durations: Ints, gamma: float) -> Floats:
    """The reward Σ γ^i r_i of each decision over the tokens that it writes; 0 where no decision is made.

    Args:
        rewards: (R, T) of the tokens, nats.
        durations: (R, T) tokens that each decision writes, 0 within a phrase and after the end.
        gamma: γ.

    Returns: (R, T) nats.
    Source: Sutton, Precup & Singh 1999, eq. 6, the reward model of an option.
    """
    total = np.zeros_like(rewards)
    for size in range(int(durations.max(initial=0))):
        later = np.pad(rewards[:, size:], ((0, 0), (0, size)))
        total += np.where(durations > size, gamma**size * later, 0.0)
    return total
