"""Draws the pictures of a run: the page of `tokenlm play`, on a desktop and on a phone, and a part of its report.

    python docs/pictures/screenshots.py RUN [--browser chromium]

It needs the extra [dev] and a browser.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tokenlm.agents.runs.listing import read_run
from tokenlm.agents.runs.page import write_page
from tokenlm.agents.web.page import app_of
from tokenlm.agents.web.play import shown_runs
from tokenlm.agents.web.server import address, listen, server_of
from tokenlm.agents.web.words import CHINESE

HERE = Path(__file__).parent
PATIENCE = 600_000  # milliseconds


def main() -> None:
    """Serve the page, and take its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of a run with the built-in Chinese corpus")
    parser.add_argument("--browser", default="chromium")
    given = parser.parse_args()
    listening = listen(0)
    server = server_of(app_of(shown_runs([given.run]), CHINESE))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    expect.set_options(timeout=PATIENCE)
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium refuses its sandbox to root
    arguments = ["--no-sandbox"] if root else []
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which(given.browser), args=arguments)
            desktop = browser.new_page(viewport={"width": 1000, "height": 760}, locale="zh-CN")
            write(desktop, address(listening))
            desktop.screenshot(path=HERE / "play-desktop.png", full_page=True)
            phone = browser.new_page(viewport={"width": 390, "height": 844}, locale="zh-CN")
            write(phone, address(listening))
            credit(phone)
            phone.screenshot(path=HERE / "play-phone.png", full_page=True)
            report(browser.new_page(viewport={"width": 1000, "height": 760}), given.run)
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def report(page: Page, run: str) -> None:
    """Calibration and credit, as they stand in the report of a run."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "report.html"
        write_page([read_run(run)], place, documents=200)
        page.goto(place.as_uri())
        first = page.locator("h2", has_text="Calibration").bounding_box()
        last = page.locator('img[alt="Credit"]').bounding_box()
        assert first is not None
        assert last is not None
        clip = {"x": 0.0, "y": first["y"], "width": 1000.0, "height": last["y"] + last["height"] - first["y"]}
        page.screenshot(path=HERE / "report.png", full_page=True, clip=clip)  # type: ignore[arg-type]


def write(page: Page, url: str) -> None:
    """A text, and the alternatives of its second token."""
    page.goto(url)
    page.locator("#prompt textarea, #prompt input").fill("今天")
    page.get_by_role("button", name=CHINESE.write, exact=True).click()
    tokens = page.locator("#text .tl-text button")
    expect(tokens.nth(1)).to_be_visible()
    # While it writes the newest token is chosen, in the end the first.
    expect(tokens.nth(0)).to_have_attribute("aria-pressed", "true")
    tokens.nth(1).click()
    expect(tokens.nth(1)).to_have_attribute("aria-pressed", "true")


def credit(page: Page) -> None:
    """The advantages of the text that was written."""
    page.get_by_role("tab", name=CHINESE.tab_credit).click()
    page.get_by_role("button", name=CHINESE.take_text).click()
    expect(page.get_by_label(CHINESE.credit_text, exact=True)).not_to_have_value("")
    page.get_by_role("button", name=CHINESE.measure).click()
    expect(page.locator("#credit table")).to_be_visible()


if __name__ == "__main__":
    main()
