"""How learning begins: the head at the frequencies of the corpus, and pretraining by maximum likelihood."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from ..replay.episodes import EpisodeReplay
from ..replay.sampling import BatchSampler
from . import losses
from .config import AgentConfig
from .learner import Learner
from .optimizer import Optimizer
from .update import Update

_NORMALISER = 0.1  # α of self-normalisation (Devlin et al. 2014, sec. 4)
_BLOCK = 4_096  # episodes counted together
_READ = 64  # episodes read to see how a state looks


def start_at_frequencies(learner: Learner, corpus: EpisodeReplay, weight: float) -> None:
    """Let the outputs of the action head begin at weight·log u(a), u being the frequencies of the corpus's actions.

    The mean of log p*(a | s) is near log u(a), so the first values of frequent and rare tokens differ by what they must
    (8 nats and more), which gradient steps would take long to find. Every action counts once more than it occurs.

    Args:
        learner: its networks have not learned yet.
        corpus: episodes whose actions are counted.
        weight: factor of log u; that of log p* in the reward, 1 for logits of a language model.
    """
    network = learner.network
    counts = torch.ones(network.num_actions, dtype=torch.float64)
    for rows in torch.arange(len(corpus)).split(_BLOCK):
        batch = corpus.rows(rows)
        counts += torch.bincount(batch.actions[batch.is_action].cpu(), minlength=len(counts))
    values = weight * torch.log(counts / counts.sum()) + network.heads.initial_value
    network.start_at(values, corpus.rows(torch.arange(min(len(corpus), _READ))).tokens)
    learner.take_network()


def pretrain(
    learner: Learner,
    config: AgentConfig,
    corpus: EpisodeReplay,
    generator: torch.Generator,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Train a learner's network by cross-entropy on `config.pretrain` transitions of corpus episodes.

    Cross-entropy does not fix a constant in every state. A penalty on log² Σ exp(logits) makes the logits
    log-probabilities (Devlin et al. 2014, "Fast and robust neural network joint models for statistical machine
    translation", sec. 4). At τ = 1 and with log-likelihood rewards these are both the action values and the rewards:
    the action head begins with them, and with `redistribute` the reward head too.

    Args:
        learner: its networks have not learned yet; both end with the trained weights.
        config: its pretrain, batch_size, optimizer and learning_rate are used.
        corpus: episodes to learn from.
        generator: source of randomness for the batches, on the CPU.
        goes_on: called before every update; False ends pretraining.
    """
    network = learner.network
    optimizer = Optimizer(network, config.optimizer, config.learning_rate(0.0))
    sampler = BatchSampler(None, corpus, config.batch_size, 1.0, generator)
    backup = dataclasses.replace(learner.backup, temperature=1.0)
    network.train()
    done = 0
    while done < config.pretrain and goes_on():
        batch = sampler.sample()
        if batch is None:
            break
        update = Update(batch, network, network, learner.valid_actions, backup)
        taken, log_mass = update.online.head_of_taken(network.head, 1.0)
        loss = losses.cross_entropy(taken, log_mass) + _NORMALISER * log_mass.square()
        optimizer.zero_grad()
        batch.mean(loss).backward()
        optimizer.step(config.learning_rate(0.0))
        done += len(update.index)
    if isinstance(network.behaviour_head, nn.Linear):
        network.behaviour_head.load_state_dict(network.head.state_dict())
    if isinstance(network.reward_head, nn.Linear):
        network.reward_head.load_state_dict(network.head.state_dict())
    learner.take_network()
