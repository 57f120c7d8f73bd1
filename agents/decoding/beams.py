"""Beam search with action values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...envs import Vocabulary
from ..acting.choosing import over_temperature
from .options import Decoding
from .readers import Reader


@dataclass(frozen=True)
class Hypothesis:
    """A finished text of a beam search.

    Args:
        ids: new tokens, including `<eos>` if the text ends with it.
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

    The score of a hypothesis is Σ_t log π(a_t | s_t), π ∝ exp(Q/τ), in nats. At τ = 0, where π is deterministic, it is
    Σ_t (Q(s_t, a_t) - max Q(s_t, ·)). If Q satisfies its Bellman equation with γ = 1, then V(s_0) +
    Σ_t (Q(s_t, a_t) - V(s_t)) is the reward so far plus the value of the current state, and Q - V = τ log π. So
    hypotheses are ranked by reward so far plus expected reward to go, without rewards from the environment. Finished
    texts are ranked by score / (number of tokens)^α, α = `how.length_penalty`. At `horizon` tokens a text is finished.

    `<eos>` is tried after every hypothesis, even if it is not among the best continuations. With as many beams as there
    are texts the result is exact. The score with one beam is never below that of the greedy text (α = 0).

    Args:
        reader: has one row for each prompt.
        prompts: P.
        horizon: T, most new tokens.
        how: beams, temperature and length_penalty.
        is_over: whether the text (index of the prompt, new ids) has ended, for stop strings.
    """
    width, penalty = how.beams, how.length_penalty
    ended: list[list[Hypothesis]] = [[] for _ in range(prompts)]
    scores = torch.zeros((prompts, 1), dtype=torch.float64)  # (P, w) of unfinished hypotheses, -inf in empty beams
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
            hope = max(hope / (length + 1) ** penalty, hope / horizon**penalty)  # upper bound, since scores only fall
            if len(found) == width and found[-1].score >= hope:
                scores[prompt] = -torch.inf
        if not (scores > -torch.inf).any():
            break
        rows = torch.arange(prompts)[:, None] * (len(gains) // prompts) + parents
        reader.select(rows.flatten().to(device))
        reader.step(tokens.flatten().to(device))
    return ended


def _gains(values: Tensor, temperature: float) -> Tensor:
    """(N, V) log π, or at τ = 0 the advantage Q - max Q; at most 0, and -inf for actions that are not valid."""
    if temperature > 0.0:
        return torch.log_softmax(over_temperature(values, temperature), -1)
    return values - values.amax(-1, keepdim=True)


def _keep(
    ended: list[list[Hypothesis]], written: Tensor, scores: Tensor, length: int, how: Decoding, last: int | None = None
) -> None:
    """Add the texts (P, w, t) with finite scores (P, w) to the finished ones, and keep the best `how.beams`, sorted."""
    for prompt, beam in (scores > -torch.inf).nonzero().tolist():
        ids = written[prompt, beam].tolist() + ([] if last is None else [last])
        ended[prompt].append(Hypothesis(ids, float(scores[prompt, beam]) / length**how.length_penalty))
    for found in ended:
        found.sort(key=lambda hypothesis: -hypothesis.score)
        del found[how.beams :]
