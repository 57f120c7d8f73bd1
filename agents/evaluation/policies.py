"""Policies to evaluate: an agent, the uniform policy, or the target distribution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...envs import EnvConfig, Episodes, Vocabulary, World
from ...envs.forced import Forced
from ..decoding import ByToken, Decoding, Prefixes, Reader, write_texts
from ..protocol import BaseAgent

Policy = BaseAgent | str  # an agent, "random" (uniform over the valid actions) or "target" (p* itself)


def world_of(agent: BaseAgent, env: EnvConfig | None = None) -> tuple[World, EnvConfig]:
    """The world to evaluate `agent` in: that of `env`, else the agent's own."""
    if env is not None:
        return World.of(env), env
    if agent.world is None:
        raise ValueError(
            "this agent has no environment to be evaluated in; pass env=…, or load it with DQN.load(path, env=…)"
        )
    return agent.world, agent.env_config


class ReferencePolicy(ByToken):
    """The uniform policy over valid tokens, or p*, with the interface of a `Reader` (at τ = 1).

    Args:
        running: the episodes it acts in.
        target: p* if True, else the uniform policy.
    """

    def __init__(self, running: Episodes, target: bool) -> None:
        self._running, self._target = running, target

    def values(self, valid: Tensor | None = None) -> Tensor:
        """(B, V) log-probabilities, nats; unnormalised for the uniform policy."""
        if self._target:
            return torch.from_numpy(self._running.target_log_probs())
        masks = torch.from_numpy(self._running.action_masks()) if valid is None else valid
        return torch.where(masks, 0.0, -torch.inf)

    def step(self, tokens: Tensor) -> None:
        """No effect: the episodes have the texts."""

    def select(self, rows: Tensor) -> None:
        """Not supported."""
        raise NotImplementedError("a ReferencePolicy cannot select rows")


def acting_in(policy: Policy, running: Episodes, config: EnvConfig, greedy: bool) -> Reader:
    """The reader that acts in the new episodes `running`; call its `step` after every step of the episodes."""
    if isinstance(policy, str):
        return ReferencePolicy(running, policy == "target")
    prefixes = [row[row != Vocabulary.PAD].tolist() for row in running.observe()]
    return policy.acting_reader(prefixes, config, greedy)


def write_ids(
    agent: BaseAgent, world: World, config: EnvConfig, prompts: Prefixes, how: Decoding, seed: int, count: int = 1
) -> list[str]:
    """`count` texts after each prompt, given as ids that start with `<bos>`."""

    def read(prefixes: Prefixes) -> Reader:
        return agent.reader(prefixes, config, greedy=how.temperature == 0.0)

    return write_texts(read, world.tokenizer, config, prompts, count, how, seed)


@torch.no_grad()
def log_likelihood(agent: BaseAgent, config: EnvConfig, forced: Forced, temperature: float) -> float:
    """Sum of log π over the scored actions of `forced`, nats.

    `<eos>` is valid even before `min_new_tokens`, because documents may be shorter.
    """
    rows, steps = np.nonzero(forced.scored)
    columns = forced.prompt_lengths[rows] - 1 + steps
    chosen = torch.from_numpy(forced.actions[rows, steps])
    tau, total, done = agent.policy_temperature(temperature), 0.0, 0
    width = int((forced.tokens != Vocabulary.PAD).sum(1).max())
    written = steps if config.form else None
    for values in agent.values_at(forced.tokens[:, :width], rows, columns, config, written):
        actions = chosen[done : done + len(values), None].to(values.device)
        total += float(torch.log_softmax(values / tau, -1).gather(1, actions).cpu().double().sum())
        done += len(values)
    return total
