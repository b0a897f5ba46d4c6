"""A real Chromium: opens the live page, and sees what a reader of it sees: sizes, contrasts, what axe finds.

Playwright's own event loop counts as running in its thread as long as Playwright is open, so that `asyncio.run` fails
there: have it open in a fixture of a module that awaits nothing, and no longer.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

BEAMER = {"width": 1280, "height": 720}
PATIENCE_SECONDS = 60.0
SMALLEST_PIXELS, LEAST_CONTRAST = 18.0, 7.0
ROUNDED = 0.01

READ_TEXTS = (Path(__file__).parent / "readable.js").read_text(encoding="utf-8")


class Text(NamedTuple):
    """A piece of text as it stands on the screen."""

    words: str
    pixels: float
    contrast: float


class Look:
    """An open page, and what the browser said and asked for meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        """Errors and warnings in the console, and errors of the script."""
        self.asked: list[str] = []
        """The address of each request."""
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("console", self._heard)
        page.on("pageerror", self._failed)
        page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def text(self, selector: str) -> str:
        """What is read there now, without line breaks."""
        return " ".join(self.page.locator(selector).inner_text().split())

    def until(self, condition: Callable[[], Any]) -> Any:
        """Ask until the answer is true; the browser goes on meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (result := condition()):
            assert time.monotonic() < deadline, f"it did not come true; the page:\n{self.page.inner_text('body')}"
            self.page.wait_for_timeout(50)
        return result

    def until_reads(self, selector: str, *words: str) -> None:
        """Wait until all of these words stand there."""
        self.until(lambda: all(each in self.text(selector) for each in words))

    def texts(self) -> list[Text]:
        """All visible text."""
        return [Text(*each) for each in self.page.evaluate(READ_TEXTS)]

    def hard_to_read(self) -> list[Text]:
        """What is smaller than 18 px, or has less than 7:1 (the AAA of WCAG 2.2, success criterion 1.4.6)."""
        return [
            each
            for each in self.texts()
            if each.pixels < SMALLEST_PIXELS - ROUNDED or each.contrast < LEAST_CONTRAST - ROUNDED
        ]

    def violations(self) -> list[str]:
        """What axe has against the page."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found]

    def is_as_wide_as_the_window(self) -> bool:
        """Whether nothing makes it scroll sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root may not have a sandbox, and a container has little shared memory.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def looking_at(browser: Browser, url: str, **options: Any) -> Iterator[Look]:
    """Open the address in a window of a beamer's size. `options` are those of Playwright, as color_scheme="dark"."""
    context = browser.new_context(**{"viewport": BEAMER, **options})
    try:
        look = Look(context.new_page())
        look.page.goto(url)
        yield look
    finally:
        context.close()
