"""Run by test_actors.py: a learner with two actors on Ray, of which one is killed, then both."""

import os
import signal
import sys

import ray
import torch
from ray.cluster_utils import Cluster

from tokenlm.agents import DQN
from tokenlm.agents.dqn.actors import ActorsConfig
from tokenlm.agents.evaluation import play
from tokenlm.envs import EnvConfig, World

CHAIN = EnvConfig(
    target="markov", order=1, vocab_size=12, max_new_tokens=6, context_length=7, ending="fixed", prompt_length=(0, 0)
)
SMALL = {
    "num_envs": 8,
    "batch_size": 16,
    "learning_starts": 128,
    "device": "cpu",
    "learning_rate": 1e-2,
    "network": {"hidden_size": 32, "embedding_size": 16},
}
BOUND = 40


def process_of(actor):
    return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))


def kl(agent):
    return float(play(agent, World.of(CHAIN), CHAIN, 400, 0, 1.0, 1.0).kl.mean())


def main(address):
    torch.set_num_threads(1)
    agent = DQN(CHAIN, **SMALL)
    agent.use_actors(ActorsConfig(count=2, address=address, staleness=BOUND, refresh=2))
    before = kl(agent)
    agent.learn(4_000)
    collector = agent.collector
    assert agent.num_steps == 4_000 <= agent.env_steps
    assert kl(agent) < 0.3 * before, (before, kl(agent))
    print("learned")

    figures = agent.figures()
    assert 0.0 < figures["staleness"] <= figures["staleness_max"] <= BOUND
    assert collector._version > 0  # weights were sent anew
    kept, dropped = collector.episodes, collector.dropped
    one = {"tokens": torch.ones(3, 7), "actions": torch.ones(3, 6), "rewards": torch.ones(3, 6)}
    one |= {"prompt_lengths": torch.ones(3, dtype=torch.int64), "lengths": torch.full((3,), 6)}
    one |= {"terminated": torch.ones(3, dtype=torch.bool)}
    now = agent.learner.updates
    collector._keep(one, torch.tensor([now, now - BOUND, now - BOUND - 1]))
    assert (collector.episodes, collector.dropped) == (kept + 2, dropped + 1)
    print("bounded")

    updates, replay, kept = agent.learner.updates, len(agent.replay), collector.episodes
    victims = list(collector._actors)
    os.kill(process_of(victims[0]), signal.SIGKILL)
    agent.learn(4_000)
    assert collector.replaced == 1
    assert victims[1] in collector._actors  # the other one goes on
    assert len({process_of(actor) for actor in collector._actors}) == 2
    for actor in collector._actors:
        os.kill(process_of(actor), signal.SIGKILL)
    agent.learn(4_000)
    assert collector.replaced == 3 == agent.figures()["actors_replaced"]
    assert agent.num_steps == 12_000
    assert agent.learner.updates > updates
    assert len(agent.replay) > replay  # and holds what was there
    assert collector.episodes - kept > 8_000 // 6 - 50  # some had arrived before they were counted
    state = agent.state_dict()
    again = DQN(CHAIN, **SMALL)
    again.use_actors(ActorsConfig(count=1, address=address))
    again.load_state_dict(state)
    agent.collector = None  # its actors end with it
    again.learn(12_400, resume=True)
    assert again.num_steps == 12_400
    print("replaced")


if __name__ == "__main__":
    if sys.argv[1] == "local":
        main(None)
    else:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=2)
        try:
            main(cluster.address)
        finally:
            ray.shutdown()
            cluster.shutdown()
