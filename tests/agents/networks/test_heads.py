"""Heads: noise, masks, distributions, behaviour; and the table over prefixes."""

import math

import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.networks import Heads, LSTMQNetwork, TabularQNetwork
from tokenlm.agents.networks.heads import NoisyLinear
from tokenlm.envs import EnvConfig

V, D = 9, 16
VALID = torch.tensor([False] * 5 + [True] * 4)


def network(heads: Heads | None = None):
    torch.manual_seed(0)
    made = LSTMQNetwork(V, embedding_size=4, hidden_size=D, heads=heads)
    return made.eval()


def hidden(rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(1))


def test_a_mask_in_the_bias_is_a_mask_on_the_values():
    net = network()
    everywhere, once = VALID.expand(6, V), VALID
    values = net.q_values(hidden(), once)
    assert torch.equal(values, net.q_values(hidden(), everywhere))
    assert (values[:, :5] == -math.inf).all()
    assert torch.equal(values[:, 5:], net.q_values(hidden())[:, 5:])
    values[:, 5:].sum().backward()
    assert net.head.bias.grad.tolist() == [0.0] * 5 + [6.0] * 4


def test_noise_comes_when_asked_and_goes_in_eval():
    net = network(Heads(noisy=True))
    quiet = net.q_values(hidden())
    net.resample_noise()
    loud = net.q_values(hidden())
    assert not torch.allclose(quiet, loud)
    assert torch.equal(loud, net.q_values(hidden()))  # one noise until the next
    actions = torch.arange(6) % V
    assert torch.allclose(net.action_values(hidden(), actions), loud.gather(1, actions[:, None])[:, 0], atol=1e-6)
    net.resample_noise()
    assert not torch.allclose(loud, net.q_values(hidden()))
    net.eval()
    assert torch.equal(quiet, net.q_values(hidden()))


def test_noise_is_factorised_and_its_scale_learned():
    layer = NoisyLinear(3, 2)
    torch.manual_seed(3)
    layer.resample()
    out = layer(torch.eye(3))
    weight = layer.weight + layer.weight_scale * torch.outer(layer.noise_out, layer.noise_in)
    assert torch.allclose(out, weight.T + layer.bias + layer.bias_scale * layer.noise_out)
    out.sum().backward()
    assert layer.weight_scale.grad.abs().sum() > 0
    assert torch.allclose(layer.weight_scale, torch.full((2, 3), 0.5 / math.sqrt(3)))


def test_noise_has_the_papers_distribution():
    layer = NoisyLinear(50_000, 1)
    torch.manual_seed(0)
    layer.resample()
    # sign(x)·√|x| of a standard normal: mean 0, second moment E|x| = √(2/π).
    moment, error = math.sqrt(2 / math.pi), 5 / math.sqrt(50_000)
    assert abs(float(layer.noise_in.mean())) < error
    assert abs(float(layer.noise_in.square().mean()) - moment) < error


def test_values_of_distributions_are_their_means():
    net = network(Heads(atoms=3, support=(-2.0, 0.0)))
    atoms = net.action_atoms(hidden())
    expected = (torch.softmax(atoms, -1) * torch.tensor([-2.0, -1.0, 0.0])).sum(-1)
    assert torch.allclose(net.q_values(hidden()), expected)
    quantiles = network(Heads(atoms=4, quantiles=True))
    assert torch.allclose(quantiles.q_values(hidden()), quantiles.action_atoms(hidden()).mean(-1))
    histogram = network(Heads(value_bins=3, support=(-4.0, 0.0)))
    share = torch.softmax(histogram.value_head(hidden()), -1)
    assert torch.allclose(histogram.state_values(hidden()), -4.0 * share[:, 0] - 2.0 * share[:, 1], atol=1e-6)


def test_policies_with_a_behaviour_head():
    net = network(Heads(behaviour=2.0))
    log_behaviour = torch.log_softmax(net.behaviour_head(hidden()).masked_fill(~VALID, -torch.inf), -1)
    expected = log_behaviour[:, 5:] + 2.0 * net.q_values(hidden())[:, 5:]
    assert torch.allclose(net.policy_values(hidden(), VALID)[:, 5:], expected)
    ratio = network(Heads(behaviour=2.0, likelihood_ratio=True))
    log_behaviour = torch.log_softmax(ratio.behaviour_head(hidden()).masked_fill(~VALID, -torch.inf), -1)
    likelihood = torch.log_softmax(ratio.q_values(hidden(), VALID), -1)
    ratios = (likelihood - log_behaviour).exp()
    assert (ratios[:, 5:] > 1.0).any()  # beyond the largest return, which is 1
    expected = log_behaviour + 2.0 * ratios.clamp(max=1.0)
    assert torch.allclose(ratio.policy_values(hidden(), VALID)[:, 5:], expected[:, 5:])
    assert (ratio.policy_values(hidden(), VALID)[:, :5] == -math.inf).all()


def test_rewards_of_actions_by_gather():
    net = network(Heads(rewards=True))
    actions = torch.tensor([5, 6, 7, 8, 5, 6])
    expected = net.reward_head(hidden()).gather(1, actions[:, None])[:, 0]
    assert torch.allclose(net.action_rewards(hidden(), actions), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no reward head"):
        network().action_rewards(hidden(), actions)


def test_the_table_has_a_row_for_every_prefix():
    net = TabularQNetwork(8, longest=3)
    texts = torch.tensor([[2, a, b, c] for a in (5, 6, 7) for b in (5, 6, 7) for c in (5, 6, 7)])
    rows = net(texts).argmax(-1)
    assert len({tuple(t[: i + 1].tolist()) for t in texts for i in range(4)}) == len(set(rows.flatten().tolist())) == 40
    lengths = torch.tensor([1, 2, 3, 4] * 6 + [1, 2, 3])
    hidden, state = net.encode(texts, lengths)
    assert torch.equal(hidden, net(texts)[torch.arange(27), lengths - 1])
    longer = lengths < 4
    following, _ = net.step(texts[torch.arange(27), lengths.clamp(max=3)], state)
    assert torch.equal(following[longer], net(texts)[torch.arange(27), lengths.clamp(max=3)][longer])


def test_noisy_heads_explore_and_learn():
    env = EnvConfig(
        target="markov",
        order=2,
        vocab_size=10,
        max_new_tokens=4,
        context_length=6,
        ending="fixed",
        prompt_length=(0, 0),
    )
    settings = {"num_envs": 16, "batch_size": 32, "learning_starts": 64, "corpus_share": 0.0, "epsilon": 0.0}
    noisy = {"noisy": True, "embedding_size": 8, "hidden_size": 16}
    agent = DQN(env, loss="dqn", network=noisy, **settings)
    agent.learn(320)
    texts = {tuple(row[row > 0].tolist()) for row in agent.replay.tokens[: len(agent.replay)]}
    quiet = DQN(env, loss="dqn", network={**noisy, "noisy": False}, learning_rate=0.0, **settings).learn(320)
    alone = {tuple(row[row > 0].tolist()) for row in quiet.replay.tokens[: len(quiet.replay)]}
    assert len(texts) > 3 * len(alone)  # without noise or ε a greedy policy that does not learn writes one text
    assert len(alone) == 1


def test_values_on_a_scale_of_their_own():
    plain, scaled = network(), network(Heads(value_scale=40.0, initial_value=-20.0))
    assert torch.allclose(scaled.value_head.bias, torch.tensor([-0.5]))
    with torch.no_grad():
        scaled.value_head.bias.zero_()
    assert torch.allclose(scaled.state_values(hidden()), 40.0 * plain.state_values(hidden()), atol=1e-5)
