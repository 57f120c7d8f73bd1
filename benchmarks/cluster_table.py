"""The tables of docs/scaling.md and docs/zh/scaling.md, from results/cluster.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu_table import number
from result_tables import load

_ENGLISH = {
    "together": "together", "together, one batch": "together, one batch", "apart": "apart", "lstm": "LSTM",
    "transformer": "transformer", "7 B": "7 B (data sheet)", "acting": "acting", "environment": "environment",
    "learning": "learning", "network": "network", "weights": "weights", "texts": "texts",
    "head": "| network | layout | {sizes} | knee |", "size": "n = {0:,}", "beyond": "> 1,000,000",
    "updates": "{0:.1f} updates", "tokens": "tokens/s",
}  # fmt: skip
_CHINESE = {
    "together": "合", "together, one batch": "合，总批量有限", "apart": "分", "lstm": "LSTM",
    "transformer": "Transformer", "7 B": "70 亿参数（按产品规格）", "acting": "写", "environment": "环境",
    "learning": "学", "network": "网络", "weights": "发权重", "texts": "发文本",
    "head": "| 网络 | 布局 | {sizes} | 拐点 |", "size": "n = {0:,}", "beyond": "> 1,000,000",
    "updates": "{0:.1f} 次更新", "tokens": "词元/秒",
}  # fmt: skip


def _knees(words: dict[str, str]) -> str:
    rows = load("cluster.json")["rows"]
    sizes = sorted({row["devices"] for row in rows})
    heads = " | ".join(words["size"].format(size) for size in sizes)
    lines = [words["head"].format(sizes=heads), "|---" * (len(sizes) + 3) + "|"]
    for network, layout in dict.fromkeys((row["network"], row["layout"]) for row in rows):
        found = {r["devices"]: r for r in rows if (r["network"], r["layout"]) == (network, layout)}
        cells = [_cell(found.get(size), words) for size in sizes]
        knee = next(iter(found.values()))["knee"]
        last = "" if layout == "apart" else words["beyond"] if knee is None else f"{knee:,}"
        lines.append(f"| {words[network]} | {words[layout]} | {' | '.join(cells)} | {last} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None, words: dict[str, str]) -> str:
    if row is None:
        return "-"
    text = f"{100 * row['of lone devices']:.0f} %, {words[row['limit']]}"
    if row["layout"] != "apart":
        return text
    return f"{text}, {row['devices'] - row['learners']}:{row['learners']}, {words['updates'].format(row['lag'])}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value >= 1e-3 else f"{1e6 * value:.2g} µs"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:,.3g} GB" if value >= 1e7 else f"{value / 1e3:,.0f} kB"


def _count(value: float) -> str:
    return f"{value:,.0f}"


_FIGURES: dict[str, tuple[Callable[[float], str], str, str, str]] = {
    "training bytes": (
        _gigabytes, "weights, gradients, Adam, target network", "(4 + 4 + 8 + 4) P", "权重、梯度、Adam、目标网络",
    ),
    "training bytes, 8 devices and a whole copy": (
        _gigabytes, "of each of 8 devices that share them, with whole weights to act with", "20 P / 8 + 4 P",
        "8 台分担，每台另有一份完整权重来写",
    ),
    "fewest devices, whole copy": (_count, "fewest devices of 80 GB for that", "", "这样至少要几台 80 GB 的设备"),
    "fewest devices": (_count, "fewest without whole weights anywhere", "", "哪里都不放完整权重时至少几台"),
    "logits bytes": (_gigabytes, "action values of one text, never made", "4 T V", "一篇文本的全部动作值（从不生成）"),
    "activation bytes": (
        _gigabytes, "activations of one text, blocks recomputed", "2 T D · layers", "一篇文本的激活，逐层重算",
    ),
    "cache bytes": (_gigabytes, "keys and values of one text", "4 T · heads · size · layers", "一篇文本的键值缓存"),
    "texts at once": (_count, "texts that one device writes side by side", "", "一台设备同时写几篇"),
    "replay bytes of a million texts": (_gigabytes, "replay of a million texts", "8 T · 10⁶", "一百万篇文本的回放"),
    "bytes of p* a token": (_gigabytes, "p\\* of one prefix, all words", "4 V", "一个前缀后 p\\* 的整个分布"),
    "GFLOP a transition": (
        lambda x: f"{x:.3g} GFLOP", "operations of a transition, soft Q", "8 P + attention + 6 D V",
        "一次转移的运算量，软 Q",
    ),
    "head's share": (lambda x: f"{100 * x:.2g} %", "of these the action head", "6 D V", "其中动作头占"),
    "transitions/s": (_count, "transitions/s of one device", "", "一台设备每秒训练的转移"),
    "tokens/s written": (_count, "tokens/s that one device writes", "", "一台设备每秒写的词元"),
    "tokens/s rewarded": (_count, "tokens/s that p\\* of the same size rewards", "", "同样大的 p\\* 每秒打分的词元"),
    "seconds to average gradients": (_seconds, "averaging float32 gradients", "2 · 4 P / link", "平均 float32 的梯度"),
    "seconds of sharded passes": (
        _seconds, "sharded in bfloat16: gather twice, reduce once", "3 · 2 P / link",
        "bfloat16 分片：收集两次，归约一次",
    ),
    "seconds to send the weights": (
        _seconds, "sending bfloat16 weights to the actors", "2 P / link", "把 bfloat16 权重发给写的设备",
    ),
    "seconds to send a text": (_seconds, "sending a finished text", "8 T / link", "发一篇写完的文本"),
    "seconds of an update": (_seconds, "an update on 16 texts a device", "", "一次更新，每台 16 篇"),
    "seconds of a text": (_seconds, "writing a text", "", "写一篇文本"),
    "updates while a text is written": (
        lambda x: f"{x:.1f}", "updates while a text is written", "", "写一篇文本的时间里更新几次",
    ),
}  # fmt: skip


def _arithmetic(head: str, place: int) -> str:
    found = load("cluster.json")["settings"]["large"]
    lines = [head, "|---|---|---|"]
    for name, texts in _FIGURES.items():
        show, formula = texts[0], texts[2]
        lines.append(f"| {texts[place]} | {formula and f'`{formula}`'} | {show(found[name])} |")
    return "\n".join(lines)


def _beside(head: str) -> str:
    rows = load("cluster.json")["settings"]["beside measurements"]
    lines = [head, "|---|---|---|"]
    lines += [f"| {row['V']:,} | {number(row['model'])} | {number(row['measured'])} |" for row in rows]
    return "\n".join(lines)


def _rates(head: str, sources: bool) -> str:
    settings = load("cluster.json")["settings"]
    lines = [head, "|---" * 5 + "|"]
    for name, rates in settings["rates"].items():
        cells = [number(rates[each]) for each in ("acting", "environment", "learning")]
        link = f"{rates['bandwidth'] / 1e9:g} GB/s, {1e6 * rates['latency']:g} µs"
        lines.append(f"| {_ENGLISH[name] if sources else _CHINESE[name]} | {' | '.join(cells)} | {link} |")
    if not sources:
        return "\n".join(lines)
    found = dict.fromkeys(f"- {what}: {where}" for each in settings["sources"].values() for what, where in each.items())
    return "\n".join([*lines, "", "Sources:", "", *found])


def _two(head: str, curves: str) -> str:
    """Rates of two processes beside one, and KL of both against environment steps."""
    result = load("ranks.json")
    lines = [head, "|---" * 6 + "|"]
    for row in result["rows"]:
        cells = [_ENGLISH[row["network"]], row["loss"], *(number(row[f"{n}, transitions/s"]) for n in ("one", "two"))]
        cells.append(f"{row['two / one']:.2f} ({row['25 %']:.2f} to {row['75 %']:.2f})")
        lines.append(f"| {' | '.join(cells)} | {row['averaging, ms']:.0f} ms |")
    lines += ["", curves, "|---" * 3 + "|"]
    for row in result["settings"]["curves"]:
        found = [row["KL, one"], row["KL, two"]]
        cells = [f"{sum(kl) / len(kl):.2f} ({min(kl):.2f} to {max(kl):.2f})" for kl in found]
        lines.append(f"| {row['env steps']:,} | {' | '.join(cells)} |")
    hardware = result["hardware"]
    return "\n".join([*lines, "", f"{hardware['cores']} × {hardware['processor']}, `{result['command']}`"])


CLUSTER: dict[str, Callable[[], str]] = {
    "cluster": lambda: _knees(_ENGLISH),
    "cluster_zh": lambda: _knees(_CHINESE),
    "cluster_rates": lambda: _rates("| network | writes, tokens/s | environment | transitions/s | link |", True),
    "cluster_rates_zh": lambda: _rates("| 网络 | 写，词元/秒 | 环境 | 训练，转移/秒 | 链路 |", False),
    "cluster_beside": lambda: _beside("| V | model, steps/s | measured, steps/s |"),
    "cluster_beside_zh": lambda: _beside("| V | 模型，步/秒 | 实测，步/秒 |"),
    "large": lambda: _arithmetic("| what | how | |", 1),
    "large_zh": lambda: _arithmetic("| 什么 | 算法 | |", 3),
    "ranks": lambda: _two(
        "| network | rule | one, transitions/s | two | two / one (quartiles) | averaging |",
        "| env steps | KL(π ‖ p\\*), one process | two |",
    ),
    "ranks_zh": lambda: _two(
        "| 网络 | 规则 | 一个进程，转移/秒 | 两个 | 两个 / 一个（四分位） | 求平均 |",
        "| 环境步 | KL(π ‖ p\\*)，一个进程 | 两个 |",
    ),
}
