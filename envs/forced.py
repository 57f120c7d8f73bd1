"""Episodes along given documents (teacher forcing), batched."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Ints
from .config import EnvConfig, Split
from .episodes import Episodes
from .text import Vocabulary
from .world import World


@dataclass(frozen=True)
class Forced:
    """Episodes in which every action is the next token of a document.

    Args:
        tokens: (R, P + T) int64: the first observation without padding, then the appended tokens, right-padded.
        prompt_lengths: (R,) tokens of that observation, `<bos>` included.
        actions: (R, T) the tokens written.
        rewards: (R, T) rewards of the environment.
        log_probs: (R, T) log p*(action | s), nats; 0 if not `scored`.
        scored: (R, T) bool, valid actions. With `skip_invalid`, invalid ones may lie between them.
        lengths: (R,) number of actions.
        terminated: (R,) bool.
    """

    tokens: Ints
    prompt_lengths: Ints
    actions: Ints
    rewards: npt.NDArray[np.float64]
    log_probs: npt.NDArray[np.float64]
    scored: npt.NDArray[np.bool_]
    lengths: Ints
    terminated: npt.NDArray[np.bool_]


def force(
    world: World, config: EnvConfig, split: Split, rows: Ints, starts: Ints, *, skip_invalid: bool = False
) -> Forced:
    """Write the documents `rows` of `split` from token `starts` on, until document or episode end.

    Args:
        world: tokenizer, documents and target.
        config: the environment's arguments; `split` replaces its own.
        split: the split of the documents.
        rows: (R,) indices of documents, with repetition allowed.
        starts: (R,) tokens of each document that are the prompt.
        skip_invalid: append invalid tokens such as `<unk>` without a score and continue, to score a text; otherwise
            they truncate the episode, for replay.
    """
    documents = world.documents[split]
    config = dataclasses.replace(config, split=split)
    if skip_invalid:  # with "teacher" the document's token is appended, valid or not
        config = dataclasses.replace(
            config, transition="teacher", reward_every=1, min_new_tokens=0, log_prob_weight=1.0, sequence_reward=""
        )
    begin, end = documents.offsets[rows], documents.offsets[rows + 1]
    count, horizon = len(rows), config.max_new_tokens
    episodes = Episodes(world, config, count)
    episodes.start_from(np.arange(count), documents.tokens, begin, end, starts)
    arrays: dict[str, Any] = {name: np.zeros((count, horizon)) for name in ("rewards", "log_probs")}
    actions, scored = np.zeros((count, horizon), np.int64), np.zeros((count, horizon), np.bool_)
    lengths, ended, active = np.zeros(count, np.int64), np.zeros(count, np.bool_), np.ones(count, np.bool_)
    stand_in = int(np.flatnonzero(world.valid)[-1])
    for step in range(horizon):
        place = begin + starts + step
        wanted = np.where(place < end, documents.tokens[np.minimum(place, len(documents.tokens) - 1)], Vocabulary.EOS)
        valid = episodes.is_valid(wanted)
        active = active & (valid | (skip_invalid & (place < end)))
        if not active.any():
            break
        reward, terminated, truncated, log_prob = episodes.step(np.where(valid, wanted, stand_in), active)
        actions[:, step] = np.where(active, wanted, Vocabulary.PAD)
        scored[:, step] = active & valid
        arrays["rewards"][:, step] = reward
        arrays["log_probs"][:, step] = np.where(active & valid, log_prob, 0.0)
        lengths += active
        ended |= terminated
        active = active & ~(terminated | truncated)
    # The environment has not paid the pending rewards of an episode cut at an invalid token; the last action gets them.
    owing = np.flatnonzero((episodes.unpaid != 0.0) & (lengths > 0))
    arrays["rewards"][owing, lengths[owing] - 1] += episodes.unpaid[owing]

    prompt = np.minimum(starts + 1, config.context_length)
    first = config.context_length - prompt
    columns = first[:, None] + np.arange(prompt.max() + horizon)
    tokens = np.take_along_axis(episodes.history, np.minimum(columns, episodes.history.shape[1] - 1), axis=1)
    tokens[np.arange(tokens.shape[1]) >= (prompt + lengths)[:, None]] = Vocabulary.PAD
    return Forced(tokens, prompt, actions, arrays["rewards"], arrays["log_probs"], scored, lengths, ended)
