"""Long text in bounded memory: attention within a window, LSTMs run in chunks."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from tokenlm.agents import DQN, AgentConfig
from tokenlm.agents.networks import LSTMQNetwork, TransformerQNetwork
from tokenlm.agents.networks.attention import causal_attention

V = 20
SIZE = {"hidden_size": 16, "num_layers": 2, "num_heads": 2}


def heads(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, length, 4, generator=generator, dtype=torch.float64) for _ in range(3)]


@given(length=st.integers(1, 23), window=st.integers(1, 25))
def test_attention_within_a_window_is_masked_attention(length, window):
    query, key, value = heads(length, length)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    visible = (distance >= 0) & (distance < window)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    assert torch.allclose(causal_attention(query, key, value, window), expected, atol=1e-12)


def test_gradients_of_the_blocks_are_those_of_the_mask():
    distance = torch.arange(11)[:, None] - torch.arange(11)
    visible = (distance >= 0) & (distance < 4)
    one, other = ([x.requires_grad_() for x in heads(11)] for _ in range(2))
    causal_attention(*one, 4).square().sum().backward()
    F.scaled_dot_product_attention(*other, attn_mask=visible).square().sum().backward()
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-12)


@pytest.mark.parametrize("window", [12, 100])
def test_a_window_as_long_as_the_text_is_full_attention(window):
    torch.manual_seed(0)
    full = TransformerQNetwork(V, max_length=40, **SIZE).eval()
    windowed = TransformerQNetwork(V, max_length=40, attention_window=window, **SIZE).eval()
    windowed.load_state_dict(full.state_dict())
    text = torch.randint(5, V, (2, 12))
    with torch.no_grad():
        assert torch.allclose(full(text), windowed(text), atol=1e-6)


def test_a_ring_of_the_window_is_enough_to_act_on_without_end():
    torch.manual_seed(0)
    network = TransformerQNetwork(V, max_length=8, attention_window=5, **SIZE).eval()
    text = torch.randint(5, V, (3, 30))
    lengths = torch.tensor([2, 5, 14])
    with torch.no_grad():
        expected = network(text)
        _, state = network.encode(text[:, :14], lengths)
        assert state[0].shape == (3, 2, 2, 5, 8)
        for step in range(16):
            rows = torch.arange(3)
            hidden, state = network.step(text[rows, lengths + step], state)
            assert torch.allclose(hidden, expected[rows, lengths + step], atol=1e-5)


def test_what_left_the_window_of_every_layer_is_forgotten():
    torch.manual_seed(0)
    network = TransformerQNetwork(V, max_length=64, attention_window=4, **SIZE).eval()
    text = torch.randint(5, V, (1, 20))
    other = text.clone()
    other[0, 3] = 5 + (other[0, 3] - 4) % 15
    with torch.no_grad():
        changed = (network(text) - network(other)).abs().amax(-1)[0] > 1e-7
    assert changed.nonzero().flatten().tolist() == list(range(3, 3 + 2 * 3 + 1))


def test_no_tensor_grows_with_the_square_of_the_length():
    network = TransformerQNetwork(V, max_length=600, attention_window=8, **SIZE)
    sizes = []
    with saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        network(torch.randint(5, V, (1, 512)))
    assert max(sizes) <= 512 * 16 * 8


@pytest.mark.parametrize("layers", [1, 2])
def test_chunks_change_no_gradient(layers):
    settings = {"embedding_size": 8, "hidden_size": 16, "num_layers": layers}
    torch.manual_seed(0)
    whole = LSTMQNetwork(V, **settings).double()
    chunked = LSTMQNetwork(V, chunk_length=5, **settings).double()
    chunked.load_state_dict(whole.state_dict())
    text, found = torch.randint(5, V, (3, 23)), []
    for network in (whole, chunked):
        hidden = network(text)
        network.action_values(hidden, text).square().sum().backward()
        found.append((hidden, [p.grad for name, p in network.named_parameters() if "value_head" not in name]))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-14)
    for a, b in zip(*(gradients for _, gradients in found), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_chunks_keep_less_for_the_backward_pass():
    kept = {}
    for chunk in (None, 32):
        network, sizes = LSTMQNetwork(V, embedding_size=8, hidden_size=16, chunk_length=chunk), {}
        with saved_tensors_hooks(lambda x: sizes.update({x.data_ptr(): x.numel()}) or x, lambda x: x):  # noqa: B023
            network(torch.randint(5, V, (2, 512)))
        kept[chunk] = sum(sizes.values())
    assert kept[32] < 0.5 * kept[None]


@pytest.mark.parametrize(
    "network",
    [
        {"embedding_size": 8, "hidden_size": 16, "chunk_length": 3},
        {"name": "transformer", "attention_window": 3, **SIZE},
    ],
)
def test_long_text_networks_learn(tiny, network):
    agent = DQN(tiny, network=network, num_envs=4, batch_size=8, learning_starts=0, replay_capacity=512).learn(80)
    assert agent.learner.transitions_trained > 0
    assert all(torch.isfinite(p).all() for p in agent.network.parameters())


@pytest.mark.parametrize(("network", "name"), [("lstm", "chunk_length"), ("transformer", "attention_window")])
def test_lengths_below_one_are_refused(network, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, or None, not 0"):
        AgentConfig.of(None, {"network": {"name": network, name: 0}})
