"""Imagined texts: what the model of the rewards pays, what it is fitted to, and what is learned from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tokenlm.agents import DQN
from tokenlm.agents.dqn.imagination import Imagination, unpaid_world
from tokenlm.agents.evaluation.scores import trivial_returns
from tokenlm.envs import EnvConfig, Oracle, TokenLMDeviceEnv, World

CHAIN = {
    "target": "markov", "order": 2, "vocab_size": 12, "max_new_tokens": 6, "context_length": 7, "ending": "fixed",
    "prompt_length": (0, 0),
}  # fmt: skip
SMALL: dict[str, Any] = {
    "network": {"name": "lstm", "embedding_size": 16, "hidden_size": 32}, "corpus_share": 0.0, "num_envs": 8,
    "learning_starts": 64, "imagine": 4,
}  # fmt: skip


def imagining(env: dict[str, Any], **settings: Any) -> tuple[DQN, Imagination]:
    agent = DQN(EnvConfig(**env), **{**SMALL, **settings})
    agent.prepare()
    assert agent.imagination is not None
    return agent, agent.imagination


class Known(nn.Module):
    """log p* of a chain by its last token, where the model's own scores stand."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.from_numpy(table).float()

    def forward(self, tokens: Tensor, written: Tensor) -> Tensor:
        return self.table[tokens[:, -1]]


@pytest.mark.parametrize("ending", ["fixed", "eos"])
@pytest.mark.parametrize("no_repeat", [0, 2])
def test_a_model_that_is_p_star_pays_what_the_environment_pays(ending: str, no_repeat: int) -> None:
    agent, imagination = imagining({**CHAIN, "ending": ending, "no_repeat": no_repeat, "log_prob_weight": 2.0})
    assert agent.replay is not None
    assert agent.collector is not None
    for _ in range(40):
        agent.collector.step(1.0, 1.0)
    size = agent.env_config.vocab_size
    world = World.of(agent.env_config)
    after = np.array([[1, last] for last in range(size)])  # <bos> and a token
    after[1] = [0, 1]
    imagination.fitted.averaged = Known(world.target.log_probs(world.target.track(after), True))  # type: ignore[assignment]
    batch = agent.replay.rows(torch.arange(len(agent.replay)))
    earned = batch.rewards.clone()
    assert torch.allclose(imagination.pay(batch).rewards, earned, atol=2e-5)


def test_what_is_paid_together_is_fitted_together() -> None:
    agent, imagination = imagining({**CHAIN, "reward_every": 4})
    assert agent.replay is not None
    rewards = torch.tensor([[0.0, 0.0, 0.0, -5.0, 0.0, -3.0]])
    agent.replay.add(
        tokens=torch.tensor([[1, 5, 6, 7, 8, 9, 10]]),
        actions=torch.tensor([[5, 6, 7, 8, 9, 10]]),
        rewards=rewards,
        prompt_lengths=torch.tensor([1]),
        lengths=torch.tensor([6]),
        terminated=torch.tensor([True]),
    )
    batch = agent.replay.rows(torch.tensor([0]))
    predicted, paid = imagination._sums(torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]), batch)
    assert predicted.tolist() == [-10.0, -11.0]
    assert paid.tolist() == [-5.0, -3.0]


def test_the_model_reads_the_newest_tokens_of_the_prompt_and_the_last_ones_of_the_text() -> None:
    env = {**CHAIN, "prompt_length": (3, 3), "context_length": 10}
    agent, imagination = imagining(env)  # the newest two of each
    assert agent.replay is not None
    agent.replay.add(
        tokens=torch.tensor([[1, 4, 5, 6, 7, 8, 9, 10, 11, 4]]),
        actions=torch.tensor([[7, 8, 9, 10, 11, 4]]),
        rewards=torch.zeros(1, 6),
        prompt_lengths=torch.tensor([4]),
        lengths=torch.tensor([6]),
        terminated=torch.tensor([True]),
    )
    read: list[Tensor] = []

    class Reading(nn.Module):
        def forward(self, tokens: Tensor, written: Tensor) -> Tensor:
            read.extend([tokens, written])
            return torch.zeros(len(tokens), 12)

    imagination._log_probs(Reading(), agent.replay.rows(torch.tensor([0])))
    assert read[0].tolist() == [[5, 6, 5, 6], [5, 6, 6, 7], [5, 6, 7, 8], [5, 6, 8, 9], [5, 6, 9, 10], [5, 6, 10, 11]]
    assert read[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_imagined_texts_follow_the_environment_and_know_nothing_of_p_star() -> None:
    config = EnvConfig(**{**CHAIN, "no_repeat": 1, "ending": "eos", "min_new_tokens": 2})
    world = World.of(config)
    ours = TokenLMDeviceEnv(64, config, device="cpu", check_actions=True)
    imagined = TokenLMDeviceEnv(64, config, device="cpu", check_actions=True, world=unpaid_world(world))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(ours.reset(seed=3)[0], imagined.reset(seed=3)[0])
    for _ in range(20):
        masks = ours.action_masks()
        assert torch.equal(masks, imagined.action_masks())
        actions = torch.multinomial(masks.double(), 1, generator=generator)[:, 0]
        told, known = imagined.step(actions), ours.step(actions)
        assert all(torch.equal(a, b) for a, b in zip((told[0], *told[2:4]), (known[0], *known[2:4]), strict=True))
        assert torch.allclose(told[1], -masks.sum(1).double().log())


@pytest.mark.parametrize("reward_every", [1, 0])
def test_a_chain_is_learned_from_fewer_steps_than_without(reward_every: int) -> None:
    env = EnvConfig(**{**CHAIN, "reward_every": reward_every})
    settings = {**SMALL, "temperature": {"start": 1.0, "end": 0.05}, "num_envs": 16, "epsilon": 1.0, "replay_ratio": 16}
    regrets = []
    for imagine in (8, 0):
        agent = DQN(env, **{**settings, "imagine": imagine}).learn(6_000)
        regrets.append(agent.evaluate(documents=8)["greedy_regret"])
    best = Oracle(World.of(env), env).start_value(0.0) if hasattr(Oracle, "start_value") else 0.0
    trivial = best - max(trivial_returns(env).values())
    assert regrets[0] < 0.5 * regrets[1] or regrets[0] < 0.05 * abs(trivial)


def test_an_interrupted_training_ends_as_it_would_have() -> None:
    def trained(interrupted: bool) -> dict[str, Tensor]:
        agent, _ = imagining(CHAIN)
        agent.learn(480, (lambda a: a.num_steps < 240) if interrupted else None)
        if interrupted:
            state = agent.state_dict()
            agent, _ = imagining(CHAIN)
            agent.load_state_dict(state)
            agent.learn(480, resume=True)
        assert agent.imagination is not None
        return {
            **agent.weights(),
            **{f"model.{n}": v for n, v in agent.imagination.fitted.averaged.state_dict().items()},
        }

    whole, parts = trained(False), trained(True)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ({}, {"redistribute": True}, "paid token by token already"),
        ({}, {"rewards": {"prompt": 0, "context": 0}}, "must read something"),
        ({"sequence_reward": "chrf"}, {}, "paid by log-probabilities of tokens"),
        ({}, {"phrases": 5}, "paid by log-probabilities of tokens"),
        ({}, {"loss": "trajectory_balance"}, "does not use rewards"),
        ({}, {"imagine": -1}, "imagine must be at least 0, not -1"),
    ],
)
def test_what_cannot_work_is_refused(env: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DQN(EnvConfig(**{**CHAIN, **env}), **{**SMALL, **settings}).prepare()
