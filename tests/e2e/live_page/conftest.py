"""The live page in a browser, on a server that tells it what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.live_page.browser import Look, chromium, looking_at
from tests.e2e.live_page.script import LiveScript

Open = Callable[..., Look]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def script() -> Iterator[LiveScript]:
    """The server, which runs until it is told to stop."""
    script = LiveScript()
    script.start()
    yield script
    script.stop()


@pytest.fixture
def look(browser: Browser, script: LiveScript) -> Iterator[Open]:
    """Opens the page. Afterwards: no error in the console that was not expected, no address but the server's own."""
    with ExitStack() as stack:
        opened: list[Look] = []

        def open_page(**options: Any) -> Look:
            look = stack.enter_context(looking_at(browser, script.url, **options))
            opened.append(look)
            look.until(lambda: look.page.locator(".secret").count())
            return look

        yield open_page
        for look in opened:
            assert look.complaints == []
            assert [url for url in look.asked if not url.startswith((script.url, "data:"))] == []
