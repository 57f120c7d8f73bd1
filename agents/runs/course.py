"""An agent's way through training: seconds spent learning, how far it is, and when it is time to look at it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..dqn.agent import DQN
from ..protocol import Agent


class Course:
    """Runs `learn` of any agent up to an environment-step or a wall-clock budget, whichever comes first.

    Args:
        agent: what learns.
        total_steps: environment steps.
        max_seconds: of learning; None for no limit.
    """

    def __init__(self, agent: Agent, total_steps: int, max_seconds: float | None = None) -> None:
        self.agent = agent
        self.total_steps = total_steps
        self.max_seconds = max_seconds
        self._seconds = 0.0
        self._first = agent.env_steps

    @property
    def seconds(self) -> float:
        """Spent learning, calls of `after_step` left out."""
        return self.agent.learning_seconds if isinstance(self.agent, DQN) else self._seconds

    @property
    def steps(self) -> int:
        """Of `total_steps`; a DQN that learns offline counts those that its updates would have needed."""
        return self.agent.num_steps if isinstance(self.agent, DQN) else self.agent.env_steps - self._first

    @property
    def progress(self) -> float:
        """The part of the course that is done, 0 to 1."""
        if isinstance(self.agent, DQN):
            return self.agent.progress
        spent = self._seconds / self.max_seconds if self.max_seconds else 0.0
        return min(1.0, max(self.steps / self.total_steps, spent))

    def run(self, after_step: Callable[[], bool | None], resume: bool = False) -> None:
        """Learn to the end; `after_step` is called now and then, and ends the course where it returns False.

        Args:
            after_step: takes nothing.
            resume: go on with the course that a DQN's `load_state_dict` restored.
        """
        if isinstance(self.agent, DQN):
            self.agent.learn(self.total_steps, lambda _: after_step(), resume=resume, max_seconds=self.max_seconds)
            return
        began = time.perf_counter()

        def callback(_: Any) -> bool:
            nonlocal began
            self._seconds += time.perf_counter() - began
            goes_on = after_step() is not False and self.progress < 1.0
            began = time.perf_counter()
            return goes_on

        self.agent.learn(self.total_steps, callback)
        self._seconds += time.perf_counter() - began
