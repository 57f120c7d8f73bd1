"""Encoder–decoder networks: sources of any length, read whole, by a decoder that begins at the separator."""

import pytest
import torch
from torch import nn

from tokenlm.agents import DQN, AgentConfig
from tokenlm.agents.acting.valid_actions import ValidActions
from tokenlm.agents.dqn.learner import Learner
from tokenlm.agents.networks import Seq2SeqLSTMQNetwork, Seq2SeqTransformerQNetwork, put_rows
from tokenlm.agents.networks.making import make_q_network
from tokenlm.agents.networks.pairs import Pairs
from tokenlm.agents.networks.recurrent import BidirectionalLSTM
from tokenlm.envs import Vocabulary

CLASSES = {"seq2seq_lstm": Seq2SeqLSTMQNetwork, "seq2seq_transformer": Seq2SeqTransformerQNetwork}
BOS, SEP, V = Vocabulary.BOS, Vocabulary.SEP, 20
SIZES = {
    "seq2seq_lstm": {"embedding_size": 8, "hidden_size": 16},
    "seq2seq_transformer": {"hidden_size": 16, "num_layers": 2, "num_heads": 2},
}


@pytest.fixture(scope="module", params=SIZES)
def network(request):
    torch.manual_seed(0)
    return CLASSES[request.param](V, max_length=16, **SIZES[request.param]).eval()


def padded(*texts):
    width = max(map(len, texts))
    return torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])


SHORT, LONG = [BOS, 9, SEP, 10, 11, SEP, 12], [BOS, 6, 7, 8, 9, 13, SEP, 10]


def test_a_text_is_taken_apart_at_its_first_separator():
    pairs = Pairs.of(padded(SHORT, LONG))
    assert pairs.source.tolist() == [[BOS, 9, 0, 0, 0, 0], LONG[:6]]
    assert pairs.source_lengths.tolist() == [2, 6]
    assert pairs.target.tolist() == [[SEP, 10, 11, SEP, 12, 0], [SEP, 10, 0, 0, 0, 0]]
    back = pairs.placed(pairs.target[..., None].float(), 8)[..., 0]
    assert back.tolist() == [[0, 0, SEP, 10, 11, SEP, 12, 0], [0, 0, 0, 0, 0, 0, SEP, 10]]


def test_company_of_other_lengths_changes_nothing(network):
    with torch.no_grad():
        together = network(padded(SHORT, LONG))
        for row, text in enumerate((SHORT, LONG)):
            assert torch.allclose(together[row, : len(text)], network(torch.tensor([text]))[0], atol=1e-5)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_every_word_of_the_source_is_heard_on_the_target_side(network, place):
    other = list(LONG)
    other[place] = 14
    with torch.no_grad():
        one, two = network(torch.tensor([LONG])), network(torch.tensor([other]))
    assert torch.isfinite(one).all()
    assert (one[0, 6:] - two[0, 6:]).abs().amax(-1).min() > 1e-5


def test_rows_begin_again_with_longer_and_shorter_sources(network):
    words = torch.tensor([[15, 16], [17, 18]])
    with torch.no_grad():
        for running, fresh in ((SHORT, LONG), (LONG, SHORT)):
            _, state = network.encode(padded(running, running), torch.tensor([len(running)] * 2))
            _, new = network.encode(torch.tensor([fresh]), torch.tensor([len(fresh)]))
            put_rows(state, torch.tensor([1]), new)
            _, state = network.step(words[:, 0], state)
            hidden, state = network.step(words[:, 1], state)
            expected = [
                network(torch.tensor([[*text, *written]]))[0, -1]
                for text, written in zip((running, fresh), words.tolist(), strict=True)
            ]
            assert torch.allclose(hidden, torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize("text", [[BOS, 6, 7], [SEP, 6, 7]])
def test_a_text_without_source_and_separator_is_refused(network, text):
    for read in (network, lambda t: network.encode(t, torch.tensor([3, 3]))):
        with pytest.raises(ValueError, match=r"texts of the form <bos> source <sep> target, but the ids \[., 6, 7\]"):
            read(torch.tensor([[BOS, SEP, 9], text]))


def test_a_text_beyond_the_capacity_is_refused(network):
    with pytest.raises(ValueError, match="a text of 17 tokens is longer than the network's max_length of 16"):
        network.encode(torch.full((1, 17), SEP).index_fill(1, torch.tensor([0]), BOS), torch.tensor([17]))


def test_both_directions_are_those_of_a_packed_lstm():
    """The same weights in PyTorch's own bidirectional LSTM over packed sequences give the same outputs."""
    torch.manual_seed(1)
    own = BidirectionalLSTM(5, 8, num_layers=2)
    plain = [nn.LSTM(size, 4, batch_first=True, bidirectional=True) for size in (5, 8)]
    with torch.no_grad():
        for layer, onward, back in zip(plain, own.onward, own.back, strict=True):
            for name, parameter in onward.named_parameters():
                getattr(layer, name).copy_(parameter)
                getattr(layer, f"{name}_reverse").copy_(dict(back.named_parameters())[name])
        x, lengths = torch.randn(3, 6, 5), torch.tensor([6, 2, 4])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        first, _ = plain[0](packed)
        second, (h, _) = plain[1](first)
        expected, _ = nn.utils.rnn.pad_packed_sequence(second, batch_first=True)
        outputs, last = own(x, lengths)
    inside = torch.arange(6) < lengths[:, None]
    assert torch.allclose(outputs[inside], expected[inside], atol=1e-6)
    assert torch.allclose(last, torch.cat([h[0], h[1]], -1), atol=1e-6)


@pytest.mark.parametrize("name", SIZES)
def test_a_task_of_pairs_is_needed_to_train_one(tiny, name):
    with pytest.raises(ValueError, match="use a task of pairs"):
        DQN(tiny, network={"name": name, **SIZES[name]}, num_envs=2).learn(4)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("loss", ["soft_q", "dqn", "pcl", "cross_entropy", "ilql", "pqn"])
def test_every_kind_of_rule_trains_them(tiny, pairs, name, loss):
    torch.manual_seed(0)
    config = AgentConfig.of(None, {"network": {"name": name, **SIZES[name]}, "loss": loss, "learning_rate": 1e-2})
    network = make_q_network(config.network, tiny, 16, config.rule.heads())
    learner = Learner(network, config, ValidActions.of(tiny, 16, torch.device("cpu")))
    losses = [float(learner.update(pairs.rows(torch.arange(8)), 0.0)["loss"]) for _ in range(20)]
    assert min(losses[-5:]) < losses[0]
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize(("name", "rate"), [("seq2seq_lstm", 2e-2), ("seq2seq_transformer", 5e-3)])
def test_they_learn_to_copy_what_they_read(name, rate):
    """The target is the source, word for word: no answer can be had from the target side alone."""
    torch.manual_seed(0)
    network = CLASSES[name](9, **SIZES[name] | {"num_layers": 1, "hidden_size": 32})
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for _ in range(120):
        words = torch.randint(5, 9, (24, 2))
        text = torch.cat([torch.full((24, 1), BOS), words, torch.full((24, 1), SEP), words], 1)
        values = network.q_values(network(text)[:, 3:5])
        loss = nn.functional.cross_entropy(values.flatten(0, 1), words.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((values.argmax(-1) == words).float().mean()) > 0.9
