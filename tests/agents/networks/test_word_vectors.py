"""Word vectors from files: every known word gets its own, the others keep what they had."""

import numpy as np
import pytest
import torch
from torch import nn

from tokenlm.agents import DQN
from tokenlm.agents.networks.word_vectors import use_word_vectors
from tokenlm.envs.text import make_tokenizer

GLOVE = "cat 1 2 3\nzebra 9 9 9\n. . . 7 7 7\nhorse -0.5 1e-2 4\ncat 8 8 8\n"
SMALL = {"num_envs": 4, "batch_size": 8, "learning_starts": 0, "replay_capacity": 512}


@pytest.fixture(scope="module")
def tokenizer(sentences):
    return make_tokenizer("word", sentences)


def filled(tokenizer, path, width=3):
    embedding = nn.Embedding(len(tokenizer.vocabulary), width)
    before = embedding.weight.detach().clone()
    return use_word_vectors(embedding, path, tokenizer), before, embedding.weight.detach()


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_known_words_get_their_first_vector_and_others_keep_theirs(tokenizer, tmp_path, header):
    path = tmp_path / "vectors.txt"
    path.write_text(header + GLOVE, encoding="utf-8")
    found, before, after = filled(tokenizer, path)
    cat, horse = map(tokenizer.vocabulary.id, ("cat", "horse"))
    assert found == 2
    assert after[cat].tolist() == [1, 2, 3]
    assert torch.allclose(after[horse], torch.tensor([-0.5, 0.01, 4.0]))
    others = [i for i in range(len(before)) if i not in (cat, horse)]
    assert torch.equal(after[others], before[others])


def test_an_array_has_a_row_for_every_id(tokenizer, tmp_path):
    array = np.arange(3.0 * len(tokenizer.vocabulary)).reshape(-1, 3)
    np.save(tmp_path / "vectors.npy", array)
    found, _, after = filled(tokenizer, tmp_path / "vectors.npy")
    assert found == len(array)
    assert np.array_equal(after, array)


@pytest.mark.parametrize("settings", [{"name": "lstm", "embedding_size": 3}, {"name": "seq2seq_lstm", "embedding_size": 3}, {"name": "transformer", "hidden_size": 4, "num_heads": 2}])  # fmt: skip
def test_an_agent_begins_with_them_and_is_loaded_without(tiny, tmp_path, settings):
    width = settings.get("hidden_size", 3)
    path = tmp_path / "vectors.txt"
    path.write_text("cat " + " ".join("5" * width) + "\n", encoding="utf-8")
    agent = DQN(tiny, network={**settings, "embedding_file": str(path)}, **SMALL)
    assert agent.network.embedding.weight[agent.tokenizer.vocabulary.id("cat")].tolist() == [5] * width
    assert agent.network.notes == (f"{path}: vectors of 1 of 16 tokens",)
    agent.save(tmp_path / "agent")
    path.unlink()
    loaded = DQN.load(tmp_path / "agent")
    assert torch.equal(loaded.network.embedding.weight, agent.network.embedding.weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\n", "have 2 numbers, but the network's embedding has 3; set embedding_size .* to 2"),
        ("2 300\ncat 1 2\n", "have 300 numbers"),
        ("zebra 1 2 3\n", "has no vector for any of the 11 words of the vocabulary"),
        ("dog 1 2 3\ncat 1 x 3\n", "line 2 of .* is not a word and 3 numbers"),
    ],
)
def test_files_that_do_not_fit_say_why(tokenizer, tmp_path, text, message):
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        filled(tokenizer, path)


def test_arrays_that_do_not_fit_say_why(tokenizer, tmp_path):
    for shape, message in (((4, 3), r"shape \(4, 3\); it must have one row"), ((16, 5), "have 5 numbers")):
        np.save(tmp_path / "vectors.npy", np.zeros(shape))
        with pytest.raises(ValueError, match=message):
            filled(tokenizer, tmp_path / "vectors.npy")
    np.save(tmp_path / "vectors.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="is not an array of numbers"):
        filled(tokenizer, tmp_path / "vectors.npy")
    with pytest.raises(FileNotFoundError, match="there is no file of word vectors"):
        filled(tokenizer, tmp_path / "nothing.txt")
