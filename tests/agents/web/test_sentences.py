"""What goes wrong on the page is said in its language."""

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest

from tokenlm.agents import DQN
from tokenlm.agents.runs.listing import FoundRun
from tokenlm.agents.web.play import LONGEST, Play, Shown
from tokenlm.agents.web.sentences import SENTENCES, in_chinese
from tokenlm.agents.web.steps import Steps
from tokenlm.agents.web.words import CHINESE, ENGLISH
from tokenlm.envs import EnvConfig

ROOT = Path(__file__).parents[3]
ENGLISH_WORDS = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")
ASKED = {"temperature": 0.8, "top_k": 0, "seed": 3}


@cache
def sentences_of_the_code():
    """All strings of the library, `{}` for what is filled in."""
    found = set()
    for path in [*(ROOT / "envs").rglob("*.py"), *(ROOT / "agents").rglob("*.py")]:
        if path.name == "sentences.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@pytest.mark.parametrize(("english", "chinese"), SENTENCES, ids=lambda text: text[:30])
def test_a_translated_sentence_is_one_of_the_code(english, chinese):
    assert {english, english.removeprefix("{}")} & sentences_of_the_code()
    assert {int(place) for place in re.findall(r"\{(\d)\}", chinese)} <= set(range(english.count("{}")))
    assert not ENGLISH_WORDS.search(chinese)


def test_what_is_filled_in_stays_as_it_was():
    assert in_chinese("seed must be at least 0, not -1") == "随机种子 至少是 0，不能是 -1"
    unknown = (
        "the prompt 'a {0} b' has words outside the vocabulary only: 'a', '{0}' and 2 more; use words of the corpus"
    )
    assert in_chinese(unknown) == "'a {0} b' 里的词都不在词表里：'a', '{0}'，另有 2 个；请用语料里的词"
    assert in_chinese("nobody has translated this") == "nobody has translated this"
    assert ENGLISH.said("token 3 is none of those shown") == "token 3 is none of those shown"
    assert CHINESE.said("token 3 is none of those shown") == "词元 3 不在列出的词元里"


def play_in(env, folder):
    agent = DQN(env, network={"embedding_size": 4, "hidden_size": 4}, seed=1, device="cpu")
    return Play([Shown("one", Steps(agent), FoundRun(folder, {}, [], {}))], CHINESE)


def shown_of(made):
    """What the page shows, without its marks."""
    return re.sub(r"<[^>]*>", " ", made)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sequence_reward": "bleu", "log_prob_weight": 0.0}, "而整段奖励 &#x27;bleu&#x27; 取决于整段文本"),
        ({"transition": "teacher"}, "动作不影响下一个状态"),
        ({"no_repeat": 5}, "温度为 1 时，p* 本身就是最优策略"),
    ],
)
def test_reasons_are_chinese(tiny, tmp_path, settings, said):
    env = dataclasses.replace(tiny, **settings)
    if "no_repeat" in settings:  # so many words that the tables are too large
        words = " ".join(f"w{i}" for i in range(40))
        env = EnvConfig(
            corpus=(words,) * 3, tokenizer="word", order=2, no_repeat=6, max_new_tokens=8, context_length=48
        )
    play = play_in(env, tmp_path)
    text = list(play.write(0, "", **ASKED))[-1]
    best = shown_of(play.best_of(text, 0.8))
    assert said in best
    *_, cards = play.compare(0, "", **ASKED)
    assert said in shown_of(cards)
    assert not ENGLISH_WORDS.search(shown_of(cards).replace("w", ""))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda play: play.write(0, "x" * (LONGEST + 1), **ASKED), "文本有 2,001 个字符，这里最多读 2,000 个"),
        (lambda play: play.write(0, "zebra", **ASKED), "里的词都不在词表里：'zebra'；请用语料里的词"),
        (lambda play: play.write(0, "", 0.8, 0, -1), "随机种子 至少是 0，不能是 -1"),
        (lambda play: play.write(0, "", -1.0, 0, 0), "温度要是有限的数，至少为 0（贪心），不能是 -1.0"),
        (lambda play: [play.credit(0, "", "zebra", 1.0)], "里有词表之外的词：'zebra'；请用语料里的词"),
        (lambda play: [play.credit(0, "", "the " * 40, 1.0)], "文本有 40 个词元，这里最多写"),
        (lambda play: [play.chosen(list(play.write(0, "", **ASKED))[-1], 99)], "没有第 99 个"),
        (lambda play: play.branch(list(play.write(0, "", **ASKED))[-1], 99, **ASKED), "词元 99 不在列出的词元里"),
    ],
)
def test_mistakes_are_chinese(tiny, tmp_path, asked, said):
    with pytest.raises(ValueError, match=ENGLISH_WORDS) as problem:
        list(asked(play_in(tiny, tmp_path)))
    shown = CHINESE.said(str(problem.value))
    assert said in shown
    assert not ENGLISH_WORDS.search(re.sub("'[^']*'", "", shown))


def test_unknown_words_are_said_in_chinese(tiny, tmp_path):
    play = play_in(tiny, tmp_path)
    text = list(play.write(0, "the elephant", **ASKED))[-1]
    assert "词表之外的词，读作 &lt;unk&gt;：&#x27;elephant&#x27;，在 &#x27;the elephant&#x27; 里" in play.text_of(text)
