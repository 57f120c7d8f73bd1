"""Q-networks: causal, the same token by token as in one pass, one state for each episode."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.agents.networks import (
    Heads,
    LSTMQNetwork,
    MLPQNetwork,
    Seq2SeqLSTMQNetwork,
    Seq2SeqTransformerQNetwork,
    TransformerQNetwork,
    put_rows,
)
from tokenlm.agents.networks.making import network_config
from tokenlm.agents.networks.precision import resolve_precision
from tokenlm.envs import Vocabulary

CLASSES = {
    "lstm": LSTMQNetwork,
    "transformer": TransformerQNetwork,
    "mlp": MLPQNetwork,
    "seq2seq_lstm": Seq2SeqLSTMQNetwork,
    "seq2seq_transformer": Seq2SeqTransformerQNetwork,
}
V = 20
SEP = Vocabulary.SEP
KINDS = {
    "lstm": ("lstm", {"embedding_size": 8, "hidden_size": 16}),
    "deep lstm": ("lstm", {"embedding_size": 8, "hidden_size": 16, "num_layers": 2}),
    "mlp": ("mlp", {"window": 7, "embedding_size": 8, "hidden_size": 16, "num_layers": 3}),
    "skip": ("lstm", {"embedding_size": 8, "hidden_size": 16, "skip": True, "heads": Heads(layer_norm=True)}),
    "rotary": ("transformer", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_length": 16}),
    "windowed": ("transformer", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_length": 16, "attention_window": 4}),
    "chunked": ("lstm", {"embedding_size": 8, "hidden_size": 16, "chunk_length": 3}),
    "seq2seq lstm": ("seq2seq_lstm", {"embedding_size": 8, "hidden_size": 16, "max_length": 20, "chunk_length": 4}),
    "deep seq2seq lstm": ("seq2seq_lstm", {"embedding_size": 8, "hidden_size": 16, "num_layers": 2, "max_length": 20}),
    "seq2seq transformer": ("seq2seq_transformer", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_length": 20}),
    "llama": ("transformer", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_length": 16, "layout": "llama"}),
    "learned": ("transformer", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "positions": "learned", "max_length": 16}),
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def network(request):
    torch.manual_seed(0)
    name, settings = KINDS[request.param]
    return CLASSES[name](V, **settings).eval()


def reads_pairs(network):
    return type(network).__name__.startswith("Seq2Seq")


def tokens(batch, width, seed=0, network=None):
    """Random texts; for a network that reads pairs, with sources of one and of two tokens."""
    text = torch.randint(5, V, (batch, width), generator=torch.Generator().manual_seed(seed))
    if network is not None and reads_pairs(network):
        for row in range(batch):
            text[row, 1 + row % 2] = SEP
    return text


def test_later_tokens_never_change_earlier_hidden_vectors(network):
    a = tokens(3, 10, network=network)
    b = a.clone()
    b[:, 6:] = tokens(3, 4, seed=9)
    with torch.no_grad():
        one, other = network(a), network(b)
    assert torch.allclose(one[:, :6], other[:, :6], atol=1e-6)
    assert not torch.allclose(one[:, 6:], other[:, 6:], atol=1e-3)


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), more=st.integers(0, 5))
def test_token_by_token_is_one_pass(network, lengths, more):
    lengths = [length + 2 * reads_pairs(network) for length in lengths]
    width = max(lengths)
    text = tokens(len(lengths), width + more, width, network)
    full = torch.zeros(len(lengths), width + more, dtype=torch.int64)
    for row, length in enumerate(lengths):
        full[row, : length + more] = text[row, : length + more]
    starts = torch.tensor(lengths)
    rows = torch.arange(len(lengths))
    with torch.no_grad():
        expected = network(full)
        prefix = full[:, :width] * (torch.arange(width) < starts[:, None])
        hidden, state = network.encode(prefix, starts)
        for last in (hidden, network.read_last(prefix, starts)):
            assert torch.allclose(last, expected[rows, starts - 1], atol=1e-5)
        for step in range(more):
            hidden, state = network.step(full[rows, starts + step], state)
            assert torch.allclose(hidden, expected[rows, starts + step], atol=1e-5)


def test_padding_changes_nothing(network):
    text = tokens(2, 5, network=network)
    with torch.no_grad():
        padded = network(torch.cat([text, torch.zeros(2, 4, dtype=torch.int64)], 1))
        assert torch.allclose(padded[:, :5], network(text), atol=1e-6)


def test_rows_start_again_while_others_go_on(network):
    first, second = tokens(3, 6, network=network), tokens(1, 2, 5, network)
    with torch.no_grad():
        _, state = network.encode(first, torch.tensor([6, 6, 6]))
        _, fresh = network.encode(second, torch.tensor([2]))
        put_rows(state, torch.tensor([1]), fresh)
        hidden, _ = network.step(torch.tensor([7, 8, 9]), state)
        went_on = network(torch.cat([first, torch.tensor([[7], [8], [9]])], 1))[:, -1]
        began = network(torch.cat([second, torch.tensor([[8]])], 1))[:, -1]
    assert torch.allclose(hidden, torch.stack([went_on[0], began[0], went_on[2]]), atol=1e-5)


def test_the_value_of_one_action_is_an_entry_of_all(network):
    hidden, actions = torch.randn(2, 3, network.hidden_size), torch.randint(0, V, (2, 3))
    expected = network.q_values(hidden).gather(-1, actions[..., None]).squeeze(-1)
    assert torch.allclose(network.action_values(hidden, actions), expected, atol=1e-6)
    assert network.state_values(hidden).shape == (2, 3)


def test_every_parameter_learns(network):
    hidden = network(tokens(2, 6, network=network))
    (network.q_values(hidden).square().mean() + network.state_values(hidden).square().mean()).backward()
    silent = [
        name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    network.zero_grad(set_to_none=True)
    assert silent == []


def test_bfloat16_stays_close(network):
    text = tokens(2, 6, network=network)
    with torch.no_grad():
        exact = network(text)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(text)
    assert torch.allclose(exact, rough.float(), atol=0.1)


def test_an_mlp_sees_the_last_tokens_alone():
    network = MLPQNetwork(V, window=3, embedding_size=4, hidden_size=16).eval()
    text = tokens(1, 8)
    other = text.clone()
    other[:, 4] = (text[:, 4] - 4) % 15 + 5
    with torch.no_grad():
        same = (network(text) == network(other)).all(-1)[0]
    assert same.tolist() == [True] * 4 + [False] * 3 + [True]


def test_initial_values_are_optimistic_where_asked():
    network = LSTMQNetwork(V, heads=Heads(initial_value=3.0))
    values = network.q_values(network(tokens(4, 5)))
    assert torch.allclose(values, torch.full_like(values, 3.0), atol=0.2)


def test_a_text_beyond_the_capacity_is_refused():
    network = TransformerQNetwork(V, hidden_size=16, num_layers=1, num_heads=2, max_length=4)
    with pytest.raises(ValueError, match="5 tokens is longer than the network's max_length of 4"):
        network(tokens(1, 5))
    _, state = network.encode(tokens(1, 4), torch.tensor([4]))
    with pytest.raises(ValueError, match="max_length of 4"):
        network.step(torch.tensor([7]), state)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gru", {}, "network 'gru' is unknown; use one of lstm, transformer"),
        ("transformer", {"hidden_size": 10, "num_heads": 4}, "hidden_size 10 must be a multiple of num_heads 4"),
        ("transformer", {"positions": "none"}, "positions 'none' is unknown"),
    ],
)
def test_what_cannot_be_made_says_why(name, settings, message):
    with pytest.raises(ValueError, match=message):
        CLASSES[name](V, **settings) if name in CLASSES else network_config(name)


@pytest.mark.parametrize("wrong", [[], {}, 3, None])
def test_a_name_that_is_no_word_is_unknown(wrong):
    with pytest.raises(ValueError, match="is unknown; use one of lstm"):
        network_config({"name": wrong})


def test_the_precision_that_is_measured_is_one_of_the_two_and_stays():
    device = torch.device("cpu")
    assert resolve_precision("float32", device) is torch.float32
    assert resolve_precision("bfloat16", device) is torch.bfloat16
    assert resolve_precision("auto", device) in (torch.float32, torch.bfloat16)
    assert len({resolve_precision("auto", device) for _ in range(5)}) == 1
