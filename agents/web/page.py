"""The widgets of `tokenlm play`, made with Gradio."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .markup import CLICKS, legend_markup
from .play import LONGEST, Play, Shown, Written
from .words import Words

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported
try:
    import gradio as gr
    from fastapi import FastAPI
except ImportError:
    raise ImportError('the page needs the library gradio; pip install "tokenlm[web]"') from None

_FONTS = ["system-ui", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif"]  # none is fetched
_MOST_K = 50
_WAITING = 16  # requests
_HOTTEST = 2.0


def app_of(runs: Sequence[Shown], words: Words) -> FastAPI:
    """The page as an app of one path, /.

    Args:
        runs: one or more; the first is shown.
        words: of the page's language.
    """
    app = FastAPI(openapi_url=None)
    return gr.mount_gradio_app(
        app,
        _page(Play(runs, words), words),
        path="/",
        theme=gr.themes.Base(font=_FONTS, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("play.css"),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=0,
    )


def _page(play: Play, words: Words) -> gr.Blocks:
    names = [(shown.name, number) for number, shown in enumerate(play.runs)]
    asked, heat = _asked(play, words, 0), _heat(play, words, 0)
    with gr.Blocks(title="TokenLM", analytics_enabled=False) as page:
        gr.Markdown("# TokenLM")
        text = gr.State()
        run = gr.Dropdown(names, value=0, label=words.run, visible=len(names) > 1)
        with gr.Row():
            temperature = _emptiable(gr.Slider(0.0, label=words.temperature, **heat))
            top_k = _emptiable(gr.Slider(0, _MOST_K, value=0, step=1, label=words.top_k, info=words.top_k_hint))
            seed = gr.Number(0, precision=0, minimum=0, label=words.seed)
        with gr.Row():
            prompt = gr.Textbox(max_length=LONGEST, lines=1, scale=4, elem_id="prompt", **asked)
            example = gr.Button(words.example, scale=0, min_width=100, elem_id="example")
        how = [temperature, top_k, seed]
        with gr.Tab(words.tab_write):
            with gr.Row():
                write = gr.Button(words.write, variant="primary", min_width=80)
                again = gr.Button(words.again, min_width=80)
                stop = gr.Button(words.stop, min_width=80)
            shown = gr.HTML(js_on_load=CLICKS, elem_id="text")
            gr.HTML(legend_markup(words), elem_id="legend")
            best = gr.HTML(js_on_load=CLICKS, elem_id="best")
        with gr.Tab(words.tab_compare):
            compare = gr.Button(words.compare, variant="primary")
            cards = gr.HTML(elem_id="cards")
        with gr.Tab(words.tab_credit):
            credit_text = gr.Textbox(label=words.credit_text, placeholder=words.credit_hint, max_length=LONGEST)
            with gr.Row():
                measure = gr.Button(words.measure, variant="primary")
                take = gr.Button(words.take_text)
            credit = gr.HTML(elem_id="credit")

        said = _saying(words)

        def views(texts: Iterator[Written], tau: float) -> Iterator[tuple[Any, ...]]:
            for each in texts:
                yield each, play.text_of(each), play.best_of(each, tau)

        @said
        def on_write(number: int, source: str, tau: float, k: float, seed: float) -> Iterator[tuple[Any, ...]]:
            yield from views(play.write(number, source, tau, k, seed), tau)

        @said
        def on_branch(
            event: gr.EventData, found: Written | None, tau: float, k: float, seed: float
        ) -> Iterator[tuple[Any, ...]]:
            if found is not None:
                yield from views(play.branch(found, event.number, tau, k, seed), tau)

        @said
        def on_again(found: Written | None, tau: float, k: float, seed: float) -> Iterator[tuple[Any, ...]]:
            if found is not None:
                yield from views(play.again(found, tau, k, seed), tau)

        @said
        def on_choice(event: gr.EventData, found: Written | None, tau: float) -> Iterator[tuple[Any, ...]]:
            if found is not None:
                yield from views(iter([play.chosen(found, event.number)]), tau)

        @said
        def on_setting(found: Written | None, tau: float, k: float) -> Iterator[tuple[Any, ...]]:
            if found is not None:
                yield from views(iter([play.measured_at(found, tau, k)]), tau)

        @said
        def on_compare(number: int, source: str, tau: float, k: float, seed: float) -> Iterator[str]:
            yield from play.compare(number, source, tau, k, seed)

        @said
        def on_measure(number: int, source: str, text: str, tau: float) -> Iterator[str]:
            yield ""  # so that no table of another text stays below a mistake
            yield play.credit(number, source, text, tau)

        def on_run(number: int) -> tuple[Any, ...]:
            return None, "", "", gr.update(**_asked(play, words, number)), gr.update(**_heat(play, words, number))

        written = [text, shown, best]
        one: dict[str, Any] = {
            "concurrency_id": "agents",
            "concurrency_limit": 1,
        }  # their caches are not made for several threads
        writing = [
            gr.on([write.click, prompt.submit], on_write, [run, prompt, *how], written, **one),
            again.click(lambda value: (value or 0) + 1, seed, seed).then(on_again, [text, *how], written, **one),
            best.select(on_branch, [text, *how], written, **one),
        ]
        stop.click(None, cancels=writing)
        shown.select(on_choice, [text, temperature], written, **one)
        gr.on([temperature.release, top_k.release], on_setting, [text, temperature, top_k], written, **one)
        compare.click(on_compare, [run, prompt, *how], cards, **one)
        gr.on([measure.click, credit_text.submit], on_measure, [run, prompt, credit_text, temperature], credit, **one)
        take.click(lambda found: "" if found is None else play.written_part(found), text, credit_text)
        example.click(play.example, run, prompt)
        run.change(on_run, run, [*written, prompt, temperature])
    page.queue(max_size=_WAITING)
    return page


def _emptiable(slider: gr.Slider) -> gr.Slider:
    """The slider, which takes its first value where its number was emptied; Gradio's fails there.

    No subclass: Gradio writes a file beside the module of one.
    """
    read = slider.preprocess
    slider.preprocess = lambda payload: read(slider.value if payload is None else payload)  # type: ignore[method-assign]
    return slider


def _asked(play: Play, words: Words, number: int) -> dict[str, Any]:
    """What stands at the prompt of a run."""
    if play.runs[number].steps.config.has_pairs:
        return {"label": words.question, "placeholder": words.question_hint}
    return {"label": words.prompt, "placeholder": words.prompt_hint}


def _heat(play: Play, words: Words, number: int) -> dict[str, Any]:
    """The slider of a run's temperature."""
    agent = play.runs[number].steps.agent
    if agent.has_temperature:
        own = {"maximum": max(_HOTTEST, agent.temperature), "step": 0.01, "info": words.temperature_hint}
    else:
        own = {"maximum": 1.0, "step": 1.0, "info": words.fixed_temperature_hint}
    return {"value": agent.temperature, **own}


def _saying(words: Words) -> Callable[[Callable[..., Iterator[Any]]], Callable[..., Iterator[Any]]]:
    """A decorator that shows errors on the page, in one sentence below a title."""

    def decorated(made: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @functools.wraps(made)
        def guarded(*values: Any) -> Iterator[Any]:
            try:
                yield from made(*values)
            except (ValueError, ArithmeticError, MemoryError) as problem:
                # Gradio takes the sentence for HTML, and it may quote a prompt.
                said = html.escape(words.said(str(problem)), quote=False)
                raise gr.Error(said, title=words.mistake, print_exception=False) from None

        return guarded

    return decorated
