"""The page in a real browser, in Chinese, on a desktop and on a phone."""

import os
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from tokenlm.agents import DQN
from tokenlm.agents.runs.listing import FoundRun
from tokenlm.agents.web.page import app_of
from tokenlm.agents.web.play import Play, Shown
from tokenlm.agents.web.steps import Steps
from tokenlm.agents.web.words import CHINESE
from tokenlm.envs import EnvConfig

# Gradio asks pandas for an option that pandas 3 gives up.
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
PATIENCE = 600_000  # milliseconds: a busy machine is no failure
SUBJECTS, VERBS, OBJECTS = ("我", "妈妈", "老师", "小猫"), ("喜欢", "看见", "买"), ("苹果", "花", "小鸟", "书")
CORPUS = tuple(f"{a}{b}{c}。" for a in SUBJECTS for b in VERBS for c in OBJECTS)
PAIRS = tuple((f"谁{b}{c}？", f"{a}{b}{c}。") for a, b, c in zip(SUBJECTS * 3, VERBS * 4, OBJECTS * 3, strict=True))
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
LSTM = {"embedding_size": 8, "hidden_size": 16}


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed here; the test looks for {', '.join(BROWSERS)}")
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium refuses its sandbox to root
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [], timeout=PATIENCE)
        yield browser
        browser.close()


def shown(name, env, folder):
    return Shown(name, Steps(DQN(env, network=LSTM, seed=1, device="cpu")), FoundRun(folder, {}, [], {}))


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text = EnvConfig(corpus=CORPUS, tokenizer="char", max_new_tokens=8, context_length=12, prompt_length=(0, 2))
    pairs = EnvConfig(
        corpus=PAIRS, task="qa", target="reference", tokenizer="char", max_new_tokens=8, context_length=24
    )  # fmt: skip
    return Play([shown("造句", text, folder), shown("问答", pairs, folder)], CHINESE)


@pytest.fixture(scope="module")
def url(play, served):
    with served(app_of(play.runs, CHINESE)) as address:
        yield address


@pytest.fixture(params=SIZES)
def page(request, browser, url):
    """The page; what it asks of others, and its own errors, are failures."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, locale="zh-CN")
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    asked, errors = [], []
    page.on("request", lambda each: asked.append(each.url))
    page.on("console", lambda each: errors.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda each: errors.append(str(each)))
    page.goto(url)
    yield page
    assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def write(page, prompt):
    page.locator("#prompt textarea, #prompt input").fill(prompt)
    button(page, CHINESE.write).click()


def expect_text(page, text):
    """Wait until the page shows the finished text."""
    tokens = page.locator("#text .tl-text button")
    expect(tokens).to_have_text([word if word != "<eos>" else "∎" for word in text])
    expect(page.locator('#text button[aria-pressed="true"]')).to_have_count(1)


def words_of(play, text):
    vocabulary = play.runs[text.shown].steps.world.vocabulary
    return [vocabulary.token(token) for token in text.tokens]


def test_writing_choosing_branching(page, play):
    text = list(play.write(0, "妈妈", 1.0, 0, 0))[-1]
    write(page, "妈妈")
    expect_text(page, words_of(play, text))
    expect(page.locator("#text .tl-prompt")).to_have_text("妈妈")
    expect(page.locator("#best caption")).to_have_text(CHINESE.next_token.format("妈妈"))
    rows = page.locator("#best tbody tr")
    for number, each in enumerate(text.steps[0].best):
        cells = rows.nth(number).locator("td")
        percent = f"{100 * 2.718281828459045**each.log_target:.1f}%"
        expect(cells.nth(6)).to_have_text(percent)
        expect(cells.nth(2)).to_have_text(f"{each.optimal_value:.2f}".replace("-", "−"))
    page.locator("#text .tl-text button").nth(1).click()
    chosen = play.chosen(text, 1)
    before = "妈妈" + words_of(play, text)[0]
    expect(page.locator("#best caption")).to_have_text(CHINESE.next_token.format(before))
    other = next(each.token for each in text.steps[1].best if each.token not in (3, text.tokens[1]))
    page.locator(f'#best [data-number="{other}"]').click()
    branch = list(play.branch(chosen, other, 1.0, 0, 0))[-1]
    expect_text(page, words_of(play, branch))
    assert branch.tokens[:2] == [text.tokens[0], other]


def test_temperature_comparison_and_credit(page, play):
    page.get_by_label(CHINESE.prompt, exact=True).fill("我")
    expect(page.get_by_label(CHINESE.question, exact=True)).to_have_count(0)
    slider = page.locator('input[type="range"]').first
    slider.focus()
    slider.press("Home")  # τ = 0
    button(page, CHINESE.write).click()
    text = list(play.write(0, "我", 0.0, 0, 0))[-1]
    expect_text(page, words_of(play, text))
    page.get_by_role("tab", name=CHINESE.tab_compare).click()
    button(page, CHINESE.compare).click()
    *_, cards = play.compare(0, "我", 0.0, 0, 0)
    titles = page.locator("#cards h4")
    expect(titles).to_have_text([f"造句 ({CHINESE.own_text})", "问答", CHINESE.optimum_best])
    expect(page.locator("#cards .tl-token")).to_have_count(cards.count("tl-token"))
    page.get_by_role("tab", name=CHINESE.tab_credit).click()
    page.get_by_label(CHINESE.credit_text, exact=True).fill("喜欢花。")
    button(page, CHINESE.measure).click()
    expect(page.locator("#credit tbody tr td:first-child")).to_have_text(["喜", "欢", "花", "。", "∎"])


def test_a_question_is_answered_and_mistakes_are_said(page, play):
    page.get_by_label(CHINESE.run).click()
    page.get_by_role("option", name="问答").click()
    expect(page.get_by_label(CHINESE.question, exact=True)).to_be_visible()
    write(page, "谁喜欢苹果？")
    expect_text(page, words_of(play, list(play.write(1, "谁喜欢苹果？", 1.0, 0, 0))[-1]))
    expect(page.locator("#text .tl-card")).to_contain_text("我喜欢苹果。")
    write(page, "xyz")
    expect(page.get_by_text("'xyz' 里的词都不在词表里")).to_be_visible()
    write(page, "<b>xyz</b>")  # quoted as text, not as HTML
    expect(page.get_by_text("'<b>xyz</b>' 里的词都不在词表里")).to_be_visible()
