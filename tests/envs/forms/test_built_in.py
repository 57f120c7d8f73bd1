"""Tones, rhymes and the built-in forms, by hand; and the corpus of quatrains."""

import re

import numpy as np
import pytest

from tokenlm.envs.forms import make_form, states_after, states_along
from tokenlm.envs.forms.tones import LEVEL, NO_RHYME, NO_TONE, OBLIQUE, reading
from tokenlm.envs.text import make_tokenizer, read_documents

torch = pytest.importorskip("torch")
VERSE = "细雨知时令，檐前两岸春。残灯沉水底，钓客待归人。"


def chars(*texts):
    tokenizer = make_tokenizer("char", texts)
    return tokenizer, lambda text: tokenizer.encode(text)


@pytest.mark.parametrize(
    ("character", "tone", "rhymes_with", "not_with"),
    [
        ("春", LEVEL, "人云门", "山风"),  # chun: un and en, in, ün
        ("人", LEVEL, "新心", "星"),
        ("月", OBLIQUE, "雪灭", "水"),
        ("风", LEVEL, "空明中", "人"),
        ("绿", OBLIQUE, "雨去", "路"),  # lü, not lu
        ("知", LEVEL, "时诗", "离西"),  # zhi, not ji
        ("白", LEVEL, "来开", "飞"),  # an entering tone of the Tang, now the second
        ("子", OBLIQUE, "字", "你"),
    ],
)
def test_readings_are_todays(character, tone, rhymes_with, not_with):
    found, group = reading(character)
    assert found == tone
    assert {reading(c)[1] for c in rhymes_with} == {group}
    assert group not in {reading(c)[1] for c in not_with}


@pytest.mark.parametrize("token", ["，", "。", "a", "<eos>", "春风", "5", ""])
def test_what_is_no_character_has_no_tone(token):
    assert reading(token) == (NO_TONE, NO_RHYME)


def test_a_quatrain_by_hand():
    tokenizer, encode = chars(VERSE, "山月")
    form = make_form("jueju5", tokenizer)
    window = np.array([[0, 0, 2, *encode(VERSE[:12])]])
    states = form.start(window)
    assert states[0].tolist() == [0, reading("春")[1]]
    # level, level, level, oblique, oblique, comma, oblique, oblique, oblique, level, level, stop
    pattern = "平平平仄仄，仄仄仄平平。"
    for place, token in enumerate(encode(VERSE[12:])):
        every = form.allowed(states, np.arange(len(tokenizer.vocabulary))[None, :])[0]
        right = {tokenizer.vocabulary.token(i) for i in np.flatnonzero(every)}
        assert ("山" in right, "月" in right) == (pattern[place] == "平", pattern[place] == "仄")
        assert ("，" in right, "。" in right) == (pattern[place] == "，", pattern[place] == "。")
        assert tokenizer.vocabulary.token(token) in right
        paid = form.bonus(states, np.array([encode("人山，")]))[0]
        assert paid.tolist() == ([1.0, 0.0, 0.0] if place == 10 else [0.0, 0.0, 0.0])  # 人 rhymes with 春
        states = form.next(states, np.array([token]))
    whole = np.array([[0, 2, *encode(VERSE)]])
    np.testing.assert_array_equal(states_after(form, whole, np.array([12])), states)


def test_a_couplet_by_hand():
    tokenizer, encode = chars("春风吹柳絮", "细雨落山花", "月水不明青天")
    form = make_form("couplet", tokenizer)
    states = form.start(np.array([[0, 0, 0, 2, *encode("春风吹柳絮"), 1]]))  # 平平平仄仄; what follows is no character
    written = "细雨落山花"  # 仄仄仄平平: all opposite
    for place, character in enumerate(written):
        right = {c for c in "细雨落山花月水不明青天春风吹柳絮" if form.allowed(states, np.array([encode(c)]))[0, 0]}
        others = set("细雨落山花月水不明青天")  # those of the first line are never right
        level = set("山花明青天")
        assert right == (others - level if place == 1 else level if place in (3, 4) else others), place
        assert not form.allowed(states, np.array([[3]]))[0, 0]
        paid = form.bonus(states, np.array([encode("花水")]))[0].tolist()
        assert paid == ([1.0, 0.0] if place == 4 else [0.0, 0.0])
        states = form.next(states, np.array(encode(character)))
    assert form.allowed(states, np.array([[3, encode("月")[0]]]))[0].tolist() == [True, False]
    loose = form.next(form.start(np.array([[2, *encode("春风")]])), np.array(encode("明")))  # level answers level
    assert form.bonus(loose, np.array([encode("月")]))[0].tolist() == [0.0]


def test_an_acrostic_by_hand():
    tokenizer = make_tokenizer("word", ["On a bed of clay", "the cat naps", "at ten above"])
    ids = {word: tokenizer.vocabulary.id(word) for word in ("cat", "clay", "at", "a", "ten", "the", "naps")}
    form = make_form("lines?length=2", tokenizer)
    states = form.start(np.array([[0, 2, ids["cat"]], [2, ids["a"], ids["ten"]], [0, 0, 2]]))
    assert states[:, 1].tolist() == [3, 4, 0]  # letters: c a t; a t e n; none
    every = np.array([[ids[w] for w in ("clay", "at", "the")]])
    assert form.bonus(states, every).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert form.allowed(states, np.array([[3, ids["at"]]])).tolist() == [[False, True], [False, True], [True, False]]
    text = np.array([[ids[w] for w in ("clay", "naps", "at", "ten", "the", "cat")]] * 3)
    paid = []
    for place in range(6):
        now = states_along(form, np.array([[0, 2, ids["cat"]]]), text[:1], np.array([place]))
        paid.append(form.bonus(now, text[:1, place, None])[0, 0])
        assert form.allowed(now, np.array([[3]]))[0, 0] == (place == 6)
    assert paid == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="the length of a line must be a whole number of at least 1, not 'x'"):
        make_form("lines?length=x", tokenizer)


@pytest.mark.parametrize("name", ["jueju5", "couplet", "lines?length=3"])
def test_numpy_and_torch_agree(name):
    tokenizer, encode = chars(VERSE, "山月")
    form, rng = make_form(name, tokenizer), np.random.default_rng(0)
    size = len(tokenizer.vocabulary)
    prefixes = np.array([[0, 2, *encode(VERSE[:12])], [0] * 13 + [2], [2, *rng.integers(5, size, 13)]])
    every = np.arange(size)[None, :]
    ours, theirs = form.start(prefixes), form.start(torch.from_numpy(prefixes))
    for _ in range(14):
        np.testing.assert_array_equal(ours, theirs.numpy())
        for method in ("allowed", "bonus"):
            found = getattr(form, method)(theirs, torch.from_numpy(every))
            np.testing.assert_array_equal(getattr(form, method)(ours, every), found.numpy())
        tokens = rng.integers(0, size, 3)
        ours, theirs = form.next(ours, tokens), form.next(theirs, torch.from_numpy(tokens))


def test_a_vocabulary_without_verse_is_refused():
    tokenizer, _ = chars("山风")
    with pytest.raises(
        ValueError, match="needs characters of oblique tone, the mark ，, the mark 。 in the vocabulary"
    ):
        make_form("jueju5", tokenizer)
    with pytest.raises(ValueError, match="characters of both tones"):
        make_form("couplet", tokenizer)


def test_the_quatrains_are_quatrains():
    quatrains = read_documents("jueju")
    assert len(quatrains) == len(set(quatrains)) >= 300
    lines = [re.fullmatch(r"(\w{5})，(\w{5})。(\w{5})，(\w{5})。", text).groups() for text in quatrains]
    assert all(reading(verse[1][-1])[1] == reading(verse[3][-1])[1] != NO_RHYME for verse in lines)
    kept = [
        [reading(c)[0] for c in third + fourth] == [LEVEL] * 3 + [OBLIQUE] * 5 + [LEVEL] * 2
        for _, _, third, fourth in lines
    ]
    assert np.mean(kept) > 0.9
