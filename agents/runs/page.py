"""One self-contained HTML page about runs: settings, figures, curves, calibration, credit, texts, commands."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ...envs.text import write_text_atomically
from ..evaluation.along_documents import Calibration, Credit, along_documents
from .comparing import (
    draw_runs,
    figures_rows,
    labels_of,
    names_of_runs,
    settings_rows,
    texts_of,
)
from .folder import CONFIG
from .listing import FoundRun, setting
from .plotting import STYLE, line_of
from .report import shown
from .training import load_run

_CSS = """
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; color: #111;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
  border-bottom: 1px solid #ccc; vertical-align: top; } img { max-width: 100%; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; } .scroll { overflow-x: auto; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } img, table { break-inside: avoid; } }
"""
_TIME = "time_"  # begins the names of the shares of the time
_ADVANTAGES = "A = τ log π of the tokens of held-out documents, beside the exact A* = Q* − V*"


class Measured(NamedTuple):
    """What was measured of a run's agent.

    Args:
        calibration: None where `why` says why there is none.
        credit: None where the optimum is unknown.
        texts: a few documents as (token, learned advantage, exact advantage), nats.
        why: why there is no calibration, and no credit.
    """

    calibration: Calibration | None
    credit: Credit | None
    texts: list[list[tuple[str, float, float]]]
    why: str = ""


def write_page(runs: Sequence[FoundRun], path: Path, documents: int, device: str = "auto", trust: bool = False) -> None:
    """Write the page about `runs` to `path`.

    Args:
        runs: one or more, finished or not.
        path: the HTML file; nothing beside it is needed to read it.
        documents: validation documents for calibration and credit.
        device: of the agents.
        trust: as of `load_run`.
    """
    names = names_of_runs(runs)
    measured = [_measure(run, documents, device, trust) for run in runs]
    labels, font = labels_of(runs)
    parts = [
        ("Settings that differ", _table(settings_rows(runs, names)) if len(runs) > 1 else ""),
        ("Figures", _table(figures_rows(runs, names)) + _intervals(runs, names)),
        ("Curves", _image("Greedy return and held-out perplexity", lambda figure: draw_runs(figure, runs))),
        ("Calibration", _calibrations(measured, names, labels, font)),
        ("Credit of every token", _credits(measured, names, labels, font)),
        ("Where the time went", _table(_times(runs, names))),
        ("The best texts", _best_texts(runs, names)),
        *((title.capitalize(), _columns(columns)) for title, columns in texts_of(runs, names)),
        ("All settings", "".join(_all_settings(run, name) for run, name in zip(runs, names, strict=True))),
        ("Commands", _commands(runs)),
    ]
    title = "TokenLM: " + ", ".join(names)
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in parts if content)
    if font is None:
        body = "<p>No font found here has the characters of the names, so pictures number the runs.</p>\n" + body
    write_text_atomically(
        path,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n<style>{_CSS}</style>\n'
        f"</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n",
    )


def _measure(run: FoundRun, documents: int, device: str, trust: bool) -> Measured:
    if not run.summary:
        return Measured(None, None, [], "the run is not finished")
    agent, config = load_run(run.folder, device, trust=trust)
    try:
        calibration, credit = along_documents(agent, "valid", documents, env=config.env)
    except ValueError as problem:
        return Measured(None, None, [], str(problem))
    texts = []
    if credit is not None:
        decode = agent.world.tokenizer.decode
        for document in np.unique(credit.document)[:3]:
            own = credit.document == document
            words = [decode([int(token)]) or "∎" for token in credit.token[own]]
            texts.append(list(zip(words, credit.learned[own].tolist(), credit.exact[own].tolist(), strict=True)))
    return Measured(calibration, credit, texts)


def _calibrations(measured: Sequence[Measured], names: Sequence[str], labels: Sequence[str], font: Any) -> str:
    known = [(number, found.calibration) for number, found in enumerate(measured) if found.calibration is not None]
    notes = [[name, found.why] for name, found in zip(names, measured, strict=True) if found.why]
    if not known:
        return _why_not(notes)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2)
        for number, found in known:
            filled = found.count > 0
            for one, other in zip(axes, (found.frequency, found.target), strict=True):
                seen = filled & (other > 0)
                one.plot(found.policy[seen], other[seen], marker=".", label=labels[number], **line_of(number))
        for one, what in zip(axes, ("how often held-out texts go on so", "mean p* of the tokens"), strict=True):
            one.plot([1e-6, 1], [1e-6, 1], color="grey", linewidth=0.8)
            one.set(xscale="log", yscale="log", xlabel="π of a token", ylabel=what)
            one.legend(frameon=False, prop=font)

    rows = [["", "calibration error"], *([names[number], f"{found.error:.4f}"] for number, found in known)]
    text = "<p>On the grey line a token that the policy gives 10 % comes next in one of ten cases.</p>"
    return text + _image("Calibration", draw) + _table(rows) + _why_not(notes)


def _credits(measured: Sequence[Measured], names: Sequence[str], labels: Sequence[str], font: Any) -> str:
    known = [(number, found.credit) for number, found in enumerate(measured) if found.credit is not None]
    notes = [
        [name, found.why or "the exact optimum is unknown here, or the policy is greedy"]
        for name, found in zip(names, measured, strict=True)
        if found.credit is None
    ]
    if not known:
        return _why_not(notes)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2)
        for number, credit in known:
            places, mean, spread = credit.by_place()
            axes[0].plot(places, mean, marker=".", label=labels[number], **line_of(number))
            axes[1].plot(places, spread, marker=".", label=labels[number], **line_of(number))
        axes[0].axhline(0.0, color="grey", linewidth=0.8)
        axes[0].set(xlabel="tokens written before", ylabel="mean of A − A* (nats)", title="Bias")
        axes[1].set(xlabel="tokens written before", ylabel="root mean square (nats)", title="Error")
        for one in axes:
            one.legend(frameon=False, prop=font)

    texts = ""
    for number, _ in known:
        for words in measured[number].texts:
            rows = [[names[number], *(word for word, _, _ in words)]]
            rows += [["A", *(f"{a:.2f}" for _, a, _ in words)], ["A*", *(f"{a:.2f}" for _, _, a in words)]]
            texts += _table(rows)
    text = f"<p>{_ADVANTAGES}, by place and for some texts (nats).</p>"
    return text + _image("Credit", draw) + texts + _why_not(notes)


def _why_not(notes: Sequence[Sequence[str]]) -> str:
    """Names of runs and why a part of the page lacks them; nothing where it has all."""
    return _table([["", "why not"], *notes]) if notes else ""


def _intervals(runs: Sequence[FoundRun], names: Sequence[str]) -> str:
    ends = [key for key in dict.fromkeys(k for run in runs for k in run.summary) if key.endswith("_ci")]
    rows = [
        [key.removesuffix("_ci"), *("–".join(f"{x:.4g}" for x in run.summary.get(key) or []) or "-" for run in runs)]
        for key in ends
    ]
    return f"<h3>95 % intervals</h3>{_table([['', *names], *rows])}" if rows else ""


def _best_texts(runs: Sequence[FoundRun], names: Sequence[str]) -> str:
    """After a few prompts the best text, beside the greedy and the most frequent one of every run."""
    shown_of = ("prompt", "best", "best_return", "greedy", "greedy_return", "sampled", "sampled_times", "sampled_of")
    rows = [["", "prompt", "best text", "nats", "greedy text", "nats", "most frequent text", "times", "of sampled"]]
    for run, name in zip(runs, names, strict=True):
        rows += [[name, *(shown(row.get(key)) for key in shown_of)] for row in run.summary.get("texts") or ()]
    text = "<p>The best text has the highest return there is at τ = 0; its score is 1.</p>"
    return text + _table(rows) if len(rows) > 1 else ""


def _times(runs: Sequence[FoundRun], names: Sequence[str]) -> list[list[str]]:
    last = [run.rows[-1] if run.rows else {} for run in runs]
    parts = dict.fromkeys(name for row in last for name in row if name.startswith(_TIME))
    rows = [
        [name.removeprefix(_TIME), *("-" if row.get(name) is None else f"{100 * row[name]:.0f} %" for row in last)]
        for name in parts
    ]
    return [["", *names], *rows] if rows else []


def _columns(columns: Sequence[Sequence[str]]) -> str:
    longest = max(map(len, columns))
    filled = [[*column, *[""] * (longest - len(column))] for column in columns]
    return _table([list(row) for row in zip(*filled, strict=True)])


def _all_settings(run: FoundRun, name: str) -> str:
    rows = [["setting", "value"], *([key, setting(value)] for key, value in run.settings.items())]
    return f"<details><summary>{escape(name)}</summary>{_table(rows)}</details>"


def _commands(runs: Sequence[FoundRun]) -> str:
    lines = [f"tokenlm train {run.folder / CONFIG}\ntokenlm evaluate {run.folder}" for run in runs]
    lines.append("tokenlm report " + " ".join(str(run.folder) for run in runs))
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row has the titles; nothing without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:]]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _image(title: str, draw: Callable[[Figure], None]) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        draw(figure)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=110, format="png")
    data = base64.b64encode(drawn.getvalue()).decode()
    return f'<p><img alt="{escape(title)}" src="data:image/png;base64,{data}"></p>'
