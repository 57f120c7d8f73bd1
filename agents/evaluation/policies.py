"""Policies as an evaluation meets them: an agent of any kind, uniform at random, or the target distribution itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, Episodes, Vocabulary, World
from ...envs.forced import Forced
from ..acting.choosing import choose_actions
from ..acting.phrases import Decisions
from ..decoding import Decoding, Prefixes, Reader, WindowReader, prompt_ids, write_texts
from ..dqn.agent import DQN
from ..networks.prefixes import right_padded, windows_at
from ..protocol import Agent

Ints = npt.NDArray[np.int64]
# Episodes as they stand, and a generator, to actions (B,) and log π (B, V) in nats, None where there is none.
Policy = Callable[[Episodes, torch.Generator], tuple[Tensor, "Tensor | None"]]

_CHUNK = 1 << 22  # entries of a (positions, V) block that may live in memory at once
_WINDOWS = 4096  # windows given to an agent at once


def world_of(agent: Agent, env: EnvConfig | None = None) -> tuple[World, EnvConfig]:
    """The world to evaluate `agent` in: that of `env`, else the agent's own."""
    if env is not None:
        return World.of(env), env
    world, config = getattr(agent, "world", None), getattr(agent, "env_config", None)
    if world is None or config is None:
        raise ValueError(
            "this agent has no environment to be evaluated in; pass env=…, or load it with DQN.load(path, env=…)"
        )
    return world, config


def policy_of(agent: Agent | str, running: Episodes, temperature: float) -> Policy:
    """What acts in `running`, episodes that have just begun.

    Args:
        agent: an agent, "random" (uniform over the valid actions) or "target" (p* itself).
        running: the episodes; the policy must be asked once for every token written there.
        temperature: of a DQN's Boltzmann policy; for every policy 0 is greedy. Any other leaves the agents of other
            algorithms the policy they have.
    """
    if isinstance(agent, str):
        return _target if agent == "target" else _random
    if isinstance(agent, DQN):
        return _NetworkPolicy(agent, running, temperature)
    return _WindowPolicy(agent, temperature)


def _random(running: Episodes, generator: torch.Generator) -> tuple[Tensor, None]:
    valid = torch.from_numpy(running.action_masks())
    return choose_actions(torch.where(valid, 0.0, -torch.inf), 1.0, generator=generator)[0], None


def _target(running: Episodes, generator: torch.Generator) -> tuple[Tensor, None]:
    return choose_actions(torch.from_numpy(running.target_log_probs()), 1.0, generator=generator)[0], None


class _NetworkPolicy:
    """A DQN, which carries its state along and reads one token a step.

    Attributes:
        decides: (B,) bool, where the newest token was chosen and not merely the next one of a phrase.
    """

    def __init__(self, agent: DQN, running: Episodes, temperature: float) -> None:
        self.agent = agent
        self.temperature = temperature
        self.network = agent.policy_network.eval()
        prefixes = right_padded(torch.from_numpy(running.observe()))
        self.hidden, self.state = self.network.encode(*(t.to(agent.device) for t in prefixes))
        self.written: Tensor | None = None
        self.decisions = None if agent.phrases is None else Decisions(agent.phrases, running.num_envs)
        self.decides = np.ones(running.num_envs, np.bool_)

    def __call__(self, running: Episodes, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        network = self.network
        if self.written is not None:
            self.hidden, self.state = network.step(self.written, self.state)
        masks = running.action_masks()
        if self.agent.phrases is not None:
            masks = self.agent.phrases.mask(masks, running.written, running.config.min_new_tokens)
        valid = torch.from_numpy(masks)
        values = network.policy_values(self.hidden, valid.to(self.agent.device)).float().cpu()
        actions, _ = choose_actions(values, self.temperature, generator=generator)
        if self.decisions is not None:
            actions, place = self.decisions.write(actions)
            self.decides = (place == 0).numpy()
        self.written = actions.to(self.agent.device)
        if self.temperature == 0.0 or self.decisions is not None:
            return actions, None
        return actions, torch.log_softmax(values.masked_fill(~valid, -torch.inf) / self.temperature, -1).double()


class _WindowPolicy:
    """Any other agent, which reads the whole window at every token."""

    def __init__(self, agent: Agent, temperature: float) -> None:
        self.agent = agent
        self.greedy = temperature == 0.0

    def __call__(self, running: Episodes, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        windows, masks = running.observe(), running.action_masks()
        if self.greedy:
            actions, _ = self.agent.predict(windows, deterministic=True, action_masks=masks)
            return torch.from_numpy(np.asarray(actions, np.int64)), None
        log_pi = torch.from_numpy(np.asarray(self.agent.log_probs(windows, masks), np.float64))
        return choose_actions(log_pi, 1.0, generator=generator)[0], log_pi


def write(
    agent: Agent,
    env: EnvConfig,
    prompts: Sequence[str],
    seed: int,
    temperature: float = 1.0,
    max_new_tokens: int | None = None,
) -> list[str]:
    """A text that continues each prompt, prompt included, written in the environment `env` by an agent of any kind.

    Args:
        agent: what writes.
        env: the environment's arguments.
        prompts: texts, "" for none.
        seed: text number n is drawn with the seed `seed + n`.
        temperature: 0 for greedy, else as in `policy_of`.
        max_new_tokens: longest continuation in tokens; None for the environment's.
    """
    world = World.of(env)
    how = Decoding(temperature, max_new_tokens=max_new_tokens)
    return write_ids(agent, world, env, [prompt_ids(prompt, world.tokenizer, env) for prompt in prompts], how, seed)


def write_ids(
    agent: Agent, world: World, config: EnvConfig, prompts: Prefixes, how: Decoding, seed: int, count: int = 1
) -> list[str]:
    """`count` texts after each prompt, which is given as ids with `<bos>`, by an agent of any kind.

    `how` may ask for everything that `Decoding` knows; a temperature between means only something to a DQN.
    """

    def read(prefixes: Prefixes) -> Reader:
        if isinstance(agent, DQN):
            return agent.reader(prefixes)
        length, greedy = config.context_length, how.temperature == 0.0
        return WindowReader(agent, world.valid, config.min_new_tokens, prefixes, length, greedy)

    return write_texts(read, world.tokenizer, config, prompts, count, how, seed)


@torch.no_grad()
def log_likelihood(agent: Agent, world: World, config: EnvConfig, forced: Forced, temperature: float) -> float:
    """Sum of log π over the scored actions of `forced`, nats.

    No minimum length hides an `<eos>` here: the question is what the policy thinks of a text.
    """
    rows, steps = np.nonzero(forced.scored)
    columns = forced.prompt_lengths[rows] - 1 + steps
    chosen = torch.from_numpy(forced.actions[rows, steps])
    total = 0.0
    if not isinstance(agent, DQN):
        at_once = max(1, min(_WINDOWS, _CHUNK // world.vocab_size))
        for first in range(0, len(rows), at_once):
            part = slice(first, first + at_once)
            windows = windows_at(forced.tokens, rows[part], columns[part], config.context_length)
            log_pi = agent.log_probs(windows, np.tile(world.valid, (len(windows), 1)))
            total += float(np.asarray(log_pi)[np.arange(len(windows)), chosen[part].numpy()].sum())
        return total
    width = int((forced.tokens != Vocabulary.PAD).sum(1).max())
    network = agent.policy_network.eval()
    hidden = network(torch.from_numpy(forced.tokens[:, :width]).to(agent.device))
    rows_at_once = max(1, _CHUNK // network.vocab_size)
    at = hidden[rows, columns].split(rows_at_once)
    for h, a in zip(at, chosen.to(agent.device).split(rows_at_once), strict=True):
        values = network.policy_values(h, agent.rules.valid)
        total += float(torch.log_softmax(values / temperature, -1).gather(1, a[:, None]).cpu().double().sum())
    return total
