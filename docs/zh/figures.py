"""The figures of the course: `python docs/zh/figures.py [NAME …]` writes figures/NAME.png.

Labels are Chinese where a font with Chinese characters is found, else English. What is drawn comes from the code of the
chapters themselves, where they have it.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tokenlm.envs.picture import font_for

HERE = Path(__file__).parent
SIZE = (8.0, 3.2)  # inches


def _chinese() -> bool:
    try:
        path = font_for(frozenset("状态动作奖励"))
    except ValueError:
        return False
    fontManager.addfont(path)
    plt.rcParams["font.family"] = [FontProperties(fname=path).get_name(), "DejaVu Sans"]
    return True


CHINESE = _chinese()
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.unicode_minus": False})


def label(chinese: str, english: str) -> str:
    """The label in the language that can be shown."""
    return chinese if CHINESE else english


def code_of(chapter: int) -> list[str]:
    """The Python blocks of a chapter, in order."""
    text = (HERE / f"chapter{chapter}.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_code(chapter: int, count: int | None = None) -> dict[str, Any]:
    """The names that the first `count` blocks of a chapter define; what they print is left out."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in code_of(chapter)[:count]:
            exec(compile(block, f"chapter {chapter}", "exec"), names)
    return names


def loop() -> None:
    """Chapter 1: the agent writes a word, the environment answers with a reward and the longer prefix."""
    figure, axes = plt.subplots(figsize=(8.0, 2.6))
    axes.set(xlim=(0, 10), ylim=(0, 3.2))
    axes.axis("off")
    boxes = (
        (0.4, label("智能体\n策略 π(a|s)", "agent\npolicy π(a|s)")),
        (6.9, label("环境\n目标分布 p*", "environment\ntarget p*")),
    )
    for x, text in boxes:
        axes.add_patch(
            FancyBboxPatch((x, 0.9), 2.7, 1.4, boxstyle="round,pad=0.1", facecolor="#e8f0fa", edgecolor="#35659b")
        )
        axes.text(x + 1.35, 1.6, text, ha="center", va="center", fontsize=12)
    arrows = (
        ((3.3, 2.1), (6.7, 2.1), 2.35, label("动作 a：写一个词", "action a: a word")),
        (
            (6.7, 1.1),
            (3.3, 1.1),
            0.45,
            label("奖励 r = log p*(a|s)，新的前缀 s", "reward r = log p*(a|s), new prefix s"),
        ),
    )
    for begin, end, y, text in arrows:
        axes.add_patch(FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=16, color="#35659b"))
        axes.text(5.0, y, text, ha="center", fontsize=11)
    save(figure, "loop")


def words() -> None:
    """Chapter 2: frequencies by rank, and how much of the text the most frequent words cover."""
    names = run_code(2, 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE)
    for name, key in (("jieba", "by_word"), ("char", "by_char")):
        counts = Counter(i for text in names["texts"] for i in names[key].encode(text))
        sizes = np.array(sorted(counts.values(), reverse=True))
        left.loglog(np.arange(1, len(sizes) + 1), sizes, label=name)
        right.plot(np.arange(1, len(sizes) + 1), sizes.cumsum() / sizes.sum(), label=name)
    left.set(xlabel=label("名次", "rank"), ylabel=label("次数", "count"))
    right.set(
        xlabel=label("词表大小", "vocabulary"), ylabel=label("覆盖率", "share of the text covered"), ylim=(0, 1.02)
    )
    left.legend(frameon=False)
    save(figure, "words")


def rewards() -> None:
    """Chapter 3: the reward of every word, written in order and shuffled."""
    import gymnasium as gym

    env = gym.make("TokenLM-v0", corpus="zh", prompt_length=(0, 0))
    vocabulary = env.unwrapped.world.vocabulary  # type: ignore[attr-defined]
    text = ["今天", "晚上", "下", "了", "一场", "雨", "。"]
    figure, axes = plt.subplots(1, 2, figsize=SIZE, sharey=True)
    orders = ((label("顺着写", "in order"), range(7)), (label("打乱", "shuffled"), (4, 0, 5, 2, 1, 3, 6)))
    for axis, (title, order) in zip(axes, orders, strict=True):
        env.reset(seed=0)
        written = [text[i] for i in order]
        paid = [env.step(vocabulary.id(word))[1] for word in written]
        axis.bar(range(len(paid)), paid, color=["#3a8f5c" if r > -3 else "#c0504d" for r in paid])
        shown = written if CHINESE else [str(i + 1) for i in order]
        axis.set_xticks(range(len(paid)), shown)
        axis.set(title=f"{title}, {sum(paid):.1f} nat", xlabel=label("词", "word (place in the sentence)"))
    axes[0].set(ylabel=label("奖励 log p*（nat）", "reward log p* (nats)"))
    save(figure, "rewards")


def texts() -> None:
    """Chapter 4: probabilities of the 81 texts at three temperatures."""
    names = run_code(4, 1)
    log_p = np.sort(names["log_p"])[::-1]
    figure, axes = plt.subplots(figsize=SIZE)
    for temperature, colour in ((1.0, "#35659b"), (0.5, "#e0912f"), (0.1, "#c0504d")):
        weights = np.exp((log_p - log_p[0]) / temperature)
        axes.plot(np.arange(1, 82), weights / weights.sum(), ".-", color=colour, label=f"τ = {temperature:g}")
    axes.set(yscale="log", ylim=(1e-6, 1.3), xlabel=label("句子，从最可能的排起", "text, the most likely first"))
    axes.set(ylabel=label("概率", "probability"))
    axes.legend(frameon=False)
    save(figure, "texts")


def ablation() -> None:
    """Chapter 5: the largest error of Q, whole and with a part left out, three seeds each."""
    names = run_code(5, 3)
    cases = (
        (label("完整", "whole"), {}),
        (label("没有目标网络", "no target network"), {"sync_every": 1}),
        (label("没有回放", "no replay"), {"capacity": 32}),
    )
    figure, axes = plt.subplots(figsize=SIZE)
    for name, settings in cases:
        curves = np.array([names["train"](seed=seed, **settings)[1] for seed in range(3)])
        band(axes, 500 * np.arange(1, curves.shape[1] + 1), curves, name)
    axes.set(
        xlabel=label("环境步数", "environment steps"),
        ylabel=label("最大误差（nat）", "largest |Q - Q*| (nats)"),
        ylim=(0, None),
    )
    axes.legend(frameon=False)
    save(figure, "ablation")


def exploration() -> None:
    """Chapter 6: return of the greedy text against episodes, three seeds each."""
    names = run_code(6, 1)
    english = ("pessimistic, ε = 0.1", "pessimistic, ε = 0.5", "optimistic, ε = 0")
    figure, axes = plt.subplots(figsize=SIZE)
    for (name, (epsilon, initial)), other in zip(names["settings"].items(), english, strict=True):
        curves = np.array([names["q_learning"](600, epsilon, initial, seed) for seed in range(3)])
        band(axes, 50 * np.arange(1, curves.shape[1] + 1), curves, label(name, other))
    axes.axhline(names["best"], color="grey", linewidth=1, linestyle="--", label=label("最优", "optimum"))
    axes.set(
        xlabel=label("回合", "episodes"), ylabel=label("贪心句子的回报（nat）", "return of the greedy text (nats)")
    )
    axes.legend(frameon=False)
    save(figure, "exploration")


def tasks() -> None:
    """Chapter 7: the figures of the three tasks of pairs on training and test pairs."""
    names = run_code(7)
    figure, axes = plt.subplots(figsize=SIZE)
    titles = (
        label("问答：词元 F1", "answers: token F1"),
        label("翻译：chrF / 100", "translation: chrF / 100"),
        label("分类：准确率", "classification: accuracy"),
    )
    for place, height in enumerate(names["figures"]):  # training and test pairs in turn
        held_out = place % 2 == 1
        x = place // 2 + (0.2 if held_out else -0.2)
        axes.bar(x, height, 0.36, color="#e0912f" if held_out else "#35659b")
        axes.text(x, height + 0.02, f"{height:.2f}", ha="center")
    for colour, split in (("#35659b", label("训练集", "training pairs")), ("#e0912f", label("测试集", "test pairs"))):
        axes.bar(0, 0, color=colour, label=split)
    axes.set(ylim=(0, 1.12))
    axes.set_xticks(range(3), titles)
    axes.legend(frameon=False)
    save(figure, "tasks")


def claims() -> None:
    """Chapter 8: perplexity against seconds of learning, and against the learning rate, from the committed result."""
    path = HERE.parents[1] / "benchmarks" / "results" / "article_claims.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE, sharey=True)
    names = {"DQN": "DQN", "maximum likelihood": label("最大似然", "maximum likelihood")}
    for (case, name), colour in zip(names.items(), ("#35659b", "#e0912f"), strict=True):
        own = [row for row in rows if row["kind"] == "text" and row["case"] == case]
        for row in own:
            if not row["settings"]:
                left.plot(*zip(*row["curve"], strict=True), color=colour, label=name if row["seed"] == 0 else None)
        swept = [r for r in own if "learning_rate" in r["settings"]]
        rates = [r["settings"]["learning_rate"] for r in swept]
        right.plot(rates, [r["perplexity"] for r in swept], "o-", color=colour, label=name)
    for axes in (left, right):
        axes.axhline(rows[0]["target_perplexity"], color="grey", linewidth=1, linestyle="--")
    left.set(yscale="log", xlabel=label("学习的秒数", "seconds of learning"), ylabel=label("困惑度", "perplexity"))
    right.set(xscale="log", xlabel=label("学习率", "learning rate"))
    left.legend(frameon=False)
    save(figure, "claims")


def band(axes: Any, x: Any, curves: Any, name: str) -> None:
    """The median of curves (seeds, points) with their range."""
    (line,) = axes.plot(x, np.median(curves, 0), label=name)
    axes.fill_between(x, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.2, linewidth=0)


def save(figure: Any, name: str) -> None:
    """Write figures/NAME.png."""
    (HERE / "figures").mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(HERE / "figures" / f"{name}.png", dpi=100)
    plt.close(figure)


FIGURES: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (loop, words, rewards, texts, ablation, exploration, tasks, claims)
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or FIGURES:
        FIGURES[chosen]()
