"""The generated parts of README.zh.md and docs/zh: figures of the English parts and of results/, in Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from measuring import DISTURBED
from result_tables import BEST_OF_QUICKSTART, best_text, load, quickstart_table, why_lines

_NUMBER = re.compile(r"(?<![A-Za-z\d.,])\d[\d,]*(?:\.\d+)?")  # not the 3 of stable-baselines3
_LEVEL = 0.02  # relative difference below which two figures are called level


def with_figures(english: str, chinese: str) -> str:
    """`chinese` with {0}, {1}, … replaced by the numbers of `english` in their order; ValueError if some are unused."""
    found = _NUMBER.findall(english)
    if sorted({int(n) for n in re.findall(r"\{(\d+)\}", chinese)}) != list(range(len(found))):
        raise ValueError(f"the Chinese line must use all {len(found)} figures of: {english}")
    return chinese.format(*found)


_WHY = (
    "- **与最大似然持平**：目标很短的时候，同样的时间，新闻标题分类准确率 {0} 对 {1}，酒店评论 {2} 对 {3}"
    "（只有 {4} 篇测试文本，差别是噪声）。",
    "- **在意整句得分时也持平**：只写三个词的翻译，从最大似然的权重接着学，"
    "{2} 秒后 chrF 是 {0} 对 {1}（{3} 个种子）；学得多得多时才领先。",
    "- **只凭奖励就能规划**，似然做不到；靠的是学会奖励再做规划，而不是 DQN。世界的结构一张表装不下时，{1} 步后离最好的"
    "句子只差 {0} nat；对所有开头写同一句差 {2}，词对表差 {3}，GRPO 差 {4}，我们的 DQN 差 {5}。马尔可夫链一张表"
    "就装得下：{7} 步后学会的奖励模型差 {6}，表差 {8}，分不出高下，我们的 DQN 差 {9}。"
    "（各五个世界的平均；链上是四分位均值）",
    "- **长文本需要密集的奖励**：逐字给奖励，宋词的困惑度在 {2} 秒后是 {0}，最大似然是 {1}；"
    "奖励全在最后时，{4} 秒后是最大似然的 {3} 倍。",
    "- **它学的是 p\\*，不是语料**：好处是不过拟合，快速上手 {1} 秒后困惑度 {0}，最大似然 {2}，p\\* 本身 {3}；"
    "在验证集上最好时停下，{6} 秒后最大似然是 {4}，TD 是 {5}。"
    "p\\* 也是它的上限：绝句 {7} 对 {8}（p\\* 是 {9}）。只想要一个语言模型，就用最大似然。",
)

_QUICKSTART_HEAD = "| | 智能体 | p\\* | 最大似然 | 常量策略 | 最好的句子 |"
_QUICKSTART_ROWS = {
    "held-out perplexity": "测试集困惑度",
    "seconds of learning": "学习的秒数",
    "return of an episode, sampled (nats)": "一个回合的回报，按策略抽样（nat）",
    "return of an episode, greedy (nats)": "一个回合的回报，贪心（nat）",
    "regret at temperature 1 (nats)": "τ = 1 的后悔值（nat）",
    "score at temperature 1": "τ = 1 的得分",
    "score, greedy": "得分，贪心",
}
_QUICKSTART_NOTE = (
    "困惑度是 p\\* 的 {0} 倍，KL(π ‖ p\\*) 每句 {1} nat，{2} 个环境步，{3} 核 {cpu}（`{command}`，种子 {4}）。"
    "最好的常量句子只比最优句差 {5} nat：句子短，扣分的地方就少。所以先看困惑度和 KL。"
    "{6} 分是最好的平凡策略，它在 τ = {7} 的后悔值是 {8} nat。"
)


def why_in_chinese() -> str:
    """The five lines of `why_lines`."""
    english = why_lines().splitlines()
    return "\n".join(with_figures(one, other) for one, other in zip(english, _WHY, strict=True))


def quickstart_in_chinese() -> str:
    """The table of `quickstart_table` and what is said below it."""
    table, note = quickstart_table().split("\n\n")
    note = note.removesuffix(best_text("TokenLM-v0", BEST_OF_QUICKSTART))
    lines = [_QUICKSTART_HEAD, *table.splitlines()[1:2]]
    for line in table.splitlines()[2:]:
        name = line.strip("| ").split(" | ", maxsplit=1)[0]
        lines.append(line.replace(name, _QUICKSTART_ROWS[name], 1))
    result = load("quickstart/result.json")
    cpu, command = result["hardware"]["processor"], result["command"]
    chinese = with_figures(
        note.replace(cpu, "").replace(command, ""), _QUICKSTART_NOTE.replace("{cpu}", cpu).replace("{command}", command)
    )
    best = best_text("TokenLM-v0", "最好的句子，例如 `{prompt}` 之后是 `{text}`，{nats} nat。")
    return "\n".join([*lines, "", chinese + best])


def article_claims() -> str:
    """The claims of chapter 8 and what was measured of them."""
    result = load("article_claims.json")
    rows, settings = result["rows"], result["settings"]
    both = ("DQN", "maximum likelihood")

    def of(kind: str, case: str, figure: str, **chosen: Any) -> list[Any]:
        return [r[figure] for r in rows if (r["kind"], r["case"], r["settings"]) == (kind, case, chosen)]

    perplexity = [of("text", case, "perplexity") for case in both]
    target = of("text", "DQN", "target_perplexity")[0]
    near = [of("text", case, "seconds_to_near") for case in both]
    cost = [of("text", case, "milliseconds_per_update") for case in both]
    memory = [of("text", case, "mib") for case in both]
    rate = [of("text", case, "transitions_per_second") for case in both]
    lines = [
        "![左：困惑度随学习时间的变化；右：学习率与困惑度](figures/claims.png)",
        "",
        "| 论断 | 量什么 | DQN | 最大似然 | |",
        "|---|---|---|---|---|",
        _row("高效性", f"{settings['seconds']:g} 秒后的困惑度（p\\* 是 {target:.2f}）", perplexity, _fixed),
    ]
    for temperature in (1.0, 0.5, 0.0):
        regret = [of("chain", case, "regret", temperature=temperature) for case in both]
        lines.append(_row("灵活性", f"τ = {temperature:g} 的后悔值（nat）", regret, _precise))
    lines += [
        _row("计算资源", "一次更新的毫秒数", cost, _fixed),
        _row("", "训练占的内存（MiB）", memory, _fixed),
        _row("", "每秒训练的词元数", rate, lambda x: f"{x:,.0f}", more_is_better=True),
        _row("收敛速度", f"困惑度降到 p\\* 的 {settings['near']:g} 倍要几秒", near, _fixed),
    ]
    lines += [
        "",
        "稳定性，只凭奖励，τ = 1/2 的后悔值（nat）：",
        "",
        "| 完整 | 没有目标网络 | 没有回放 |",
        "|---|---|---|",
    ]
    parts = {case: [r["regret"] for r in rows if r["kind"] == "chain" and r["case"] == case] for case in _PARTS}
    lines.append("| " + " | ".join(_spread(parts[case], _precise) for case in _PARTS) + " |")
    rates = sorted({r["settings"]["learning_rate"] for r in rows if "learning_rate" in r["settings"]})
    lines += [
        "",
        f"调参，{settings['seconds']:g} 秒后的困惑度：",
        "",
        "| 学习率 | " + " | ".join(f"{each:g}" for each in rates) + " |",
        "|---" * (len(rates) + 1) + "|",
    ]
    for case, name in zip(both, ("DQN", "最大似然"), strict=True):
        lines.append(
            f"| {name} | "
            + " | ".join(_fixed(of("text", case, "perplexity", learning_rate=x)[0]) for x in rates)
            + " |"
        )
    epsilons = sorted({r["settings"]["epsilon"] for r in rows if "epsilon" in r["settings"]})
    found = "，".join(f"ε = {x:g} 为 {_fixed(of('text', 'DQN', 'perplexity', epsilon=x)[0])}" for x in epsilons)
    hardware, others = result["hardware"], settings["others_cores"]
    disturbed = f"测量时别的程序占着 {others:g} 核，同样的秒数里学得少，" if others > DISTURBED else ""
    count = len(settings["seeds"])
    seeds = f"{count} 个种子的中位数，方括号里是最小与最大；调参各一个种子。" if count > 1 else "各一个种子。"
    lines += [
        "",
        f"DQN 的 ε 全程不变时：{found}。",
        "",
        f"{seeds}困惑度是验证集上的。"
        f"每次训练一个线程，{disturbed}{hardware['cores']} 核 {hardware['processor']}（`{result['command']}`）。",
    ]
    return "\n".join(lines)


_PARTS = ("whole", "no target network", "no replay")


def _row(
    claim: str, figure: str, found: list[list[Any]], shown: Callable[[float], str], more_is_better: bool = False
) -> str:
    ours, theirs = ([x for x in values if x is not None] for values in found)
    verdict = ""
    if ours and theirs:
        a, b = float(np.median(ours)), float(np.median(theirs))
        level = abs(a - b) <= _LEVEL * max(abs(a), abs(b))
        verdict = "持平" if level else "DQN 占优" if (a > b) == more_is_better else "最大似然占优"
    cells = [
        _spread(values, shown) if len(values) == len(all_) else "没有都达到"
        for values, all_ in zip((ours, theirs), found, strict=True)
    ]
    return f"| {claim} | {figure} | {cells[0]} | {cells[1]} | {verdict if '没有都达到' not in cells else ''} |"


def _spread(values: list[float], shown: Callable[[float], str]) -> str:
    middle = shown(float(np.median(values)))
    return middle if len(values) == 1 else f"{middle} [{shown(min(values))}, {shown(max(values))}]"


def _fixed(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _precise(value: float) -> str:
    return f"{value:.3f}"


CHINESE: dict[str, Callable[[], str]] = {
    "article_claims": article_claims,
    "why_zh": why_in_chinese,
    "quickstart_zh": quickstart_in_chinese,
}
