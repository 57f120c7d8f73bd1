"""A policy along held-out documents: calibration, and learned against exact advantages of their tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, Episodes, Split, Vocabulary
from ..protocol import Agent, complete
from .playing import OptimalPolicy, log_policy_of
from .policies import acting_in, world_of

Floats = npt.NDArray[np.float64]

EDGES = np.concatenate([[0.0], np.logspace(-6, 0, 25)])  # of the bins of probability; the last is 1


@dataclass(frozen=True)
class Calibration:
    """Probabilities in bins, over all valid tokens at all places of the documents.

    Args:
        count: (K,) tokens whose π lies in the bin.
        policy: (K,) their mean π.
        target: (K,) their mean p*.
        frequency: (K,) how often the document went on with such a token.
    """

    count: Floats
    policy: Floats
    target: Floats
    frequency: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean |π - frequency| of the bins, weighted by the π in them."""
        weight = self.count * self.policy
        return float((np.abs(self.policy - self.frequency) * weight).sum() / weight.sum())


@dataclass(frozen=True)
class Credit:
    """Advantages of the documents' tokens, nats, in the order of the documents.

    Args:
        document: (N,) int64, number of the document.
        place: (N,) int64, tokens written before.
        token: (N,) int64.
        learned: (N,) τ log π(a|s), the soft advantage A(s, a) = Q(s, a) - V(s) that the policy stands for.
        exact: (N,) A*(s, a) = τ log π*(a|s).
    """

    document: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    token: npt.NDArray[np.int64]
    learned: Floats
    exact: Floats

    def by_place(self) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """(T,) places, (T,) mean of learned - exact there, (T,) root of its mean square."""
        error = self.learned - self.exact
        places = np.unique(self.place)
        parts = [error[self.place == place] for place in places]
        return places, np.array([p.mean() for p in parts]), np.array([np.sqrt((p**2).mean()) for p in parts])


@torch.no_grad()
def along_documents(
    agent: Agent,
    split: Split = "valid",
    limit: int = 200,
    temperature: float | None = None,
    env: EnvConfig | None = None,
) -> tuple[Calibration, Credit | None]:
    """Calibration of a policy at every place of the first `limit` documents of `split`, and its advantages there.

    Every document is written from its shortest prompt on, up to `max_new_tokens` or a token that is not valid.

    Args:
        agent: of any algorithm.
        split: of the documents.
        limit: documents.
        temperature: τ of the policy and of the optimum; the agent's own if None.
        env: the environment's arguments; required for an agent that does not know its environment.

    Returns: the calibration; the credit, None where the exact optimum is unknown.

    Raises ValueError at τ = 0, where a policy has no probabilities, and for an agent that acts by phrases.
    """
    agent = complete(agent, env)
    world, config = world_of(agent, env)
    tau = agent.policy_temperature(temperature)
    if tau <= 0.0:
        raise ValueError("a greedy policy has no probabilities to calibrate; give a temperature above 0")
    objective = agent.temperature if temperature is None else tau
    config = dataclasses.replace(config, split=split)
    documents = world.documents[split]
    rows = np.arange(min(limit, len(documents)))
    begin, end, first = documents.offsets[rows], documents.offsets[rows + 1], documents.shortest_prompt[rows]
    running = Episodes(world, config, len(rows))
    running.start_from(rows, documents.tokens, begin, end, first)
    reader = acting_in(agent, running, config, greedy=False)
    if not reader.by_token:
        raise ValueError("an agent that acts by phrases has no probabilities of tokens to calibrate")
    optimal = OptimalPolicy(world, config, objective)
    sums, credit = np.zeros((4, len(EDGES) - 1)), [np.zeros((5, 0))]
    active = np.ones(len(rows), np.bool_)
    for step in range(config.max_new_tokens):
        place = begin + first + step
        wanted = np.where(place < end, documents.tokens[np.minimum(place, len(documents.tokens) - 1)], Vocabulary.EOS)
        active = active & running.is_valid(wanted)
        if not active.any():
            break
        masks = running.action_masks()
        log_policy = log_policy_of(reader.values(torch.from_numpy(masks)).cpu(), tau).numpy()
        _count(sums, log_policy[active], running.target_log_probs()[active], masks[active], wanted[active])
        if optimal.known:
            here = np.flatnonzero(active)
            learned, exact = (objective * log[here, wanted[here]] for log in (log_policy, optimal.log_probs(running)))
            credit.append(np.stack([rows[here], np.full(len(here), step), wanted[here], learned, exact]))
        tokens = np.where(active, wanted, world.words[0])
        _, terminated, truncated, _ = running.step(tokens, active)
        active = active & ~(terminated | truncated)
        if active.any():
            reader.step(torch.from_numpy(tokens))
    if not sums[0].any():
        raise ValueError(f"no token of the {split} documents can be written; use words of the corpus")
    count = np.maximum(sums[0], 1.0)
    calibration = Calibration(sums[0], *(row / count for row in sums[1:]))
    if not optimal.known:
        return calibration, None
    document, written, token, learned, exact = np.concatenate(credit, axis=1)
    counted = {"document": document, "place": written, "token": token}
    whole = {name: values.astype(np.int64) for name, values in counted.items()}
    return calibration, Credit(**whole, learned=learned, exact=exact)


def _count(sums: Floats, log_policy: Floats, log_target: Floats, masks: npt.NDArray[np.bool_], chosen: Any) -> None:
    """Add the valid tokens of (B, V) states to the (4, K) sums: count, π, p*, and whether the token was chosen."""
    policy, target = np.exp(log_policy[masks]), np.exp(log_target[masks])
    hit = (np.arange(masks.shape[1]) == chosen[:, None])[masks]
    bins = np.digitize(policy, EDGES[1:-1])
    for row, weights in zip(sums, (None, policy, target, hit), strict=True):
        row += np.bincount(bins, weights, len(row))
