"""Sentences of this library that come up on the page, in Chinese."""

from __future__ import annotations

import re
from functools import cache

# English as the code has it, `{}` for what is filled in; Chinese, where {0} is the first of these.
SENTENCES = (
    # Why there is no optimum.
    ("{}; at temperature {} p* itself is the optimum", "{0}；温度为 {1} 时，p* 本身就是最优策略"),
    (
        "the exact optimum is that of log-likelihood alone, and the sequence reward {} depends on the whole text",
        "精确的最优解只对对数似然成立，而整段奖励 {0} 取决于整段文本",
    ),
    ("the exact optimum needs a log_prob_weight above 0, not 0", "log_prob_weight 要大于 0，现在是 0"),
    (
        "the exact optimum needs a target that looks at the last few tokens only, not {}, whose log-probabilities "
        "depend on more",
        "目标分布要只看最后几个词元，而 {0} 要看更多",
    ),
    (
        "the states of {} depend on the whole text, of which an observation shows the last {} tokens; the exact "
        "optimum needs context_length {}",
        "{0} 的状态取决于整段文本，而观测里只有最后 {1} 个词元；context_length 要有 {2}",
    ),
    (
        'with transition="teacher" actions do not influence the next state: the problem is a contextual bandit',
        'transition="teacher" 时，动作不影响下一个状态，问题只是上下文赌博机',
    ),
    (
        "the exact optimum needs a table of {} (state, token) pairs, more than the limit of {}; use bounds(), a lower "
        "order or a smaller vocabulary",
        "表里要有 {0} 个（状态，词元）对，超过了上限 {1}；请降低阶数，或缩小词表",
    ),
    (
        "the exact optimum with no_repeat={} needs {} states of {} tokens each, more than the limit of {} pairs; use "
        "fewer places or a smaller vocabulary",
        "no_repeat={0} 时{1} 个状态，每个 {2} 个词元，超过了上限 {3}；请减小 no_repeat，或缩小词表",
    ),
    ("at least {}", "至少有 {0}"),
    ("more than {}", "有超过 {0}"),
    (
        "the exact optimum under this form needs {} states of the form times {} contexts after {} tokens, more than "
        "are tabulated; use a form with fewer states or a smaller vocabulary",
        "写了 {2} 个词元之后，格律有 {0} 个状态，上文有 {1} 种，表装不下；请换状态更少的格律，或缩小词表",
    ),
    (
        "the exact optimum under a form needs a table of more than {} (state, token) pairs of p*; use a lower order, "
        "fewer places of no_repeat or a smaller vocabulary",
        "有格律时，p* 的表超过 {0} 个（状态，词元）对；请降低阶数，减小 no_repeat，或缩小词表",
    ),
    # Why there is no p*.
    (
        "p* is that of a text of the corpus, and the corpus has none for this prompt",
        "p* 由语料里的文本决定，语料里没有接在它后面的文本",
    ),
    # Prompts and texts.
    ("the prompt {} has words outside the vocabulary only: {}; {}", "{0} 里的词都不在词表里：{1}；{2}"),
    ("outside the vocabulary, read as <unk>: {}", "词表之外的词，读作 <unk>：{0}"),
    ("{} in the prompt {}", "{0}，在 {1} 里"),
    ("{} and {} more", "{0}，另有 {1} 个"),
    ("use words of the corpus", "请用语料里的词"),
    (
        "the prompt {} has {} tokens; p* looks at the whole text, and an observation of context_length {} holds at "
        "most {} of a prompt",
        "{0} 有 {1} 个词元；p* 要看整段文本，context_length 为 {2} 时，开头最多 {3} 个词元",
    ),
    ("the prompt {} has {} tokens, but the form {} goes on after {}", "{0} 有 {1} 个词元，而格律 {2} 接着 {3} 个写"),
    ("the target {} has words outside the vocabulary: {}; {}", "{0} 里有词表之外的词：{1}；{2}"),
    ("the text has {} tokens, but at most {} are written here", "文本有 {0} 个词元，这里最多写 {1} 个"),
    ("the text has {} characters; at most {} are read here", "文本有 {0} 个字符，这里最多读 {1} 个"),
    ("the token {} cannot be written after {} here", "词元 {0} 在这里不能写在 {1} 后面"),
    ("token {} is none of those shown", "词元 {0} 不在列出的词元里"),
    ("the text has {} tokens, not a token {}", "文本有 {0} 个词元，没有第 {1} 个"),
    # Settings.
    ("temperature must be 0 (greedy) or more, and finite, not {}", "温度要是有限的数，至少为 0（贪心），不能是 {0}"),
    ("{} has no temperature; use 0 for greedy texts, not {}", "{0} 没有温度；要贪心的文本请用 0，不能是 {1}"),
    (
        "this reward model plans for the best text, at temperature 0, not {}",
        "这个奖励模型只规划最好的文本，温度是 0，不能是 {0}",
    ),
    ("{} must be at least {}, not {}", "{0} 至少是 {1}，不能是 {2}"),
    ("seed", "随机种子"),
)


def in_chinese(sentence: str) -> str:
    """The Chinese for a sentence; the sentence itself where there is none."""
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(sentence):
            return chinese.format(*map(in_chinese, found.groups()))
    return sentence


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile("(.+?)".join(map(re.escape, english.split("{}"))), re.DOTALL), chinese)
        for english, chinese in SENTENCES
    )
