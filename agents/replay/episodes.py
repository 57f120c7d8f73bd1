"""Replay of whole episodes: every token and reward is stored once, and no prefixes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..devices import require_free


@dataclass
class EpisodeBatch:
    """Episodes in right-padded rows.

    Column j is the state after tokens[:, : j + 1]: actions[:, j] was chosen there and has the reward rewards[:, j].

    Args:
        tokens: (B, L + 1) int64: the prompt (with `<bos>`), then the new tokens.
        actions: (B, L) int64; equals tokens[:, 1:] unless the transition is "teacher" or phrases are written.
        rewards: (B, L) float32, nats.
        log_probs: (B, L) float32: log-probability of the action under the behaviour policy; None if not stored.
        is_action: (B, L) bool, False in the prompt, within a phrase, and on padding.
        terminal: (B, L) bool, True where the action terminated the episode (truncation does not count).
        written: (B, L) int64, new tokens before the action.
        rows: (B,) int64, the sampler's numbers of the episodes; None without priorities.
        weights: (B,) float32, importance weights; None if all are 1.
        expected_actions: expected number of actions in a batch; None if unknown.
        num_actions: N, the number of actions, so that counting them needs no synchronisation; None if unknown.
        durations: (B, L) int64, tokens that each action writes, the first of them in the next column. The next state is
            `durations` columns further, and the reward is Σ γ^i r_i over these tokens. None if every action writes one
            token.
    """

    tokens: Tensor
    actions: Tensor
    rewards: Tensor
    is_action: Tensor
    terminal: Tensor
    written: Tensor
    rows: Tensor | None = None
    weights: Tensor | None = None
    expected_actions: float | None = None
    num_actions: int | None = None
    durations: Tensor | None = None
    log_probs: Tensor | None = None

    @property
    def action_index(self) -> Tensor:
        """(N,) int64, indices of the actions in the flattened (B, L)."""
        at = self.is_action.flatten()
        if self.num_actions is None:
            return at.nonzero().squeeze(1)
        return at.nonzero_static(size=self.num_actions).squeeze(1)

    def divisor(self, count: int) -> float:
        """What the sum of the losses of a batch's `count` actions is divided by: `expected_actions`.

        The episodes of a batch have similar lengths. Division by the batch's own number of actions would give actions
        in short texts more weight. Division by the expected number gives all the same weight and unbiased gradients.
        """
        return self.expected_actions or count

    def mean(self, losses: Tensor) -> Tensor:
        """Mean of (N,) losses, one per action: their sum over `divisor`."""
        return losses.sum() / self.divisor(len(losses))


class EpisodeReplay:
    """Ring buffer of the last `capacity` episodes, with 16-bit ids for small vocabularies.

    Tokens and rewards are on the learner's device. Values per episode (lengths, terminated) are on the CPU, so that the
    shape of a batch is known without synchronisation.

    Args:
        capacity: episodes kept; new ones replace the oldest. ValueError if it exceeds the device's free memory.
        prompt_size: longest prompt in tokens, `<bos>` included.
        max_new_tokens: most actions in an episode.
        vocab_size: V; with phrases V + P.
        keeps_actions: store actions and tokens separately, for the transition "teacher" and for phrases.
        keeps_durations: store the number of tokens that each action writes, for phrases.
        keeps_log_probs: store log-probabilities of the behaviour policy, for losses that use them.
        device: of the stored episodes.
    """

    def __init__(
        self,
        capacity: int,
        prompt_size: int,
        max_new_tokens: int,
        vocab_size: int,
        *,
        keeps_actions: bool = False,
        keeps_durations: bool = False,
        keeps_log_probs: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        ids = torch.int16 if vocab_size <= 1 << 15 else torch.int32
        columns = (prompt_size + max_new_tokens) + max_new_tokens * (keeps_actions + keeps_durations)
        needed = capacity * (
            columns * ids.itemsize + max_new_tokens * 4 * (1 + keeps_log_probs) + 17 + 8 * keeps_durations
        )
        require_free(needed, f"a replay of {capacity:,} episodes", "lower replay_capacity", device)
        self.capacity = capacity
        self.prompt_size = prompt_size
        self.max_new_tokens = max_new_tokens
        self.tokens = torch.zeros((capacity, prompt_size + max_new_tokens), dtype=ids, device=device)
        self.actions = torch.zeros((capacity, max_new_tokens), dtype=ids, device=device) if keeps_actions else None
        self.durations = torch.zeros((capacity, max_new_tokens), dtype=ids, device=device) if keeps_durations else None
        self.rewards = torch.zeros((capacity, max_new_tokens), dtype=torch.float32, device=device)
        self.log_probs = torch.zeros_like(self.rewards) if keeps_log_probs else None
        self.prompt_lengths = torch.zeros(capacity, dtype=torch.int64)
        self.lengths = torch.zeros(capacity, dtype=torch.int64)
        self.terminated = torch.zeros(capacity, dtype=torch.bool)
        self.decisions = torch.zeros(capacity, dtype=torch.int64) if keeps_durations else None
        self.size = 0
        self.added = 0
        self.num_transitions = 0

    def __len__(self) -> int:
        return self.size

    @property
    def device(self) -> torch.device:
        """Device of the stored episodes."""
        return self.tokens.device

    @property
    def num_bytes(self) -> int:
        """Memory of the stored arrays, in bytes."""
        return sum(t.numel() * t.element_size() for t in self._arrays().values())

    def add(
        self,
        tokens: Tensor,
        actions: Tensor,
        rewards: Tensor,
        prompt_lengths: Tensor,
        lengths: Tensor,
        terminated: Tensor,
        durations: Tensor | None = None,
        log_probs: Tensor | None = None,
    ) -> None:
        """Insert R episodes.

        Args:
            tokens: (R, prompt_size + max_new_tokens) prompt, then new tokens, then padding.
            actions: (R, max_new_tokens).
            rewards: (R, max_new_tokens), nats.
            prompt_lengths: (R,) tokens of the prompt, `<bos>` included.
            lengths: (R,) new tokens; without phrases also the number of actions.
            terminated: (R,) bool, False if the episode was truncated.
            durations: (R, max_new_tokens) tokens that each action writes, 0 within a phrase; required with
                `keeps_durations`.
            log_probs: (R, max_new_tokens) under the behaviour policy; required with `keeps_log_probs`.
        """
        count = len(lengths)
        if count > self.capacity:
            raise ValueError(
                f"{count} episodes do not fit into a replay of {self.capacity}; use a larger replay_capacity"
            )
        rows = (self.added + torch.arange(count)) % self.capacity
        lengths = lengths.cpu()
        counts, before = lengths, self.lengths[rows]
        if self.decisions is not None and self.durations is not None:
            if durations is None:
                raise ValueError("this replay keeps durations; pass the number of tokens that each action writes")
            counts, before = (durations > 0).sum(1).cpu(), self.decisions[rows]
            self.decisions[rows] = counts
            self.durations[rows.to(self.device)] = durations.to(self.durations)
        self.num_transitions += int(counts.sum()) - int(before.sum())
        self.prompt_lengths[rows] = prompt_lengths.cpu()
        self.lengths[rows] = lengths
        self.terminated[rows] = terminated.cpu()
        there = rows.to(self.device)
        self.tokens[there] = tokens.to(self.tokens)
        if self.actions is not None:
            self.actions[there] = actions.to(self.actions)
        self.rewards[there] = rewards.to(self.rewards)
        if self.log_probs is not None:
            if log_probs is None:
                raise ValueError("this replay keeps log-probabilities; pass those of the behaviour policy")
            self.log_probs[there] = log_probs.to(self.log_probs)
        self.added += count
        self.size = min(self.capacity, self.size + count)

    def num_actions(self, rows: Tensor) -> Tensor:
        """(B,) numbers of actions in the episodes `rows` (B,), int64 on the CPU."""
        return (self.lengths if self.decisions is None else self.decisions)[rows]

    def rows(self, rows: Tensor) -> EpisodeBatch:
        """The episodes `rows` (B,), int64 on the CPU, as a batch on the replay's device."""
        prompt, length, terminated = self.prompt_lengths[rows], self.lengths[rows], self.terminated[rows]
        width = int((prompt + length).max())
        num_actions = int(self.num_actions(rows).sum())
        rows, prompt, length, terminated = (
            a.to(self.device, non_blocking=True) for a in (rows, prompt, length, terminated)
        )
        tokens = self.tokens[rows, :width].long()
        column = torch.arange(width - 1, device=rows.device)
        written = column - (prompt - 1)[:, None]  # (B, L), index of the action chosen in each column
        is_action = (written >= 0) & (written < length[:, None])
        place = written.clamp(0, self.max_new_tokens - 1)
        after, durations = written + 1, None
        if self.durations is not None:
            durations = self.durations[rows].long().gather(1, place) * is_action
            is_action, after = durations > 0, written + durations
        actions = tokens[:, 1:] if self.actions is None else self.actions[rows].long().gather(1, place)
        return EpisodeBatch(
            tokens=tokens,
            actions=actions,
            rewards=self.rewards[rows].gather(1, place) * is_action,
            is_action=is_action,
            terminal=is_action & (after == length[:, None]) & terminated[:, None],
            written=written.clamp(min=0),
            num_actions=num_actions,
            durations=durations,
            log_probs=None if self.log_probs is None else self.log_probs[rows].gather(1, place) * is_action,
        )

    def _arrays(self) -> dict[str, Tensor]:
        arrays = {
            "tokens": self.tokens,
            "actions": self.actions,
            "rewards": self.rewards,
            "log_probs": self.log_probs,
            "prompt_lengths": self.prompt_lengths,
            "lengths": self.lengths,
            "terminated": self.terminated,
            "durations": self.durations,
            "decisions": self.decisions,
        }
        return {name: array for name, array in arrays.items() if array is not None}

    def state_dict(self) -> dict[str, Any]:
        """All episodes and counters."""
        arrays = {name: array[: self.size].clone() for name, array in self._arrays().items()}
        return {**arrays, "added": self.added, "num_transitions": self.num_transitions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`; ValueError if capacity or shapes do not match."""
        self.size = len(state["lengths"])
        if self.size > self.capacity:
            raise ValueError(
                f"the saved replay has {self.size} episodes, more than the capacity {self.capacity} of this one"
            )
        for name, array in self._arrays().items():
            if array.shape[1:] != state[name].shape[1:]:
                raise ValueError(
                    f"the saved replay has {name} of shape {tuple(state[name].shape[1:])}, not {tuple(array.shape[1:])}"
                )
            array[: self.size] = state[name]
        self.added = int(state["added"])
        self.num_transitions = int(state["num_transitions"])


def concatenate(batches: list[EpisodeBatch]) -> EpisodeBatch:
    """Concatenate batches, padded to the widest. A field that is None in one of them is None in the result."""
    if len(batches) == 1:
        return batches[0]
    width = max(b.tokens.shape[1] for b in batches)

    def joined(name: str) -> Tensor | float | None:
        parts = [getattr(b, name) for b in batches]
        if any(p is None for p in parts):
            return None
        if isinstance(parts[0], int | float):
            return sum(parts)
        if parts[0].dim() == 1:  # one value per episode: no padding
            return torch.cat(parts)
        wanted = width - (name != "tokens")
        return torch.cat([torch.nn.functional.pad(p, (0, wanted - p.shape[1])) for p in parts])

    arrays: dict[str, Any] = {f.name: joined(f.name) for f in fields(EpisodeBatch)}
    return EpisodeBatch(**arrays)
