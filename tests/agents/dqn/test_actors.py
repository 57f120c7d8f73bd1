"""Actors write what a collector writes, say how old their weights were, and may be killed."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokenlm.agents import DQN, AgentConfig, RunConfig
from tokenlm.agents.dqn.actors import _STEPS, Actor, ActorsConfig, Outbox
from tokenlm.agents.dqn.experience import collector_of_actor, make_replay
from tokenlm.agents.runs.config import plain, run_config_of
from tokenlm.envs import EnvConfig

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=12, max_new_tokens=6, context_length=7, ending="fixed", prompt_length=(0, 0)
)
CONFIG = AgentConfig.of(None, {"num_envs": 4, "network": {"hidden_size": 8, "embedding_size": 4}})


def actor_of(env, config, seed=5):
    make = functools.partial(collector_of_actor, DQN, env, config, None)
    return Actor(make, seed, make_replay(DQN(env, config), DQN(env, config).world).prompt_size)


@pytest.mark.parametrize("more", [{}, {"ending": "eos"}, {"no_repeat": 2}])
def test_an_actor_writes_what_a_collector_with_its_seed_and_weights_writes(more):
    env = dataclasses.replace(CHAIN, **more)
    texts, _ = actor_of(env, CONFIG).act([], -1, 1.0, 0.1)
    agent = DQN(env, CONFIG, seed=5, device="cpu")
    agent.prepare()
    for _ in range(_STEPS):
        agent.collector.step(1.0, 0.1)
    replay, count = agent.replay, len(texts["lengths"])
    assert len(replay) == count > 0
    for name, kept in (("tokens", replay.tokens), ("rewards", replay.rewards), ("lengths", replay.lengths)):
        assert torch.equal(texts[name].to(kept), kept[:count]), name


def test_the_age_of_a_text_is_that_of_the_weights_that_began_it():
    """Texts of six tokens in calls of eight: those that end at steps 6, 12, 18 and 24 began at 0, 6, 12 and 18."""
    actor = actor_of(CHAIN, CONFIG)
    found = []
    for version in range(3):
        actor.version = version  # the weights stay, their number alone counts here
        texts, versions = actor.act([], version, 1.0, 0.0)
        assert len(versions) == len(texts["lengths"])
        found += versions.tolist()
    assert _STEPS == 8
    assert found == [0] * 4 + [0] * 4 + [1] * 4 + [2] * 4


def test_an_outbox_is_empty_after_it_was_emptied():
    outbox = Outbox(1)
    assert outbox.taken() == {}
    row = torch.ones(2, 3)
    outbox.add(row, row, row, row[:, 0], row[:, 0], row[:, 0])
    outbox.add(row, row, row, row[:, 0], row[:, 0], row[:, 0])
    taken = outbox.taken()
    assert "durations" not in taken
    assert taken["tokens"].shape == (4, 3)
    assert outbox.taken() == {}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"loss": "cross_entropy"}, "from the corpus alone"),
        ({"loss": "pqn"}, "from the newest texts alone"),
        ({"network": torch.nn.Embedding(12, 8)}, "given in Python"),
    ],
)
def test_what_actors_cannot_serve_is_said(settings, why):
    agent = DQN(CHAIN, **settings)
    with pytest.raises(ValueError, match=why):
        agent.use_actors(ActorsConfig(count=1))
    agent.use_actors(ActorsConfig())


def test_actors_are_settings_of_a_run():
    config = RunConfig(actors={"count": 3, "address": "auto"})
    assert config.actors == ActorsConfig(count=3, address="auto")
    assert run_config_of(plain(config), "here") == config
    with pytest.raises(ValueError, match="count must be at least 0"):
        RunConfig(actors={"count": -1})
    with pytest.raises(ValueError, match="algorithm dqn, not sb3-ppo"):
        RunConfig(algorithm="sb3-ppo", actors={"count": 1})


@pytest.mark.slow  # Ray begins some ten processes
@pytest.mark.parametrize("where", ["local", "cluster"])
def test_a_learner_goes_on_when_actors_are_killed(where):
    pytest.importorskip("ray")
    script = Path(__file__).with_name("ray_actors.py")
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, str(script), where], capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = ["learned", "bounded", "replaced"]
    assert [line for line in done.stdout.splitlines() if line in expected] == expected  # Ray reports the deaths too
