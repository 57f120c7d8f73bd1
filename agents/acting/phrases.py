"""Actions that write several tokens: the phrases of an agent, and phrases in progress."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...envs import EnvConfig, Phrases, World, mine_phrases


class Decisions:
    """Executes chosen actions one token per step, in B parallel episodes.

    Args:
        phrases: phrase p is written by action V + p.
        count: B.
        device: of the episodes.
    """

    def __init__(self, phrases: Phrases, count: int, device: torch.device | str = "cpu") -> None:
        self._table = torch.from_numpy(phrases.table).to(device)
        self._lengths = torch.from_numpy(phrases.lengths).to(device)
        self.actions = torch.zeros(count, dtype=torch.int64, device=device)
        self.left = torch.zeros(count, dtype=torch.int64, device=device)

    def write(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The next token of every episode.

        Args:
            chosen: (B,) actions to start; ignored in rows with a phrase in progress.

        Returns: (B,) tokens, and (B,) their index within their action, 0 in rows where `chosen` was started.
        """
        self.actions = torch.where(self.left == 0, chosen, self.actions)
        self.left = torch.where(self.left == 0, self._lengths[chosen], self.left)
        place = self._lengths[self.actions] - self.left
        self.left = self.left - 1
        return self._table[self.actions, place], place

    def interrupt(self, rows: Tensor) -> None:
        """Drop the phrases in progress in (R,) rows, whose episodes are over."""
        self.left[rows] = 0

    def state_dict(self) -> dict[str, Any]:
        """The phrases in progress."""
        return {"actions": self.actions.clone(), "left": self.left.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.actions.copy_(state["actions"])
        self.left.copy_(state["left"])


def make_phrases(
    count: int, length: int, env: EnvConfig, world: World | None, given: Phrases | None = None
) -> Phrases | None:
    """The phrases that are actions of an agent: `given`, or mined from the training documents.

    Args:
        count: phrases to mine; 0 for none.
        length: most tokens in a phrase.
        env: the environment's arguments.
        world: has the documents; may be None if `given` is not.
        given: phrases to use instead of mined ones.

    Raises ValueError for the transition "teacher", and if phrases have to be mined without documents.
    """
    if not count:
        return None
    if env.transition != "free":
        raise ValueError(
            f"phrases need the transition 'free', not {env.transition!r}, which appends the document's own tokens"
        )
    if given is not None:
        return given
    if world is None:
        raise ValueError("phrases are mined from an environment's documents; load a saved agent with DQN.load(path)")
    return mine_phrases(world, env, count, length)
