"""A module of one's own as Q-network."""

import pytest
import torch
from torch import nn

from tokenlm.agents import DQN


class Sums(nn.Module):
    """Hidden vector t: the sum of the embeddings up to token t."""

    def __init__(self, vocab_size: int, size: int = 16, causal: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, size)
        self.causal = causal

    def forward(self, tokens):
        found = self.embedding(tokens)
        return torch.tanh(found.cumsum(1) if self.causal else found + found.sum(1, keepdim=True))


def make(tiny, **settings):
    return DQN(tiny, network=Sums(16), num_envs=4, learning_starts=16, batch_size=8, **settings)


def test_it_learns_writes_and_is_the_same_when_loaded(tiny, tmp_path):
    agent = make(tiny, seed=3)
    before = agent.network.module.embedding.weight.clone()
    agent.learn(64)
    assert not torch.equal(before, agent.network.module.embedding.weight)
    agent.save(tmp_path)
    again = DQN.load(tmp_path, network=Sums(16))
    assert again.generate("the cat", 3, seed=1) == agent.generate("the cat", 3, seed=1)
    with pytest.raises(ValueError, match=r"a module of your own \(Sums\).*DQN.load\(folder, network=module\)"):
        DQN.load(tmp_path)


def test_one_step_after_the_other_is_the_whole_text(tiny):
    network = make(tiny).network.eval()
    tokens = torch.tensor([[2, 6, 7, 8], [2, 9, 5, 10]])
    whole = network(tokens)
    hidden, state = network.encode(tokens[:, :2], torch.tensor([2, 1]))
    torch.testing.assert_close(hidden, whole[torch.arange(2), torch.tensor([1, 0])])
    hidden, state = network.step(torch.tensor([7, 9]), state)
    torch.testing.assert_close(hidden, whole[torch.arange(2), torch.tensor([2, 1])])


def test_what_is_no_such_module_is_refused(tiny):
    with pytest.raises(ValueError, match="not causal"):
        DQN(tiny, network=Sums(16, causal=False))
    with pytest.raises(ValueError, match=r"of \(2, 6\) it made \(2, 6, 16, 1\)"):
        DQN(tiny, network=nn.Sequential(Sums(16), nn.Unflatten(2, (16, 1))))
