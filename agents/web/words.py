"""What the page says, in English and in Chinese."""

from __future__ import annotations

import locale
from dataclasses import dataclass

from .sentences import in_chinese


@dataclass(frozen=True)
class Words:
    """Labels and sentences of the page, in one language; `{}` stands for what is filled in."""

    language: str
    run: str
    prompt: str
    prompt_hint: str
    question: str
    question_hint: str
    temperature: str
    temperature_hint: str
    fixed_temperature_hint: str
    top_k: str
    top_k_hint: str
    seed: str
    write: str
    stop: str
    example: str
    again: str
    tab_write: str
    tab_compare: str
    tab_credit: str
    next_token: str
    first_token: str
    unlikely: str
    likely: str
    untinted: str
    sum_target: str
    tokens: str
    reference: str
    click: str
    compare: str
    optimum_best: str
    optimum_policy: str
    likelihood: str
    likelihood_texts: str
    own_text: str
    credit_text: str
    credit_hint: str
    measure: str
    take_text: str
    learned: str
    exact: str
    difference: str
    bias: str
    error: str
    mistake: str
    no_target: str
    no_optimum: str

    def said(self, sentence: str) -> str:
        """A sentence of the library in this language, where there is a translation."""
        return in_chinese(sentence) if self.language == "zh" else sentence


ENGLISH = Words(
    language="en",
    run="Run",
    prompt="Prompt",
    prompt_hint="how the text begins; may be empty",
    question="Question",
    question_hint="a source, as in the corpus",
    temperature="Temperature τ",
    temperature_hint="0: always the best token",
    fixed_temperature_hint="1: the policy as it is; 0: its best token",
    top_k="top-k",
    top_k_hint="among so many best tokens; 0: all",
    seed="Seed",
    write="Write",
    stop="Stop",
    example="Example",
    again="Write on from here",
    tab_write="Write",
    tab_compare="Compare",
    tab_credit="Credit",
    next_token="The ten best tokens after “{}”",
    first_token="The ten best tokens to begin with",
    unlikely="unlikely under p*",
    likely="likely",
    untinted="p* is unknown",
    sum_target="log p* {} nats",
    tokens="{} tokens",
    reference="the corpus has",
    click="Click a token to see what else could stand there. Click one of these to put it there and write on.",
    compare="Write all",
    optimum_best="the optimum's best text (τ = 0)",
    optimum_policy="the optimum at τ = {}",
    likelihood="maximum likelihood on the same network",
    likelihood_texts="maximum likelihood on the same network (texts of the run, without a prompt)",
    own_text="this run",
    credit_text="Text",
    credit_hint="what is written after the prompt",
    measure="Measure",
    take_text="Take the text written",
    learned="learned A",
    exact="exact A*",
    difference="A − A*",
    bias="mean of A − A*: {} nats",
    error="root mean square: {} nats",
    mistake="This cannot be",
    no_target="Without p*: {}.",
    no_optimum="Without the exact optimum: {}.",
)

CHINESE = Words(
    language="zh",
    run="训练结果",
    prompt="开头",
    prompt_hint="文本怎么开始，可以留空",
    question="问题",
    question_hint="问题或原文，和语料里的写法一样",
    temperature="温度 τ",
    temperature_hint="0：总选最好的词元",
    fixed_temperature_hint="1：策略本身；0：总选最好的词元",
    top_k="top-k",
    top_k_hint="只从最好的几个词元里选，0 表示不限",
    seed="随机种子",
    write="开始写",
    stop="停",
    example="举个例子",
    again="从这里重写",
    tab_write="写",
    tab_compare="比较",
    tab_credit="信用分配",
    next_token="「{}」后面的前十名",
    first_token="第一个词元的前十名",
    unlikely="p* 认为少见",
    likely="常见",
    untinted="p* 未知",
    sum_target="log p* = {} nat",
    tokens="{} 个词元",
    reference="语料里的答案",
    click="点文本里的词元，看这里还能写什么；点表里的词元，就换成它接着写。",
    compare="都写一遍",
    optimum_best="最优策略的最佳文本（τ = 0）",
    optimum_policy="τ = {} 时的最优策略",
    likelihood="同一网络的最大似然",
    likelihood_texts="同一网络的最大似然（训练结束时写的，没有开头）",
    own_text="当前训练结果",
    credit_text="文本",
    credit_hint="接在开头后面的文字",
    measure="计算",
    take_text="用刚写的文本",
    learned="学到的 A",
    exact="精确的 A*",
    difference="A − A*",
    bias="A − A* 的平均值：{} nat",
    error="均方根误差：{} nat",
    mistake="做不到",
    no_target="没有 p*：{}。",
    no_optimum="没有精确的最优解：{}。",
)

LANGUAGES = {words.language: words for words in (ENGLISH, CHINESE)}


def words_of(language: str) -> Words:
    """The words of "en", "zh" or "auto", which is the language of this computer; ValueError for others."""
    if language == "auto":
        language = "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} is unknown; use auto, {' or '.join(LANGUAGES)}")
    return LANGUAGES[language]
