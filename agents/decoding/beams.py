"""Beam search guided by Q."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...envs import Vocabulary
from .options import Decoding
from .readers import Reader


@dataclass(frozen=True)
class Hypothesis:
    """A text that a search ended with.

    Args:
        ids: tokens written, `<eos>` included where it was written.
        score: see `beam_search`, nats.
    """

    ids: list[int]
    score: float


def beam_search(
    reader: Reader,
    prompts: int,
    horizon: int,
    how: Decoding,
    is_over: Callable[[int, list[int]], bool] | None = None,
) -> list[list[Hypothesis]]:
    """The best texts after each prompt, up to `how.beams` of them, best first.

    A partial text is worth Σ_t log π(a_t | s_t), π ∝ exp(Q/τ), in nats; at τ = 0, where π knows one text only,
    Σ_t (Q(s_t, a_t) - max Q(s_t, ·)). Both are what the Q-network itself expects to be lost: where it obeys its
    Bellman equation with γ = 1, V(s_0) + Σ_t (Q(s_t, a_t) - V(s_t)) is the reward of the tokens written plus the value
    of going on, and Q - V = τ log π. So the order of beams is that of accumulated reward and reward to go, without
    asking the environment for rewards. A text that ended is compared by its score divided by (number of tokens)^α,
    α = `how.length_penalty`; one that reaches `horizon` has ended.

    `<eos>` is tried in every open beam, whether or not it is among the best continuations. With as many beams as there
    are texts the result is exact. A search of one beam never scores below the greedy text (α = 0).

    Args:
        reader: has read one row for each prompt.
        prompts: P.
        horizon: T, most tokens.
        how: beams, temperature and length_penalty.
        is_over: whether a text (number of the prompt, ids written) has ended, as stop strings want it.
    """
    width, penalty = how.beams, how.length_penalty
    ended: list[list[Hypothesis]] = [[] for _ in range(prompts)]
    scores = torch.zeros((prompts, 1), dtype=torch.float64)  # (P, w) of the open beams, -inf where there is none
    written = torch.zeros((prompts, 1, 0), dtype=torch.int64)  # (P, w, t)
    for length in range(1, horizon + 1):
        gains = _gains(reader.values(), how.temperature)
        device = gains.device
        ending = scores + gains[:, Vocabulary.EOS].cpu().double().view(prompts, -1)
        _keep(ended, written, ending, length, how, Vocabulary.EOS)
        gains[:, Vocabulary.EOS] = -torch.inf
        most = min(width, gains.shape[1])
        best, tokens = (part.cpu().view(prompts, scores.shape[1], most) for part in gains.topk(most))
        totals = (scores[:, :, None] + best.double()).flatten(1)
        scores, place = totals.topk(min(width, totals.shape[1]))
        parents, tokens = place // most, tokens.flatten(1).gather(1, place)
        written = torch.cat([written.gather(1, parents[:, :, None].expand(-1, -1, length - 1)), tokens[:, :, None]], 2)
        over = torch.full_like(scores, length == horizon, dtype=torch.bool)
        if is_over is not None:
            for prompt, beam in (scores > -torch.inf).nonzero().tolist():
                over[prompt, beam] |= is_over(prompt, written[prompt, beam].tolist())
        _keep(ended, written, scores.masked_fill(~over, -torch.inf), length, how)
        scores = scores.masked_fill(over, -torch.inf)
        for prompt, found in enumerate(ended):
            hope = float(scores[prompt].max())
            hope = max(hope / (length + 1) ** penalty, hope / horizon**penalty)  # scores only fall
            if len(found) == width and found[-1].score >= hope:
                scores[prompt] = -torch.inf
        if not (scores > -torch.inf).any():
            break
        rows = torch.arange(prompts)[:, None] * (len(gains) // prompts) + parents
        reader.select(rows.flatten().to(device))
        reader.step(tokens.flatten().to(device))
    return ended


def _gains(values: Tensor, temperature: float) -> Tensor:
    """(N, V) log π, or at τ = 0 the advantages over the best action; never above 0, -inf where not valid."""
    if temperature > 0.0:
        return torch.log_softmax(values / temperature, -1)
    return values - values.amax(-1, keepdim=True)


def _keep(
    ended: list[list[Hypothesis]], written: Tensor, scores: Tensor, length: int, how: Decoding, last: int | None = None
) -> None:
    """Put the beams (P, w, t) with a finite score (P, w) among the ended ones, of which the best stay, best first."""
    for prompt, beam in (scores > -torch.inf).nonzero().tolist():
        ids = written[prompt, beam].tolist() + ([] if last is None else [last])
        ended[prompt].append(Hypothesis(ids, float(scores[prompt, beam]) / length**how.length_penalty))
    for found in ended:
        found.sort(key=lambda hypothesis: -hypothesis.score)
        del found[how.beams :]
