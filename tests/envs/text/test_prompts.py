"""Prompts: unknown words are split into known ones, by enumeration of all ways to cut; the rest is named."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.envs import EnvConfig, TokenLMEnv, UnknownWords, Vocabulary, World, encode_prompt
from tokenlm.envs.text import make_tokenizer
from tokenlm.envs.text.prompts import known_ids, split_known

CHINESE = tuple(f"{a}很{b}。" for a in ("今天", "天气", "我") for b in ("好", "冷", "热", "大", "小"))


@given(st.text("今天气好", min_size=1, max_size=6), st.sets(st.text("今天气好", min_size=1, max_size=3), max_size=6))
@settings(max_examples=150, deadline=None)
def test_the_split_is_the_best_of_all(word, known):
    def cost(parts):
        return sum(len(p) for p in parts if p not in known), len([p for p in parts if p in known])

    ways = [
        ["".join(word[a:b]) for a, b in itertools.pairwise((0, *cuts, len(word)))]
        for count in range(len(word))
        for cuts in itertools.combinations(range(1, len(word)), count)
    ]
    parts = split_known(word, known.__contains__)
    assert "".join(parts) == word
    unknown = sum(len(p) for p in parts if p not in known)
    assert unknown == min(cost(way)[0] for way in ways)
    if not unknown:
        assert len(parts) == min(cost(way)[1] for way in ways if not cost(way)[0])


def test_the_longest_part_comes_first():
    assert split_known("今天天气", {"今天", "天天气", "今", "天气"}.__contains__) == ["今天", "天气"]
    assert split_known("天天气", {"天", "天天", "天气", "气"}.__contains__) == ["天天", "气"]
    assert split_known("今天喵喵", {"今天"}.__contains__) == ["今天", "喵喵"]
    assert split_known("catdog", {"cat", "dog"}.__contains__) == ["catdog"]  # letters are not cut
    assert split_known("cat狗", {"cat", "狗"}.__contains__) == ["cat", "狗"]


def test_known_words_that_jieba_joins_are_read():
    tokenizer = make_tokenizer("jieba", CHINESE)
    assert Vocabulary.UNK in tokenizer.encode("今天天气")
    ids, unknown = known_ids("今天天气", tokenizer)
    assert not unknown
    assert tokenizer.decode(ids) == "今天天气"
    assert [tokenizer.vocabulary.token(i) for i in ids] == ["今天", "天气"]
    assert known_ids("今天犀牛", tokenizer)[1] == ["犀牛"]


@pytest.mark.parametrize("name", ["jieba", "word", "char"])
def test_known_texts_are_encoded_as_documents_are(name):
    tokenizer = make_tokenizer(name, CHINESE)
    for text in CHINESE:
        assert known_ids(text, tokenizer) == (tokenizer.encode(text), [])


def test_one_rule_for_all_tasks():
    env = EnvConfig(corpus=CHINESE, context_length=12, max_new_tokens=4)
    pairs = EnvConfig(
        corpus=tuple((text, "好") for text in CHINESE), task="qa",
        target="reference", context_length=12, max_new_tokens=4,
    )  # fmt: skip
    for config in (env, pairs):
        tokenizer = World.of(config).tokenizer
        with pytest.raises(ValueError, match="has words outside the vocabulary only: '😀'; use words of the corpus"):
            encode_prompt("😀😀", tokenizer, config)
        with pytest.warns(UnknownWords, match="read as <unk>: 'zebra' in the prompt '今天zebra'"):
            ids = encode_prompt("今天zebra", tokenizer, config)
        assert ids.count(Vocabulary.UNK) == 1
        assert Vocabulary.UNK not in encode_prompt("今天天气", tokenizer, config)
    assert TokenLMEnv(env).reset(options={"prompt": "今天天气"})[0].tolist().count(Vocabulary.UNK) == 0
