"""Run by test_ranks.py: two processes that train one network, forked from this one, which trains the same alone."""

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from tokenlm.agents import DQN
from tokenlm.agents.dqn.ranks import RankLost, ranks
from tokenlm.agents.replay.episodes import EpisodeReplay
from tokenlm.envs import EnvConfig, Vocabulary

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=12, max_new_tokens=6, context_length=7, ending="eos", prompt_length=(0, 0)
)
SMALL = {
    "num_envs": 4,
    "batch_size": 4,
    "learning_starts": 16,
    "device": "cpu",
    "network": {"hidden_size": 8, "embedding_size": 4},
}
RULES = ("soft_q", "pcl", "cross_entropy")


def episodes(agent):
    """Eight episodes of one to six words, so that the halves of the batch have different numbers of actions."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([1, 2, 2, 1, 6, 5, 6, 4])
    actions = torch.randint(Vocabulary.FIRST_WORD, 12, (8, 6), generator=generator)
    replay = EpisodeReplay(8, 1, 6, agent.network.num_actions)
    replay.add(
        tokens=torch.cat([torch.full((8, 1), Vocabulary.BOS), actions], 1), actions=actions,
        rewards=-torch.rand(8, 6, generator=generator), prompt_lengths=torch.ones(8, dtype=torch.int64),
        lengths=lengths, terminated=torch.tensor([True, False] * 4),
    )  # fmt: skip
    return replay


def gradients(loss, rows, expected):
    """Of one update on some rows; the optimiser scales none of them."""
    agent = DQN(CHAIN, loss=loss, max_grad_norm=None, **SMALL)
    batch = episodes(agent).rows(rows)
    batch.expected_actions = expected
    agent.learner.update(batch, 0.0)
    found = {name: p.grad.clone() for name, p in agent.network.named_parameters() if p.grad is not None}
    return found, agent.transitions_trained


def learned(state=None, until=64, **more):
    """An agent that learned for 64 steps, or stopped at `until` of them."""
    agent = DQN(CHAIN, **{**SMALL, **more})
    if state is not None:
        agent.load_state_dict(state)
    agent.learn(64, lambda agent: agent.num_steps < until, resume=state is not None)
    return agent


def digest(agent):
    return torch.cat([p.detach().flatten() for p in agent.network.parameters()])


def work(rank, store):
    results = {}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(store), 2), rank=rank, world_size=2)
    group = ranks()
    for loss in RULES:
        for expected in (None, (3.0, 40.0)[rank]):
            rows = (torch.arange(3), torch.arange(3, 8))[rank]
            results[f"{loss} {expected is None} {rank}"] = gradients(loss, rows, expected)
    agent = learned()
    results[f"weights {rank}"] = digest(agent)
    results[f"steps {rank}"] = agent.num_steps, agent.env_steps, agent.transitions_trained
    results[f"replay {rank}"] = agent.replay.tokens.clone()
    results[f"rewards alone {rank}"] = digest(learned(corpus_share=0.0))
    half = learned(until=32)
    state = half.state_dict()
    torch.save(state, f"{store}-{rank}")
    dist.barrier()
    state = torch.load(f"{store}-0", weights_only=False)
    results[f"halves {rank}"] = digest(learned(state))
    more = learned(torch.load(f"{store}-alone", weights_only=False))
    results[f"grown {rank}"] = digest(more)
    results[f"grown steps {rank}"] = more.num_steps, more.env_steps
    group.all(True)
    torch.save(results, f"{store}-results-{rank}")
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        while True:  # what was sent before the other died may still arrive
            group.all(True)
    except RankLost as lost:
        assert str(lost).startswith("rank 0 of 2 has lost another one")  # noqa: PT017


def main(folder):
    torch.set_num_threads(1)
    torch.save(learned(until=32).state_dict(), folder / "store-alone")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(rank, folder / "store")) for rank in range(2)]
    for process in processes:
        process.start()
    processes[1].join()
    processes[0].join(60)  # the other one's end is noticed, not waited for
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    found = {}
    for rank in range(2):
        found |= torch.load(folder / f"store-results-{rank}", weights_only=True)
    for loss in RULES:
        for plain in (True, False):
            alone, trained = gradients(loss, torch.arange(8), None if plain else 43.0)
            for rank in range(2):
                together, counted = found[f"{loss} {plain} {rank}"]
                assert counted == trained == 27
                assert together.keys() == alone.keys()
                for name, gradient in alone.items():
                    torch.testing.assert_close(together[name], gradient, rtol=1e-4, atol=1e-6)
    print("gradients")
    assert torch.equal(found["weights 0"], found["weights 1"])
    assert torch.equal(found["rewards alone 0"], found["rewards alone 1"])
    assert found["steps 0"] == found["steps 1"]
    assert found["steps 0"][:2] == (64, 64)
    assert found["steps 0"][2] > 0
    assert not torch.equal(found["replay 0"], found["replay 1"])  # each plays its own environments
    print("same weights")
    assert all(torch.equal(found[f"weights {rank}"], found[f"halves {rank}"]) for rank in range(2))
    print("continues")  # so it repeats too
    state = torch.load(folder / "store-0", weights_only=False)
    assert len(state["others"]) == 1
    agent = learned(state)
    assert (agent.num_steps, agent.env_steps) == (64, 64)
    assert not torch.equal(digest(agent), found["weights 0"])
    print("continues alone")
    assert torch.equal(found["grown 0"], found["grown 1"])
    assert found["grown steps 0"] == found["grown steps 1"] == (64, 64)
    print("continues with one more")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
    sys.exit()
