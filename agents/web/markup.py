"""HTML of texts and tables of the page. Shades differ in lightness, so that they show in black and white too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ...envs.rendering import pieces
from ...envs.text import Tokenizer, Vocabulary
from .steps import Candidate, Step
from .words import Words

# A click on an element that says which token it is reaches Python as the event `select`.
CLICKS = """element.addEventListener('click', event => {
  const one = event.target.closest('[data-number]');
  if (one) trigger('select', {number: Number(one.dataset.number)});
});"""

END = "∎"  # shown for <eos>
_WORST = -10.0  # nats; less likely tokens have the same shade


def text_markup(
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    steps: Sequence[Step],
    words: Words,
    chosen: int | None = None,
    clicks: bool = False,
) -> str:
    """A text, each token shaded by its log p*.

    Args:
        tokenizer: decodes ids.
        prompt: ids shown before the text; empty in tasks of pairs.
        steps: the tokens written.
        words: of the page's language.
        chosen: number of the token that is marked.
        clicks: whether tokens are buttons.
    """
    tokens = [step.written.token for step in steps]
    parts = pieces(tokenizer, [*prompt, *tokens])
    body = [f'<span class="tl-prompt">{escape("".join(parts[: len(prompt)]))}</span>' if prompt else ""]
    for number, (step, part) in enumerate(zip(steps, parts[len(prompt) :], strict=True)):
        shown = END if step.written.token == Vocabulary.EOS else part or "·"
        tip = " · ".join(f"{title} {value}" for title, value in _tips(step.written))
        inside = f'style="{_shade(step.written.log_target)}" title="{escape(tip)}"'
        if clicks:
            pressed = "true" if number == chosen else "false"
            body.append(f'<button data-number="{number}" aria-pressed="{pressed}" {inside}>{escape(shown)}</button>')
        else:
            body.append(f'<span class="tl-token" {inside}>{escape(shown)}</span>')
    return f'<div class="tl-text">{"".join(body)}</div>{_facts(steps, words)}'


def best_markup(tokenizer: Tokenizer, step: Step, before: str, words: Words) -> str:
    """The table of the best next tokens, each a button; the one that was written is bold.

    Args:
        tokenizer: decodes ids.
        step: the state and what was written there.
        before: the text before it.
        words: of the page's language.
    """
    rows = [*step.best, *([] if step.written in step.best else [step.written])]
    titles = ("Q", "Q*", "A", "A*", "π", "p*")
    head = "".join(f"<th{_WIDE if title[0] == 'Q' else ''}>{title}</th>" for title in titles)
    body = "".join(_row(tokenizer, each, each == step.written) for each in rows)
    caption = words.next_token.format(before) if before else words.first_token
    return _table(f"<th></th>{head}", body, caption)


def credit_markup(tokenizer: Tokenizer, steps: Sequence[Step], words: Words) -> str:
    """The learned advantage of every token of a text beside the exact one, with the mean error of the text."""
    written = [step.written for step in steps]
    known = [x for w in written for x in (w.advantage, w.optimal_advantage) if x is not None and math.isfinite(x)]
    longest = max([1e-9, *map(abs, known)])
    body = ""
    for each, part in zip(written, pieces(tokenizer, [w.token for w in written]), strict=True):
        differs = None if each.optimal_advantage is None else each.advantage - each.optimal_advantage
        bars = _length("tl-learned", each.advantage, longest) + _length("tl-exact", each.optimal_advantage, longest)
        shown = END if each.token == Vocabulary.EOS else part or "·"
        cells = "".join(f"<td>{_number(x)}</td>" for x in (each.advantage, each.optimal_advantage, differs))
        body += (
            f'<tr><td>{escape(shown)}</td><td class="tl-bars">{bars}</td>{cells}'
            f"<td{_WIDE}>{_number(each.log_target)}</td></tr>"
        )
    head = "".join(f"<th>{title}</th>" for title in ("", "", words.learned, words.exact, words.difference))
    errors = [w.advantage - w.optimal_advantage for w in written if w.optimal_advantage is not None]
    facts = ""
    if errors and all(map(math.isfinite, errors)):
        root = math.sqrt(sum(error**2 for error in errors) / len(errors))
        facts = f"{words.bias.format(_number(sum(errors) / len(errors)))} · {words.error.format(_number(root))}"
    return f'<div class="tl-facts">{escape(facts)}</div>{_table(f"{head}<th{_WIDE}>log p*</th>", body)}'


def card(title: str, body: str) -> str:
    """A text with a title."""
    return f'<div class="tl-card"><h4>{escape(title)}</h4>{body}</div>'


def lines_markup(lines: Sequence[str]) -> str:
    """Texts of which nothing more is known."""
    return "".join(f"<div>{escape(line)}</div>" for line in lines)


def note(sentence: str) -> str:
    """A sentence below a text or a table."""
    return f'<div class="tl-facts">{escape(sentence)}</div>'


def legend_markup(words: Words) -> str:
    """What the shades mean."""
    return (
        f'<div class="tl-facts"><span class="tl-legend">{escape(words.unlikely)} (≤ −{-_WORST:g})<i></i>'
        f"{escape(words.likely)} (0)</span>{escape(words.click)}</div>"
    )


_WIDE = ' class="tl-wide"'  # left out on a phone


def _row(tokenizer: Tokenizer, each: Candidate, written: bool) -> str:
    name = END if each.token == Vocabulary.EOS else tokenizer.decode([each.token]) or "·"
    values = "".join(f"<td{_WIDE}>{_number(x)}</td>" for x in (each.value, each.optimal_value))
    values += "".join(f"<td>{_number(x)}</td>" for x in (each.advantage, each.optimal_advantage))
    shares = "".join(_share(x) for x in (each.log_policy, each.log_target))
    button = f'<button data-number="{each.token}">{escape(name)}</button>'
    return f"<tr{' class=tl-written' if written else ''}><td>{button}</td>{values}{shares}</tr>"


def _table(head: str, body: str, caption: str = "") -> str:
    titled = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="tl-scroll"><table class="tl">{titled}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _facts(steps: Sequence[Step], words: Words) -> str:
    known = [step.written.log_target for step in steps]
    total = sum(each for each in known if each is not None)
    said = words.untinted if None in known else words.sum_target.format(_number(total))
    return f'<div class="tl-facts">{escape(said)} · {escape(words.tokens.format(len(steps)))}</div>'


def _tips(written: Candidate) -> list[tuple[str, str]]:
    found = (("log p*", written.log_target), ("log π", written.log_policy), ("A", written.advantage))
    return [(title, _number(value)) for title, value in (*found, ("A*", written.optimal_advantage))]


def _shade(log_target: float | None) -> str:
    """Dark orange at -10 nats and below, nearly white at 0; white with a broken line where p* is unknown."""
    if log_target is None:
        return "border-style:dashed"
    light = 50.0 + 47.0 * (1.0 - min(1.0, max(0.0, log_target / _WORST)))
    return f"--shade:hsl(24 90% {light:.0f}%)"


def _share(log_prob: float | None) -> str:
    if log_prob is None:
        return "<td>–</td>"
    percent = 100.0 * math.exp(log_prob)
    shown = f"{percent:.0f}" if percent >= 99.95 else f"{percent:.1f}"
    return f'<td class="tl-bar" style="--share:{percent:.1f}%">{shown}%</td>'


def _length(name: str, value: float | None, longest: float) -> str:
    share = 100.0 * abs(value) / longest if value is not None and math.isfinite(value) else 0.0
    return f'<i class="{name}" style="width:{share:.1f}%"></i>'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "−∞" if value < 0 else "∞"
    return f"{value:.2f}".replace("-", "−" if round(value, 2) else "")
