"""Running the environment along given documents, many at a time."""

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
    """Episodes in which every action is the document's own next token.

    Args:
        tokens: (R, P + T) int64: the prompt's window with `<bos>`, then what was appended, right-padded.
        prompt_lengths: (R,) tokens of that window, `<bos>` included.
        actions: (R, T) the tokens written.
        rewards: (R, T) as the environment pays them, nats.
        log_probs: (R, T) log p*(action | s), nats; 0 where not `scored`.
        scored: (R, T) bool, actions that could be chosen. Only with `skip_invalid` may others lie between them.
        lengths: (R,) actions.
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
    """Write the documents `rows` of `split` from token `starts` on, until they end or the episode does.

    Args:
        world: the world.
        config: the episode's rules.
        split: whose documents.
        rows: (R,) documents; one may occur several times.
        starts: (R,) tokens of each that are the prompt.
        skip_invalid: append a token that may not be chosen (`<unk>`) unscored and go on, as scoring a text wants;
            otherwise it ends the episode as a truncation, as replay wants.
    """
    documents = world.documents[split]
    config = dataclasses.replace(config, split=split)
    if skip_invalid:  # the document's own token is then appended whatever is chosen
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
    # An episode cut short by an invalid token still owes what it has not paid; its last action pays it.
    owing = np.flatnonzero((episodes.unpaid != 0.0) & (lengths > 0))
    arrays["rewards"][owing, lengths[owing] - 1] += episodes.unpaid[owing]

    prompt = np.minimum(starts + 1, config.context_length)
    first = config.context_length - prompt
    columns = first[:, None] + np.arange(prompt.max() + horizon)
    tokens = np.take_along_axis(episodes.history, np.minimum(columns, episodes.history.shape[1] - 1), axis=1)
    tokens[np.arange(tokens.shape[1]) >= (prompt + lengths)[:, None]] = Vocabulary.PAD
    return Forced(tokens, prompt, actions, arrays["rewards"], arrays["log_probs"], scored, lengths, ended)
