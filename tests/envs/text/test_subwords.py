"""Hugging Face tokenizer files: their words, without their special tokens and habits."""

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import Unigram, WordLevel, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace

from tokenlm.envs.text import Vocabulary, make_tokenizer


def hugging_face(tmp_path, model, **parts):
    made = Tokenizer(model)
    for name, part in parts.items():
        setattr(made, name, part)
    return made, str(tmp_path / "tokenizer.json")


def test_a_hugging_face_file_keeps_its_words_and_loses_its_special_tokens(tmp_path):
    made = Tokenizer(WordLevel({"[UNK]": 0, "[CLS]": 1, "hello": 2, "world": 3, "<eos>": 4}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.add_special_tokens(["[CLS]", "[UNK]"])
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = make_tokenizer(str(tmp_path / "tokenizer.json"), [])
    assert tokenizer.vocabulary.words == ["hello", "world", "\x00<eos>"]
    assert tokenizer.encode("world hello unheard") == [6, 5, Vocabulary.UNK]
    assert tokenizer.decode([6, 5, 1]) == "world hello"


def test_a_hugging_face_file_neither_cuts_nor_fills_texts(tmp_path):
    made, path = hugging_face(tmp_path, WordLevel({"a": 0, "b": 1, "[PAD]": 2}), pre_tokenizer=Whitespace())
    made.enable_truncation(3)
    made.enable_padding(length=8, pad_id=2, pad_token="[PAD]")
    made.save(path)
    assert make_tokenizer(path, []).encode("a b a b a") == [5, 6, 5, 6, 5]


def test_a_word_piece_file_writes_chinese_without_blanks(tmp_path):
    model = WordPiece({w: i for i, w in enumerate(["今", "天", "用", "app", "##le", "ok", "[UNK]"])}, unk_token="[UNK]")
    made, path = hugging_face(tmp_path, model, pre_tokenizer=BertPreTokenizer(), decoder=WordPieceDecoder())
    made.save(path)
    tokenizer = make_tokenizer(tmp_path / "tokenizer.json", [])
    assert tokenizer.vocabulary.words == ["今", "天", "用", "app", "##le", "ok"]
    assert tokenizer.decode([5, 6, 7, 8, 9, 10]) == "今天用apple ok"


def test_a_unigram_file_keeps_its_unknown_piece_unknown(tmp_path):
    made, path = hugging_face(tmp_path, Unigram([("?", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0, byte_fallback=False))
    made.save(path)
    tokenizer = make_tokenizer(path, [])
    assert tokenizer.vocabulary.words == ["a", "b"]
    assert tokenizer.encode("aéb") == [5, Vocabulary.UNK, 6]


def test_a_file_that_is_no_tokenizer(tmp_path):
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="not a Hugging Face tokenizer file"):
        make_tokenizer(str(tmp_path / "x.json"), [])
