"""Policies as an evaluation meets them: an agent of any kind, uniform at random, or the target distribution itself."""

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
    """Uniform over the valid tokens, or p*, in the form of a `Reader` (temperature 1).

    Args:
        running: the episodes it acts in.
        target: p*; uniform otherwise.
    """

    def __init__(self, running: Episodes, target: bool) -> None:
        self._running, self._target = running, target

    def values(self, valid: Tensor | None = None) -> Tensor:
        """(B, V) log-probabilities, nats; for the uniform policy up to a constant."""
        if self._target:
            return torch.from_numpy(self._running.target_log_probs())
        masks = torch.from_numpy(self._running.action_masks()) if valid is None else valid
        return torch.where(masks, 0.0, -torch.inf)

    def step(self, tokens: Tensor) -> None:
        """Nothing to read: the episodes know their texts."""

    def select(self, rows: Tensor) -> None:
        """Not possible: the episodes stay in their rows."""
        raise NotImplementedError("episodes stay in their rows")


def acting_in(policy: Policy, running: Episodes, config: EnvConfig, greedy: bool) -> Reader:
    """What acts in `running`, episodes that have just begun; a token must be read after every step there."""
    if isinstance(policy, str):
        return ReferencePolicy(running, policy == "target")
    prefixes = [row[row != Vocabulary.PAD].tolist() for row in running.observe()]
    return policy.acting_reader(prefixes, config, greedy)


def write_ids(
    agent: BaseAgent, world: World, config: EnvConfig, prompts: Prefixes, how: Decoding, seed: int, count: int = 1
) -> list[str]:
    """`count` texts after each prompt, which is given as ids with `<bos>`."""

    def read(prefixes: Prefixes) -> Reader:
        return agent.reader(prefixes, config, greedy=how.temperature == 0.0)

    return write_texts(read, world.tokenizer, config, prompts, count, how, seed)


@torch.no_grad()
def log_likelihood(agent: BaseAgent, config: EnvConfig, forced: Forced, temperature: float) -> float:
    """Sum of log π over the scored actions of `forced`, nats.

    A minimum length does not make `<eos>` invalid here: the question is how likely the policy finds the text.
    """
    rows, steps = np.nonzero(forced.scored)
    columns = forced.prompt_lengths[rows] - 1 + steps
    chosen = torch.from_numpy(forced.actions[rows, steps])
    tau, total, done = agent.policy_temperature(temperature), 0.0, 0
    width = int((forced.tokens != Vocabulary.PAD).sum(1).max())
    for values in agent.values_at(forced.tokens[:, :width], rows, columns, config):
        actions = chosen[done : done + len(values), None].to(values.device)
        total += float(torch.log_softmax(values / tau, -1).gather(1, actions).cpu().double().sum())
        done += len(values)
    return total
