"""The board: a table for each environment and temperature, from the rows in results/board/; `tables.py` puts it there.

A row that cannot be recomputed is not shown.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenlm.agents.runs.race.statistics import is_ahead, paired
from tokenlm.agents.runs.submission import RACED

from result_tables import best_text

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "results" / "board"
FEWEST_WORLDS = 5
MOST_BYTES = 1_000_000  # of committed weights
_SOURCES = ("rewards", "corpus", "nothing", "p*")

Row = dict[str, Any]


@dataclass(frozen=True)
class Words:
    """What the table says in one language.

    Args:
        head: titles of the columns.
        title: of a table, with {id} and {temperature}.
        sources: what `source` is called.
        record: a record that was there first, and one with the row that it is ahead of, {name} and {p}.
        names: of rows; others keep theirs.
        to: between two ends.
        no_score: which {worlds} have no score.
        best: what the best {text} after a {prompt} looks like, with its {nats}.
    """

    head: tuple[str, ...]
    title: str
    sources: dict[str, str]
    record: tuple[str, str]
    names: dict[str, str]
    to: str
    no_score: str
    best: str


ENGLISH = Words(
    ("policy", "learned from", "steps", "score", "regret, nats", "KL, nats", "seconds", "worlds", "record", "made by"),
    "**`{id}`, temperature {temperature:g}**",
    {"rewards": "rewards", "corpus": "corpus", "nothing": "nothing", "p*": "is told p\\*"},
    ("yes, the first", "yes, ahead of {name}, p = {p:.2g}"),
    {},
    " to ",
    "No score in world {worlds}, where the best trivial policy is optimal; the regret counts there.",
    "What the score 1 looks like: after `{prompt}` in world 0 the best text is `{text}`, {nats} nats.",
)
CHINESE = Words(
    ("策略", "从什么学", "步数", "得分", "后悔值（nat）", "KL（nat）", "秒", "世界", "纪录", "怎样重算"),
    "**`{id}`，τ = {temperature:g}**",
    {"rewards": "奖励", "corpus": "语料", "nothing": "什么都不学", "p*": "已知 p\\*"},
    ("是，第一个", "是，领先于{name}，p = {p:.2g}"),
    {
        "table with optimism and planning": "查表，乐观加规划",
        "table without planning": "查表，不规划",
        "reward model with planning": "奖励模型加规划",
        "ours, soft Q, settings of configs/race-markov.yaml": "我们的软 Q，用 configs/race-markov.yaml 的参数",
        "ours, soft Q, four steps, centred": "我们的软 Q，四步，居中",
        "GRPO, defaults": "GRPO，默认参数",
        "maximum likelihood, defaults": "最大似然，默认参数",
        "uniform random": "均匀随机",
        "by word frequency, sampled": "按词频采样",
        "p* sampled": "按 p\\* 采样",
        "the best single token, always": "一直写最好的那个词",
        "the same text for all prompts": "对所有开头写同一句",
        "greedy under p*": "按 p\\* 贪心",
        "beam 10 under p*": "按 p\\* 束搜索，宽 10",
        "optimum": "最优",
    },
    " 至 ",
    "世界 {worlds} 没有得分：那里最好的平凡策略就是最优的，只看后悔值。",
    "1 分的文本是什么样子：在世界 0 里，`{prompt}` 之后的最优文本是 `{text}`，{nats} nat。",
)


def rows(folder: Path = FOLDER) -> list[Row]:
    """The rows that may be shown, in the order in which they came."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted((row for row in found if why_not_shown(row) is None), key=lambda row: (row["date"], row["name"]))


def why_not_shown(row: Row, root: Path = ROOT) -> str | None:
    """Why a row is not shown; None for one that is.

    Args:
        row: as of results/board/*.json.
        root: of the repository, in which its command or its weights must lie.
    """
    worlds = [world["world"] for world in row["worlds"]]
    if len(set(worlds)) < FEWEST_WORLDS or len(set(worlds)) < len(worlds) or not set(worlds) <= set(RACED):
        return f"it needs {FEWEST_WORLDS} different worlds of {RACED[0]} to {RACED[-1]}, not {worlds}"
    if not row["id"]:
        return "its environment has no registered id"
    if any(world["regret"] is None for world in row["worlds"]):
        return "its regret is not known in every world"
    if weights := row.get("weights"):
        files = [path for path in (root / weights).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        return None if 0 < size <= MOST_BYTES else f"its weights {weights} are not committed, or too large"
    words = shlex.split(row.get("command", ""))
    if len(words) > 1 and words[0] == "python" and (root / words[1]).is_file():
        return None
    return f"its command {row.get('command')!r} runs no committed script, and no weights are committed"


def records(shown: Sequence[Row]) -> dict[int, tuple[Row | None, float]]:
    """The rows that hold a record, by place in `shown`, with the holder before and the p-value.

    Rows of one environment, temperature, budget and source compete by their regret, in the order in which they came. A
    new one takes the record where it is ahead at p < 0.01 in a paired t-test over the worlds that both have. Rows that
    are told p*, or took no steps to learn, hold none.
    """
    holders: dict[tuple[Any, ...], int] = {}
    found: dict[int, tuple[Row | None, float]] = {}
    for place, row in enumerate(shown):
        group = (row["id"], row["temperature"], row["source"], row.get("total_steps"))
        if row["source"] == "p*" or not row.get("total_steps"):
            continue
        if group not in holders:
            holders[group], found[place] = place, (None, 1.0)
            continue
        before = shown[holders[group]]
        compared = paired(*_on_common_worlds(row, before))
        if is_ahead(compared):
            del found[holders[group]]
            holders[group], found[place] = place, (before, float(compared["p"] or 0.0))
    return found


def _on_common_worlds(first: Row, second: Row) -> tuple[list[list[float]], list[list[float]]]:
    """Minus the regrets in the worlds that both rows have."""
    one, other = ({world["world"]: -world["regret"] for world in row["worlds"]} for row in (first, second))
    both = sorted(set(one) & set(other))
    return [[one[world]] for world in both], [[other[world]] for world in both]


def board_table(words: Words, shown: Sequence[Row] | None = None) -> str:
    """A table for each environment and temperature; within a source and a budget the smallest regret first."""
    shown = rows() if shown is None else shown
    if not shown:
        raise FileNotFoundError(f"{FOLDER} has no rows")
    held, parts = records(shown), []
    for name, temperature in dict.fromkeys((row["id"], row["temperature"]) for row in shown):
        places = [p for p, row in enumerate(shown) if (row["id"], row["temperature"]) == (name, temperature)]
        places.sort(
            key=lambda p: (_SOURCES.index(shown[p]["source"]), shown[p].get("total_steps") or 0, _regret(shown[p]))
        )
        lines = [words.title.format(id=name, temperature=temperature), ""]
        lines += ["| " + " | ".join(words.head) + " |", "|---" * len(words.head) + "|"]
        lines += ["| " + " | ".join(_cells(shown[p], held.get(p), words)) + " |" for p in places]
        if temperature == 0.0 and (best := best_text(name, words.best)):
            lines += ["", best]
        if without := _without_score([shown[p] for p in places]):
            lines += ["", words.no_score.format(worlds=", ".join(map(str, without)))]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cells(row: Row, held: tuple[Row | None, float] | None, words: Words) -> list[str]:
    steps, record = row.get("total_steps"), ""
    if held is not None:
        before, p = held
        record = words.record[0] if before is None else words.record[1].format(name=_name(before, words), p=p)
    seconds = [world["seconds"] for world in row["worlds"]]
    spent = f"{sum(seconds) / len(seconds):.0f}" if steps and None not in seconds else ""
    figures = [_spread(row, figure, digits, words.to) for figure, digits in (("score", 3), ("regret", 2), ("kl", 1))]
    worlds = ", ".join(str(world["world"]) for world in row["worlds"])
    made = f"`{row['weights']}`" if row.get("weights") else f"`{row['command']}`"
    learned = words.sources[row["source"]]
    return [_name(row, words), learned, f"{steps:,}" if steps else "", *figures, spent, worlds, record, made]


def _name(row: Row, words: Words) -> str:
    return words.names.get(row["name"], str(row["name"]).replace("*", "\\*"))


def _regret(row: Row) -> float:
    return float(sum(world["regret"] for world in row["worlds"]) / len(row["worlds"]))


def _spread(row: Row, figure: str, digits: int, to: str) -> str:
    """Mean over the worlds that have the figure, and the lowest and highest."""
    values = [world[figure] for world in row["worlds"] if world[figure] is not None]
    if not values:
        return "-"
    shown = (sum(values) / len(values), min(values), max(values))
    mean, low, high = (f"{round(value, digits) + 0.0:.{digits}f}" for value in shown)  # no -0.0
    return mean if low == high else f"{mean} ({low}{to}{high})"


def _without_score(shown: Sequence[Row]) -> list[int]:
    """Worlds without a score: there the best trivial policy is optimal."""
    return sorted({world["world"] for row in shown for world in row["worlds"] if world["score"] is None})


BOARD: dict[str, Callable[[], str]] = {
    "board": lambda: board_table(ENGLISH),
    "board_zh": lambda: board_table(CHINESE),
}
