"""Where time and memory go."""

import re
import time

import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.dqn.stopwatch import PARTS, Stopwatch

SMALL = {"network": {"embedding_size": 8, "hidden_size": 16}, "num_envs": 4, "batch_size": 8, "learning_starts": 0}


def test_shares_of_time_add_up_and_begin_anew(monkeypatch):
    watch = Stopwatch("cpu")
    clock = iter((0.0, 2.0, 5.0, 11.0))  # acting for two seconds, then backward for six
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: next(clock))
        for part in ("acting", "backward"):
            with watch.time(part):
                pass
    shares = watch.shares()
    assert set(shares) == set(PARTS)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
    assert shares["backward"] > shares["acting"] > 0.0 == shares["replay"]
    assert (shares["acting"], shares["backward"]) == (0.25, 0.75)
    assert watch.shares() == dict.fromkeys(PARTS, 0.0)


def test_an_agent_counts_all_parts_of_training(tiny):
    agent = DQN(tiny, **SMALL, imagine=1).learn(80)
    shares = agent.stopwatch.shares()
    assert all(shares[part] > 0.0 for part in PARTS if part != "evaluation")


@pytest.mark.parametrize("settings", [{}, {"corpus_share": 0.0}, {"loss": "pqn"}, {"loss": "cross_entropy"}])
def test_memory_figures_are_those_of_what_is_kept(tiny, settings):
    agent = DQN(tiny, **SMALL, **settings).learn(80)
    figures = agent.memory()

    def size(tensors):
        return sum(t.numel() * t.element_size() for t in tensors)

    networks = {id(p): p for n in (agent.network, agent.learner.target_network) for p in n.parameters()}
    moments = [t for s in agent.learner.optimizer.dense.state.values() for t in s.values() if t.ndim]
    gradients = [p.grad for p in agent.network.parameters() if p.grad is not None]
    assert figures["networks"] == size(networks.values())
    assert size(moments) + size(gradients) <= figures["optimizer"]
    assert figures["replay"] == (agent.replay.num_bytes if agent.replay else 0)
    kept = re.findall(r"(\w+) [\d.]+ (?:B|KiB|MiB)", agent.messages()[0])
    assert kept == [name for name, value in figures.items() if value]


def test_a_capacity_below_one_batch_of_episodes_is_refused(tiny):
    with pytest.raises(ValueError, match="replay_capacity of 24 tokens holds 3 episodes of 8 tokens, fewer than the 4"):
        DQN(tiny, **SMALL, replay_capacity=24).learn(8)


def test_capacity_counts_tokens(tiny):
    agent = DQN(tiny, **SMALL, replay_capacity=100)
    agent.prepare()
    assert agent.replay.capacity == 100 // tiny.max_new_tokens
    assert agent.replay.tokens.dtype == torch.int16
