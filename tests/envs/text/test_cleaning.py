"""Cleaning: what always happens, and the switches."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.envs.text import Cleaning, make_tokenizer


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a \t b\u3000\u3000c\n", "a b c"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\ufeffa\u200bb\u00adc\x07", "abc"),
        (
            "👨\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f ❤\ufe0f",
            "👨\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f ❤\ufe0f",
        ),
        ("one\r\ntwo", "one two"),
        ("今天，天气好。", "今天，天气好。"),
    ],
)
def test_always(raw, clean):
    assert Cleaning()(raw) == clean


@pytest.mark.parametrize(
    ("switches", "raw", "clean"),
    [
        ({"remove_punctuation": True}, "今天，天气“好”！ It's 5$. 🙂", "今天 天气 好 It s 5 🙂"),
        ({"lower_case": True}, "ÀB İ", "àb i̇"),
        ({"full_width_to_half": True}, "ＡＢＣ１２３！\u3000ｘ，。", "ABC123! x,。"),
        ({"full_width_to_half": True, "lower_case": True, "remove_punctuation": True}, "Ａ，ｂ", "a b"),
    ],
)
def test_switches(switches, raw, clean):
    assert Cleaning(**switches)(raw) == clean


@given(st.text(), st.booleans(), st.booleans(), st.booleans())
def test_cleaning_twice_is_cleaning_once(text, punctuation, lower, half):
    clean = Cleaning(punctuation, None, lower, half)
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    assert not set(once) & set("\n\r\t\x00\ufeff\u3000")


def test_stop_words():
    assert {"的", "了"} <= Cleaning(stop_words="zh").stop_word_set()
    assert {"the", "of", "的"} <= Cleaning(stop_words="zh+en").stop_word_set()
    assert Cleaning().stop_word_set() == frozenset()
    tokenizer = make_tokenizer("word", ["the cat of the king"], stop_words=Cleaning(stop_words="en").stop_word_set())
    assert tokenizer.decode(tokenizer.encode("the cat of the king")) == "cat king"


def test_stop_words_from_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeffuno\r\n\n dos \n", encoding="utf-8")
    assert Cleaning(stop_words=str(path)).stop_word_set() == {"uno", "dos"}
    with pytest.raises(FileNotFoundError, match=r"no stop-word list 'nothing\.txt'; use 'zh', 'en'"):
        Cleaning(stop_words="nothing.txt").stop_word_set()


def test_stop_words_are_cleaned_as_the_text_is(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("e\u0301te\u0301\nＴｈｅ\n", encoding="utf-8")
    clean = Cleaning(stop_words=str(path), lower_case=True, full_width_to_half=True)
    assert clean.stop_word_set() == {"\u00e9t\u00e9", "the"}


@pytest.mark.parametrize(("data", "message"), [("中".encode("gbk"), "is not UTF-8"), (None, "is a folder")])
def test_a_stop_word_list_that_cannot_be_read_says_why(tmp_path, data, message):
    path = tmp_path if data is None else tmp_path / "words.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        Cleaning(stop_words=str(path)).stop_word_set()
