"""Files that are no files of their kind: one sentence within a second, and no gigabytes."""

import gzip
import json
import os
import resource
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tokenlm.agents.networks.word_vectors import use_word_vectors
from tokenlm.envs import TokenLMEnv, Vocabulary
from tokenlm.envs.targets import NGramTarget
from tokenlm.envs.text import Cleaning, load_tokenizer, make_tokenizer, read_documents, read_pair_corpus
from tokenlm.envs.text.files import read_json
from tokenlm.envs.text.limits import LIMITS
from tokenlm.envs.text.opening import parse_json, text_lines

SPECIAL = list(Vocabulary.SPECIAL_TOKENS)
TOKENIZER = make_tokenizer("word", ("the cat sees the dog",))


def vectors(path: Path) -> int:
    return use_word_vectors(nn.Embedding(len(TOKENIZER.vocabulary), 3), path, TOKENIZER)


def tokenizer_in(path: Path) -> object:
    return load_tokenizer(path.parent)


READERS = {
    "a corpus": (read_documents, "a.txt"),
    "pairs": (read_pair_corpus, "a.tsv"),
    "objects": (read_pair_corpus, "a.jsonl"),
    "stop words": (lambda p: Cleaning(stop_words=str(p)).stop_word_set(), "stop.txt"),
    "a user dictionary": (lambda p: make_tokenizer("jieba", ["a"], user_dictionary=p), "words.txt"),
    "an ARPA file": (lambda p: NGramTarget.from_arpa(p, TOKENIZER.vocabulary), "a.arpa"),
    "a vocabulary": (Vocabulary.load, "vocabulary.json"),
    "a tokenizer": (lambda p: make_tokenizer(str(p), []), "tokenizer.json"),
    "settings": (tokenizer_in, "settings.json"),
    "word vectors": (vectors, "vectors.txt"),
    "an array": (vectors, "vectors.npy"),
}


def refusal(read, path: Path) -> str:
    """The one sentence with which a file is refused, within limits of time and memory."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read(path)
    assert time.process_time() - begin < 2.0  # a second, and as much again for a busy machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 900_000  # kilobytes
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert type(caught.value) in (ValueError, FileNotFoundError)
    return message


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(b"the cat\n"))


def one_long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 << 20)  # zeros, which are characters


def deep(path: Path) -> None:
    path.write_text("[" * 200_000, encoding="utf-8")


def not_utf8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" * 50)


@pytest.mark.parametrize("make", [pipe, folder, compressed, one_long_line, deep, not_utf8])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_of_its_kind(tmp_path, reader, make):
    read, name = READERS[reader]
    # Deep brackets and 100 bytes of nonsense are words like any other in a list of these.
    if make is deep and reader in ("a corpus", "stop words", "a user dictionary"):
        pytest.skip("brackets are text")
    make(tmp_path / name)
    if reader == "a corpus" and make is folder:
        assert "holds no .txt or .tsv file" in refusal(read, tmp_path / name)
        return
    if reader == "pairs" and make is folder:
        return
    message = refusal(read, tmp_path / name)
    if make is pipe:
        assert "a pipe or a device" in message
    if make is compressed:
        assert "is compressed (gzip); unpack it first" in message


def test_a_vocabulary_of_ten_million(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(SPECIAL)[:-1] + ',"a"' * 10_000_000 + "]", encoding="utf-8")
    assert "more than 4,000,000 values" in refusal(Vocabulary.load, path)
    with path.open("ab") as file:
        file.truncate(110 << 20)  # the size of ten million different words
    assert "bytes, but a file may have at most" in refusal(Vocabulary.load, path)
    monkeypatch.setattr(LIMITS, "tokens", 7)
    for count in (2, 3):
        path.write_text(json.dumps([*SPECIAL, *map(str, range(count))]), encoding="utf-8")
        if count == 2:
            assert len(Vocabulary.load(path)) == 7
    assert "has 8 tokens, but a vocabulary may have at most 7" in refusal(Vocabulary.load, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "symbol", "vocab_size": 10**12}, "vocab_size must be a whole number from 6 to 2,000,000"),
        ({"name": "symbol", "vocab_size": "many"}, "vocab_size must be a whole number"),
        ({"name": "word", "stop_words": [["a"]]}, "does not describe a tokenizer"),
        ({"name": "jieba", "stop_words": [], "own_words": [["a", "x"]]}, "does not describe a tokenizer"),
        ({"name": "pair", "separate": False, "writable": [10**12]}, "does not describe a tokenizer of pairs"),
        ({"name": "pair", "separate": False, "writable": [-1]}, "does not describe a tokenizer of pairs"),
        ([], "does not describe a tokenizer"),
    ],
)
def test_settings_of_a_tokenizer_are_checked(tmp_path, settings, message):
    TOKENIZER.save(tmp_path)
    TOKENIZER.save(tmp_path / "target")
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert message in refusal(tokenizer_in, tmp_path / "settings.json")


def test_a_pair_within_a_pair(tmp_path):
    settings = json.dumps({"name": "pair", "separate": False, "writable": [5]})
    (tmp_path / "settings.json").write_text(settings, encoding="utf-8")
    (tmp_path / "target").symlink_to(tmp_path, target_is_directory=True)
    assert "not one of pairs" in refusal(tokenizer_in, tmp_path / "settings.json")


def test_half_a_surrogate_pair(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps([*SPECIAL, "\ud800"]), encoding="utf-8")
    assert "half of a surrogate pair" in refusal(Vocabulary.load, tmp_path / "v.json")


@pytest.mark.parametrize("shape", [(10**12, 3), (10**30, 3), (-1, 3), (0, 3), (6,), (9, 3)])
def test_an_array_whose_header_lies(tmp_path, shape):
    path = tmp_path / "v.npy"
    header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 12)
    refusal(vectors, path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((8, 3), np.nan), "numbers that are not finite in row 0"),
        (np.where(np.arange(24).reshape(8, 3) == 17, np.inf, 1.0), "not finite in row 5"),
        (np.full((8, 3), 1e300), "not finite in row 0"),  # as 32-bit numbers
        (np.full((8, 3), "a"), "not numbers"),
        (np.ones((8, 3), complex), "not numbers"),
    ],
)
def test_an_array_of_other_things(tmp_path, array, message):
    assert len(TOKENIZER.vocabulary) == 9
    np.save(tmp_path / "v.npy", np.concatenate([array, array[-1:] if array.dtype.kind == "U" else np.ones((1, 3))]))
    assert message in refusal(vectors, tmp_path / "v.npy")


def test_an_array_of_any_numbers(tmp_path):
    for kind in (">f8", "<f2", "i8", "u1"):
        np.save(tmp_path / "v.npy", np.ones((9, 3), kind))
        assert vectors(tmp_path / "v.npy") == 9


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e99"])
def test_word_vectors_that_are_not_finite(tmp_path, number):
    (tmp_path / "v.txt").write_text(f"the 1 2 3\ncat 1 {number} 3\n", encoding="utf-8")
    assert refusal(vectors, tmp_path / "v.txt").startswith("line 2 of ")


@pytest.mark.parametrize("header", ["", "2 3\n"])
def test_a_byte_order_mark_costs_no_word(tmp_path, header):
    (tmp_path / "v.txt").write_text(f"\ufeff{header}the 1 2 3\ncat 4 5 6\n", encoding="utf-8")
    assert vectors(tmp_path / "v.txt") == 2
    target = NGramTarget.fit([[5, 6], [6, 7]], len(TOKENIZER.vocabulary), 2)
    target.to_arpa(tmp_path / "a.arpa", TOKENIZER.vocabulary)
    text = (tmp_path / "a.arpa").read_text(encoding="utf-8")
    (tmp_path / "bom.arpa").write_text("\ufeff" + text, encoding="utf-8")
    for name in ("a.arpa", "bom.arpa"):
        read = NGramTarget.from_arpa(tmp_path / name, TOKENIZER.vocabulary)
        np.testing.assert_allclose(read.log_probs(np.array([[2, 5]])), target.log_probs(np.array([[2, 5]])), atol=1e-10)
    (tmp_path / "v.json").write_text("\ufeff" + json.dumps([*SPECIAL, "a"]), encoding="utf-8")
    assert Vocabulary.load(tmp_path / "v.json").words == ["a"]


def test_a_compressed_arpa_file(tmp_path):
    (tmp_path / "a.arpa.gz").write_bytes(gzip.compress(b"\\data\\\n"))
    message = refusal(lambda p: NGramTarget.from_arpa(p, TOKENIZER.vocabulary), tmp_path / "a.arpa.gz")
    assert message.endswith("is compressed (gzip); unpack it first")


def test_a_line_of_a_long_document_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("a" * (LIMITS.text_line - 1) + "\nb\n", encoding="utf-8")
    assert [len(line) for line in text_lines(tmp_path / "a.txt")] == [LIMITS.text_line - 1, 1]


@pytest.mark.parametrize("name", ["a.txt", "a.tsv"])
def test_the_line_separator_of_unicode_is_a_character(tmp_path, name):
    rows = [f"the\u2028cat {i}" for i in range(30)]
    text = "\n".join(row if name == "a.txt" else f"q{row}\t{row}" for row in rows)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_documents(tmp_path / name) == rows
    documents = TokenLMEnv(corpus=str(tmp_path / name), tokenizer="word").world.documents
    assert sum(len(d) for d in documents.values()) == 30


def test_the_first_byte_that_is_not_utf8(tmp_path):
    for before in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) + 5):
        (tmp_path / "a.txt").write_bytes(b"a" * before + "中".encode()[:2] + b"z\n")
        with pytest.raises(ValueError, match=rf"first invalid byte at offset {before}\)"):
            read_documents(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"ab" + "中".encode()[:2])
    with pytest.raises(ValueError, match=r"first invalid byte at offset 2\)"):
        read_documents(tmp_path / "a.txt")


@settings(max_examples=300)
@given(st.text(alphabet='[]{},:"0123456789eE+-.ntfalsrue\\ud\u2028 ', max_size=40))
def test_any_text_is_json_or_refused(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match="this is not JSON"):
            parse_json(text, "this")
    else:
        assert repr(parse_json(text, "this")) == repr(expected)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    for read in (lambda p: list(text_lines(p)), read_json, Vocabulary.load, vectors, read_documents):
        with suppress(ValueError):  # and nothing else
            read(path)


@pytest.mark.parametrize(
    "header",
    ["{'shape': (", "{'shape': (9, 3), 'descr': [[]], 'fortran_order': 1}", "{[]: 1}", "-" * 9000, "'" * 9, "\n "],
)
def test_a_header_of_an_array_that_is_no_python(header, tmp_path):
    """NumPy parses it as Python, and lets through whatever that raises."""
    size = len(header).to_bytes(2, "little")
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY\x01\x00" + size + header.encode())
    assert "is not an array of numbers" in refusal(vectors, tmp_path / "v.npy")
