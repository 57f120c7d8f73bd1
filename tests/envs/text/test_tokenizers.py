"""Tokenizers: what goes in comes out, exactly or readably; vocabularies; saving."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.envs.text import Cleaning, SymbolTokenizer, Vocabulary, load_tokenizer, make_tokenizer

CORPUS = [
    "今天的天气很好。",
    "我喜欢吃苹果，不喜欢吃辣椒！",
    "Hello, world. It's a fine day.",
    "我用 Python 3.11 写程序 🙂",
    'He said "yes" (twice) and left; she didn\'t.',
    "the cat sees the dog and the dog sees the cat",
]
NAMES = ["jieba", "char", "word", "nltk", "bpe"]
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)


@pytest.fixture(scope="module")
def tokenizers() -> dict:
    return {name: make_tokenizer(name, CORPUS) for name in NAMES}


@pytest.mark.parametrize("name", ["char", "bpe"])
@pytest.mark.parametrize("text", CORPUS)
def test_char_and_bpe_give_the_text_back(tokenizers, name, text):
    tokenizer = tokenizers[name]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=100)
@given(words)
def test_bpe_writes_any_text(tokenizers, text):
    text = Cleaning()(text)
    ids = tokenizers["bpe"].encode(text)
    assert tokenizers["bpe"].decode(ids) == text
    assert all(i >= 5 for i in ids)


@settings(max_examples=60)
@given(st.lists(words.map(Cleaning()).filter(bool), min_size=1, max_size=5))
def test_char_gives_back_any_text_it_was_made_from(texts):
    tokenizer = make_tokenizer("char", texts)
    assert [tokenizer.decode(tokenizer.encode(t)) for t in texts] == texts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jieba", "今天的天气很好。"),
        ("jieba", "我用 Python 3.11 写程序 🙂".replace(" ", "")),
        ("word", "Hello, world. It's a fine day."),
        ("word", 'He said "yes" (twice) and left; she didn\'t.'),
        ("word", "今天的天气很好。"),
        ("nltk", "Hello, world. It's a fine day."),
        ("nltk", "the cat sees the dog and the dog sees the cat"),
    ],
)
def test_the_others_give_readable_text(name, text):
    tokenizer = make_tokenizer(name, [text])
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_jieba_joins_mixed_text_readably():
    text = "我用 Python 写 machine learning 程序"
    tokenizer = make_tokenizer("jieba", [text])
    assert tokenizer.decode(tokenizer.encode(text)) == "我用Python写machine learning程序"


def test_jieba_cuts_words(tokenizers):
    tokenizer = tokenizers["jieba"]
    assert [tokenizer.vocabulary.token(i) for i in tokenizer.encode("今天的天气很好。")] == [
        "今天",
        "的",
        "天气",
        "很",
        "好",
        "。",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_are_never_shown(tokenizers, name):
    tokenizer = tokenizers[name]
    ids = tokenizer.encode("今天")
    assert tokenizer.decode([2, *ids, 1, 4, 3, 0, 0]) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", NAMES)
def test_saved_copied_pickled(tokenizers, name, tmp_path):
    tokenizer = tokenizers[name]
    tokenizer.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json"}
    for other in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert other.vocabulary == tokenizer.vocabulary
        assert other.name == tokenizer.name
        assert [other.encode(t) for t in CORPUS] == [tokenizer.encode(t) for t in CORPUS]


def test_symbols(tmp_path):
    tokenizer = SymbolTokenizer(9)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).encode("5 8 x") == [5, 8, 1]
    assert tokenizer.decode([2, 7, 6, 3]) == "7 6"


def test_jieba_with_own_words(tmp_path):
    dictionary = tmp_path / "own.txt"
    dictionary.write_text("\ufeff云计算平台\r\n韩玉赏鉴 3 nz\n\n", encoding="utf-8")
    text = "云计算平台和韩玉赏鉴很好"
    tokenizer = make_tokenizer("jieba", [text], user_dictionary=dictionary)
    dictionary.unlink()
    assert {"云计算平台", "韩玉赏鉴"} <= set(tokenizer.vocabulary.words)
    assert "云计算平台" not in make_tokenizer("jieba", [text]).vocabulary.words
    tokenizer.save(tmp_path / "saved")
    for other in (load_tokenizer(tmp_path / "saved"), pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert other.encode(text) == tokenizer.encode(text)
        assert Vocabulary.UNK not in other.encode(text)


def test_vocabulary_by_hand():
    vocabulary = Vocabulary.build([["b", "a", "b"], ["c", "a"], ["d"]], max_size=8)
    assert vocabulary.words == ["a", "b", "c"]
    assert vocabulary.encode(["a", "d", "<eos>", "<unk>", "<pad>"]) == [5, 1, 1, 1, 1]
    assert Vocabulary.build([["b", "a", "b"]], min_count=2).words == ["b"]
    assert [vocabulary.token(i) for i in range(5)] == ["<pad>", "<unk>", "<bos>", "<eos>", "<sep>"]
    assert "a" in vocabulary
    assert "<eos>" not in vocabulary
    assert vocabulary.digest != Vocabulary(["b", "a", "c"]).digest


def test_special_words_of_the_corpus_stay_unknown():
    tokenizer = make_tokenizer("char", ["ab"])
    assert tokenizer.encode("<eos>") == [1] * 5
    vocabulary = Vocabulary.build([["<unk>", "<eos>", "a"]])
    assert vocabulary.words == ["a"]


def text(folder, content):
    (folder / "settings.json").write_text(content, encoding="utf-8")
    return folder / "settings.json"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: make_tokenizer("jeiba", ["a"]), ValueError, "'jeiba' is unknown; did you mean 'jieba'"),
        (lambda p: make_tokenizer("word", ["a"], min_count=9), ValueError, "no word occurs at least 9"),
        (lambda p: make_tokenizer(str(p / "no.json"), []), FileNotFoundError, "no tokenizer file"),
        (lambda p: load_tokenizer(p), FileNotFoundError, "holds no saved tokenizer"),
        (
            lambda p: make_tokenizer("bpe", ["a"], stop_words=frozenset("a")),
            ValueError,
            "takes no stop words",
        ),
        (lambda p: make_tokenizer("bpe", ["a"], max_vocab_size=260), ValueError, "at least 261 tokens .*not 260"),
        (lambda p: make_tokenizer("char", ["a"], user_dictionary="x"), ValueError, "only .* 'jieba' takes .*'char'"),
        (lambda p: make_tokenizer("jieba", ["a"], user_dictionary=p / "x"), FileNotFoundError, "no file .*x"),
        (lambda p: make_tokenizer("jieba", ["a"], user_dictionary=text(p, "a\na 0\n")), ValueError, "line 2 .*'a 0'"),
        (lambda p: make_tokenizer("jieba", ["a"], user_dictionary=text(p, "")), ValueError, "is empty; a dictionary"),
        (lambda p: load_tokenizer(text(p, "{").parent), ValueError, "settings.json is not JSON"),
        (lambda p: load_tokenizer(text(p, "[]").parent), ValueError, "does not describe a tokenizer"),
        (lambda p: load_tokenizer(text(p, '{"name": "symbol"}').parent), ValueError, "does not describe a tokenizer"),
        (lambda p: Vocabulary.load(p / "x.json"), FileNotFoundError, "no file .*x.json"),
        (lambda p: Vocabulary.load(text(p, "{}")), ValueError, "is not a vocabulary; it must be a list"),
        (lambda p: Vocabulary.load(text(p, '["a"]')), ValueError, "begins with <pad> <unk> <bos> <eos> <sep>"),
        (lambda p: Vocabulary.build([["a"]], max_size=5), ValueError, "max_size must be at least 6, .*not 5"),
        (lambda p: Vocabulary(["a", "a"]), ValueError, "'a' is in the vocabulary twice"),
        (lambda p: Vocabulary(["a"]).token(9), ValueError, "token id 9 is out of range; ids are 0 to 5"),
    ],
)
def test_what_cannot_be_made_says_why(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path)


@pytest.mark.parametrize(("library", "name", "extra"), [("tokenizers", "bpe", "hf"), ("nltk", "nltk", "nltk")])
def test_a_missing_library_names_its_extra(library, name, extra):
    code = f"import sys; sys.modules[{library!r}] = None\nfrom tokenlm.envs.text import make_tokenizer\nmake_tokenizer({name!r}, ['a b'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'ImportError: the tokenizer "{name}"'.replace('"', "") in result.stderr.replace('"', "").replace("'", "")
    assert f"tokenlm[{extra}]" in result.stderr


def test_jieba_starts_silently_and_leaves_nothing_behind(tmp_path):
    code = "from tokenlm.envs.text import make_tokenizer; make_tokenizer('jieba', ['今天天气好'])"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []
