"""Learners with a replay of random episodes, for the benchmarks of the update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tokenlm.agents import AgentConfig
from tokenlm.agents.acting.valid_actions import ValidActions
from tokenlm.agents.dqn.learner import Learner
from tokenlm.agents.dqn.ranks import Ranks
from tokenlm.agents.networks.making import make_q_network
from tokenlm.agents.replay.episodes import EpisodeReplay
from tokenlm.envs import EnvConfig, Vocabulary

NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"name": "lstm", "embedding_size": 128, "hidden_size": 256},
    "transformer": {"name": "transformer", "hidden_size": 256, "num_layers": 4, "num_heads": 4},
}


@dataclass(frozen=True)
class Case:
    """Sizes of an update.

    Args:
        network: "lstm" (128 -> 256) or "transformer" (4 blocks of 256).
        vocab_size: V.
        length: T, tokens per episode.
        batch: episodes per update.
    """

    network: str = "lstm"
    vocab_size: int = 5_000
    length: int = 32
    batch: int = 32

    @property
    def transitions(self) -> int:
        """Transitions per update."""
        return self.batch * self.length


def make_update(
    case: Case, device: torch.device | str = "cpu", ranks: Ranks | None = None, **settings: Any
) -> tuple[Learner, Callable[[], Any]]:
    """A learner with the given settings of the agent, and a function that samples a batch and makes one update.

    Args:
        case: sizes.
        device: where to learn.
        ranks: the processes that learn together; None for this one alone.
        settings: of the agent.
    """
    torch.manual_seed(0)
    device = torch.device(device)
    env = EnvConfig(
        target="markov", vocab_size=case.vocab_size, order=1, ending="fixed", max_new_tokens=case.length,
        context_length=case.length + 1, prompt_length=(0, 0),
    )  # fmt: skip
    config = AgentConfig.of(None, {"network": NETWORKS[case.network], "batch_size": case.batch, **settings})
    network = make_q_network(config.network, env, case.vocab_size, config.rule.heads()).to(device)
    rules = ValidActions.of(env, case.vocab_size, device)
    learner = Learner(network, config, rules, ranks=ranks)
    replay = random_replay(case, device)

    def update() -> Any:
        return learner.update(replay.rows(torch.randint(0, len(replay), (case.batch,))), 0.0)

    return learner, update


def random_replay(case: Case, device: torch.device | str = "cpu") -> EpisodeReplay:
    """Four batches of random episodes."""
    count = 4 * case.batch
    replay = EpisodeReplay(count, 1, case.length, case.vocab_size, device=device)
    actions = torch.randint(Vocabulary.FIRST_WORD, case.vocab_size, (count, case.length))
    replay.add(
        tokens=torch.cat([torch.full((count, 1), Vocabulary.BOS), actions], 1),
        actions=actions,
        rewards=-torch.rand(count, case.length),
        prompt_lengths=torch.ones(count, dtype=torch.int64),
        lengths=torch.full((count,), case.length),
        terminated=torch.ones(count, dtype=torch.bool),
    )
    return replay
