"""Cutting text of every script into words, and putting words together again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.envs.text import Cleaning, make_tokenizer
from tokenlm.envs.text.joining import join_words
from tokenlm.envs.text.words import SPLITS

FAMILY = "👨\u200d👩\u200d👧"
FLAG = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
any_text = st.lists(
    st.one_of(
        st.sampled_from([*"的天气好。，“”！ab Z'9.,-…<>é\u0302안हि\u200d\ufe0f", "👍🏽", "🇨", "<unk>", FAMILY, FLAG]),
        st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")),
    ),
    max_size=30,
).map(lambda pieces: Cleaning()("".join(pieces)))


@pytest.mark.parametrize("name", ["jieba", "word", "char"])
@settings(max_examples=150)
@given(any_text)
def test_cutting_loses_nothing_but_blanks(name, text):
    words = SPLITS[name](text)
    assert "".join(words).replace(" ", "") == text.replace(" ", "")
    assert all(word and (name == "char" or not any(c.isspace() for c in word)) for word in words)


@settings(max_examples=150)
@given(st.lists(any_text.map(lambda t: t.replace(" ", "")).filter(bool), max_size=12))
def test_joining_adds_only_blanks_and_only_at_the_end(words):
    text = join_words(words)
    assert text.replace(" ", "") == "".join(words).replace(" ", "")
    assert all(text.startswith(join_words(words[:n])) for n in range(len(words)))
    assert text == text.strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.14, 1,000.5 or 12:30.", ["It's", "3.14", ",", "1,000.5", "or", "12:30", "."]),
        ("1,2 and 1234,567", ["1", ",", "2", "and", "1234", ",", "567"]),
        ("人々は今日", ["人", "々", "は", "今", "日"]),
        ("हिन्दी में है।", ["हिन्दी", "में", "है", "।"]),
        ("x\u0302y café Привет", ["x\u0302y", "café", "Привет"]),
        (f"{FAMILY}{FLAG}👍🏽🇨🇳🇩🇪❤\ufe0f1\ufe0f\u20e3", [FAMILY, FLAG, "👍🏽", "🇨🇳", "🇩🇪", "❤\ufe0f", "1\ufe0f\u20e3"]),
        ("a <unk> b <eos>", ["a", "<unk>", "b", "<", "eos", ">"]),
    ],
)
def test_words_of_every_script(text, words):
    assert SPLITS["word"](text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我爱café和Привет", ["我", "爱", "café", "和", "Привет"]),
        ("他花了12,500元", ["他花", "了", "12,500", "元"]),
        (f"今天{FAMILY}🇨🇳很好❤\ufe0f", ["今天", FAMILY, "🇨🇳", "很", "好", "❤\ufe0f"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        ("天气<unk>很好", ["天气", "<unk>", "很", "好"]),
    ],
)
def test_jieba_is_kept_from_what_it_would_shred(text, words):
    assert SPLITS["jieba"](text) == words


def test_nltk_keeps_quotes_as_they_are_written():
    assert SPLITS["nltk"]("He said \"yes\" and ''no'' to <unk>.") == [
        *("He", "said", '"', "yes", '"', "and", "''", "no", "''", "to", "<unk>", "."),
    ]


@pytest.mark.parametrize("name", ["word", "nltk"])
@pytest.mark.parametrize(
    "text",
    [
        'He said "yes" (twice), then left.',
        "He said “yes” and ‘no’… Then she came.",
        "a well-known fact—or not? 3.14% of $5.50!",
        "I can't go; it's late & dark.",
        "안녕하세요 세계, hello.",
    ],
)
def test_spaced_text_reads_as_it_was_written(name, text):
    tokenizer = make_tokenizer(name, [text])
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", ["word", "jieba"])
@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("他说：“我爱 café”，然后走了……", "他说：“我爱café”，然后走了……"),
        ("《红楼梦》——曹雪芹·著", "《红楼梦》——曹雪芹·著"),
        ("用 machine learning 做 AI 🙂🙂", "用machine learning做AI 🙂🙂"),
        ("good 🙂 day", "good 🙂 day"),
    ],
)
def test_mixed_text_reads_well(name, text, read):
    tokenizer = make_tokenizer(name, [text])
    assert tokenizer.decode(tokenizer.encode(text)) == read


@pytest.mark.parametrize("name", ["word", "jieba", "nltk"])
def test_the_unknown_word_of_a_corpus_is_the_unknown_token(name):
    tokenizer = make_tokenizer(name, ["the <unk> cat <pad>"])
    ids = tokenizer.encode("the <unk> cat <pad>")
    assert ids.count(1) == 1
    assert [tokenizer.vocabulary.token(i) for i in ids] == ["the", "<unk>", "cat", "<", "pad", ">"]
    assert "<unk>" not in tokenizer.decode(ids)
