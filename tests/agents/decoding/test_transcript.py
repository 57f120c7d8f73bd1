"""Text as it is written: pieces join to the whole, stop strings cut wherever their letters come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tokenlm.agents.decoding import Transcript
from tokenlm.envs import Vocabulary
from tokenlm.envs.text import make_tokenizer
from tokenlm.envs.text.subwords import SubwordTokenizer

TEXTS = [
    "今天天气很好,我们去公园。",
    "It's a good day (isn't it?) \"yes\" 👍🏽 👨‍👩‍👧",
    "用Python写code 100%",
    "x-y a/b — c…",
    "\t \n两 行",
]
LETTERS = "今天公园ab \n.,'\"()👍🏽👨‍👩‍👧é-…—"


def word_piece() -> SubwordTokenizer:
    """One whose decoder puts a blank between any two words."""
    pieces = {
        piece: n for n, piece in enumerate(["[UNK]", "a", "b", "##a", "##b", "今", "天", ".", "ab", "\U0001f44d"])
    }
    made = Library(models.WordPiece(pieces, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return SubwordTokenizer(made, "pieces.json")


def byte_fallback() -> SubwordTokenizer:
    """As in Llama's files: tokens for single bytes beside those of the vocabulary."""
    pieces = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "▁": 257, "今": 258, "a": 259, "▁a": 260}
    made = Library(models.BPE(pieces, [("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return SubwordTokenizer(made, "bytes.json")


TOKENIZERS = {
    **{name: make_tokenizer(name, TEXTS) for name in ("char", "word", "jieba", "nltk", "bpe")},
    "pieces": word_piece(),
    "bytes": byte_fallback(),
}


def ids_of(name: str) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(5, len(TOKENIZERS[name].vocabulary) - 1), max_size=30)


def written(name, ids, prompt=(), stop=()) -> tuple[Transcript, list[str]]:
    transcript = Transcript(TOKENIZERS[name], prompt, stop)
    pieces = [transcript.piece()]
    for token in ids:
        transcript.add(token)
        pieces.append(transcript.piece())
    transcript.close()
    return transcript, [*pieces, transcript.piece()]


@given(st.lists(st.sampled_from([0x0A, 0x41, 0xBD, 0xA0, 0xE4, 0x9F, 0xF0, 0x98, 257, 258, 259]), max_size=9))
def test_a_byte_changes_no_character_before_it(own):
    tokenizer = TOKENIZERS["bytes"]
    back = {i: n for n, i in tokenizer.own_ids.items()}
    ids = [back[i] for i in own]
    transcript, pieces = written("bytes", ids)
    assert "".join(pieces) == transcript.text == tokenizer.decode(ids)


def test_bytes_that_make_characters_are_decoded_as_the_library_does():
    tokenizer = TOKENIZERS["bytes"]
    for text in ("今天 a\n👍🏽", "a a今é", ""):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text == tokenizer._tokenizer.decode([tokenizer.own_ids[i] for i in ids])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.data())
def test_pieces_of_any_tokens_join_to_the_text(name, data):
    prompt, ids = data.draw(ids_of(name)), data.draw(ids_of(name))
    transcript, pieces = written(name, ids, prompt)
    assert "".join(pieces) == transcript.text == TOKENIZERS[name].decode([*prompt, *ids])


@pytest.mark.parametrize("name", ["char", "bpe"])
@given(st.text(LETTERS), st.text(LETTERS))
def test_pieces_of_any_text_join_to_it(name, before, after):
    encode = make_tokenizer(name, [*TEXTS, LETTERS]).encode
    tokenizer = make_tokenizer(name, [*TEXTS, LETTERS])
    transcript = Transcript(tokenizer, encode(before))
    pieces = [transcript.piece()]
    for token in encode(after):
        transcript.add(token)
        pieces.append(transcript.piece())
    transcript.close()
    assert "".join([*pieces, transcript.piece()]) == before + after


def naive(name, prompt, ids, stop) -> str:
    """The text at the first token with which a stop string is there, cut before the first of them."""
    decode = TOKENIZERS[name].decode
    start = len(decode(prompt))
    for count in range(len(ids) + 1):
        text = decode([*prompt, *ids[:count]])
        places = [text.index(s, start) for s in stop if s in text[start:]]
        if places:
            return text[: min(places)]
    return decode([*prompt, *ids])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.data())
def test_stop_strings_cut_and_are_never_shown_in_part(name, data):
    prompt, ids = data.draw(ids_of(name)), data.draw(ids_of(name))
    stop = data.draw(st.lists(st.text(LETTERS, min_size=1, max_size=3), max_size=3))
    whole = TOKENIZERS[name].decode(ids)
    if whole:  # one that is really there, with a good chance
        first = data.draw(st.integers(0, len(whole) - 1))
        stop.append(whole[first : first + data.draw(st.integers(1, 5))])
    transcript, pieces = written(name, ids, prompt, stop)
    assert "".join(pieces) == transcript.text == naive(name, prompt, ids, stop)


def test_the_beginning_of_a_stop_string_is_held_back_before_an_incomplete_character():
    bpe = TOKENIZERS["bpe"]
    transcript, pieces = written("bpe", bpe.encode("so!¡"), stop=["!¡"])
    assert "".join(pieces) == transcript.text == "so"


def test_a_stop_string_may_span_tokens_and_characters():
    char, bpe = TOKENIZERS["char"], TOKENIZERS["bpe"]
    transcript = Transcript(char, stop=["天气"])
    for token in char.encode("今天天气很好"):
        transcript.add(token)
    assert transcript.text == "今天"
    assert len(transcript.ids) == 4
    transcript = Transcript(bpe, stop=["\U0001f468"])  # the first of the family, whose bytes are tokens of their own
    pieces = []
    for token in bpe.encode("yes 👨‍👩‍👧"):
        transcript.add(token)
        pieces.append(transcript.piece())
    assert transcript.over
    assert "".join(pieces) == "yes "


def test_a_prompt_is_not_searched_for_stop_strings():
    word = TOKENIZERS["word"]
    transcript = Transcript(word, word.encode("good day"), stop=["day", "(is"])
    for token in word.encode("a ( isn't"):
        transcript.add(token)
    assert transcript.text == "good day a "


def test_what_may_become_a_stop_string_is_held_back():
    char = TOKENIZERS["char"]
    transcript = Transcript(char, stop=["天天"])
    shown = []
    for token in char.encode("今天气天"):
        transcript.add(token)
        shown.append(transcript.piece())
    transcript.close()
    assert [*shown, transcript.piece()] == ["今", "", "天气", "", "天"]


def test_half_a_character_is_held_back():
    bpe = TOKENIZERS["bpe"]
    ids = bpe.encode("é")
    assert len(ids) == 2
    transcript = Transcript(bpe)
    transcript.add(ids[0])
    assert transcript.piece() == ""
    transcript.add(ids[1])
    assert transcript.piece() == "é"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_special_tokens_are_never_shown_and_the_end_token_ends(name):
    transcript = Transcript(TOKENIZERS[name], [Vocabulary.BOS, 6, Vocabulary.SEP])
    for token in (Vocabulary.UNK, 7, Vocabulary.EOS, 8):
        transcript.add(token)
    assert transcript.over
    assert transcript.ids == [Vocabulary.UNK, 7, Vocabulary.EOS]
    assert transcript.text == TOKENIZERS[name].decode([6, 7])
    assert not any(special in transcript.text for special in Vocabulary.SPECIAL_TOKENS)
