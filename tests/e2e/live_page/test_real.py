"""The live page of `python -m devserver.live` in a real Chromium: each button, and what one sees then.

docs/live.png is made anew by

    LIVE_SCREENSHOT=docs/live.png .venv/bin/python -m pytest tests/e2e/live_page/test_real.py -k screenshot
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.conftest import Program
from tests.e2e.live_page.browser import Look, looking_at
from tests.e2e.live_page.script import MASK

pytestmark = [pytest.mark.tools("chromium"), pytest.mark.timeout(300)]

LIFETIMES = {"TOKEN_PERIOD": "20s", "DB_DYNAMIC_TTL": "2m", "DB_ROTATION_PERIOD": "1h"}
"""A renewal is soon seen; new credentials and a new password come of a button alone."""
VALUES = ("myapp-api-key", "mysql://localhost")
KV = '.secret[data-key^="kv_secret/"]'
DYNAMIC = '.secret[data-key^="database_dynamic/"]'
STATIC = '.secret[data-key^="database_static/"]'
MOST_BYTES = 200_000
"""Of the screenshot, which every clone of the project carries along."""


class Live:
    """`python -m devserver.live`, and the address of its page."""

    def __init__(self, port: str, **environment: str) -> None:
        command = [sys.executable, "-m", "devserver.live", "--port", port, "--vault-port", "0"]
        self.program = Program(command, {**LIFETIMES, **environment})
        try:
            self.program.wait_for("Vault login successful")
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.program.out)
            assert found, self.program.out
        except BaseException:
            self.program.kill()
            raise
        self.url, self.port = found[0], found[1]


@contextmanager
def running(port: str = "0", **environment: str) -> Iterator[Live]:
    live = Live(port, **environment)
    try:
        yield live
        assert live.program.stop(signal.SIGINT)[0] == 0
    finally:
        live.program.kill()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """One for all buttons: each mends what it breaks."""
    with running() as live:
        yield live


@pytest.fixture
def page(browser: Browser, live: Live) -> Iterator[Look]:
    """The page when all is well. Afterwards: no word in the console, and no address but its own."""
    with looking_at(browser, live.url) as look:
        look.until(lambda: all_is_well(look))
        yield look
        assert look.complaints == []
        assert [url for url in look.asked if not url.startswith((live.url, "data:"))] == []


def all_is_well(page: Look) -> bool:
    """It is now, nothing is broken, and every secret is there and fresh."""
    conditions = page.page.locator('.secret [data-is="condition"]').all_inner_texts()
    broken = page.page.locator("#past:visible, .running").count()
    return (
        not broken
        and conditions == ["fresh"] * 3
        and "active" in page.text("#vault")
        and "valid" in page.text("#token")
    )


def press(page: Look, name: str) -> None:
    page.page.locator(f'#faults [data-key="{name}"] button').click()


def number(page: Look, selector: str, before: str) -> int:
    """The number that stands behind a word."""
    found = re.search(rf"{before} (\d+)", page.text(selector))
    assert found, f"{before} in {page.text(selector)}"
    return int(found[1])


def generation(page: Look) -> int:
    return int(page.text('#token [data-is="generation"]'))


def lost(page: Look) -> int:
    return int(page.text('#pool [data-is="lost"]'))


# ── What it shows when all is well ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(page: Look, scheme: str) -> None:
    page.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert page.hard_to_read() == []
    assert page.violations() == []
    assert page.is_as_wide_as_the_window()


def test_rules_can_be_read_as_well(browser: Browser, live: Live, page: Look) -> None:
    """Each rule that a button names is there."""
    rules = page.page.locator("#faults li a").all_inner_texts()
    with looking_at(browser, f"{live.url}rules") as opened:
        assert [rule for rule in rules if opened.page.locator(f"#{rule}").count() != 1] == []
        assert opened.hard_to_read() == []
        assert opened.violations() == []


def test_ring_runs_down_and_is_renewed(page: Look) -> None:
    """In that order; the token is of the same generation, and a request more was made."""
    was = generation(page)
    renewed = number(page, "#token", "renewed")
    page.until_reads("#token", "renewal in 1 s")
    page.until(lambda: number(page, "#token", "renewed") > renewed)
    page.until(lambda: float((page.page.get_attribute(".life", "stroke-dasharray") or "").split()[0]) > 80)
    assert generation(page) == was
    page.until_reads("#events", "Token renewed", "T3")
    page.until_reads("#log", "auth/token/renew-self", "ok")


def test_values_are_masked(page: Look) -> None:
    """In all that came to the browser."""
    assert page.text(f"{KV} dd >> nth=0") == MASK
    assert page.text(f"{DYNAMIC} dd >> nth=1") == MASK
    assert not page.page.is_visible("#shown")
    assert [value for value in VALUES if value in page.page.content()] == []
    state = page.page.evaluate("JSON.stringify(known.state)")
    assert [value for value in VALUES if value in state] == []


def test_queries_go_on_and_none_is_lost(page: Look) -> None:
    queries = int(page.text('#pool [data-is="queries"]'))
    page.until(lambda: int(page.text('#pool [data-is="queries"]')) > queries)
    assert lost(page) == 0


# ── The buttons ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_write_is_a_new_version(page: Look) -> None:
    version = number(page, KV, "version")
    press(page, "kv-write")
    page.until(lambda: number(page, KV, "version") == version + 1)
    page.until_reads("#log", "Somebody else:")


def test_deletion_is_an_error_without_a_value(page: Look) -> None:
    press(page, "kv-delete")
    page.until_reads(KV, "error", "deleted")
    assert MASK not in page.text(KV)


def test_rotation_is_a_new_revision(page: Look) -> None:
    revision = number(page, STATIC, "revision")
    press(page, "rotate")
    page.until(lambda: number(page, STATIC, "revision") > revision)
    page.until_reads("#events", "S1")


def test_revoked_token_is_a_new_generation(page: Look) -> None:
    was = generation(page)
    press(page, "revoke-token")
    page.until(lambda: generation(page) == was + 1)
    page.until_reads("#events", "T8")


def test_revoked_lease_costs_no_query(page: Look) -> None:
    """New credentials, and connections of theirs."""
    before, revision = lost(page), number(page, DYNAMIC, "revision")
    press(page, "revoke-lease")
    page.until(lambda: number(page, DYNAMIC, "revision") > revision)
    page.until(lambda: all_is_well(page))
    assert lost(page) == before


@pytest.mark.parametrize(
    ("name", "states"),
    [("seal", ["sealed"]), ("kill", ["away"]), ("cut", ["hangs", "away"])],
)
def test_outage_is_served_through(page: Look, name: str, states: list[str]) -> None:
    """What is served is stale and said to be; no other button can be pressed; afterwards all is well by itself."""
    press(page, name)
    page.until(lambda: any(state in page.text("#vault") for state in states))
    page.until_reads(KV, "stale", "the last value serves on", MASK)
    assert page.page.locator("#faults button[aria-disabled=false]").count() == 0
    page.until_reads("#events", "Warning:")
    page.until(lambda: all_is_well(page))


def test_stopped_database_is_found_again(page: Look) -> None:
    press(page, "stop-database")
    page.until(lambda: page.page.locator("#faults .running").count())
    page.until(lambda: all_is_well(page))
    queries = int(page.text('#pool [data-is="queries"]'))
    page.until(lambda: int(page.text('#pool [data-is="queries"]')) > queries)


def starts(page: Look) -> int:
    return int(page.page.evaluate("known.state.application.starts"))


@pytest.mark.parametrize("name", ["spend-secret-id", "restart"])
def test_end_of_the_application_is_the_past(page: Look, name: str) -> None:
    """Until the next one reports."""
    before = starts(page)
    press(page, name)
    page.until_reads("#past", "This is the past: last heard", "The application")
    page.until(lambda: starts(page) == before + 1 and all_is_well(page))
    page.until_reads("header", f"start {before + 1}")
    if name == "spend-secret-id":
        page.until_reads("#events", "status 1", "T7")


def test_every_button_is_tried(page: Look) -> None:
    """By name, in this file."""
    here = Path(__file__).read_text(encoding="utf-8")
    names = page.page.locator("#faults li").evaluate_all("items => items.map(item => item.dataset.key)")
    assert len(names) >= 11
    assert [name for name in names if f'"{name}"' not in here] == []


# ── Other runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_page_outlives_its_server(browser: Browser) -> None:
    """It says that it shows the past; the next server at the same port is found, and its buttons work."""
    with running() as live, looking_at(browser, live.url) as page:
        page.until(lambda: all_is_well(page))
        live.program.stop(signal.SIGINT)
        page.until_reads("#past", "This is the past", "The server of this page is away.")
        with running(live.port):
            page.until(lambda: all_is_well(page))
            press(page, "kv-write")
            page.until(lambda: number(page, KV, "version") == 2)


def test_values_are_shown_where_that_is_wanted(browser: Browser) -> None:
    with running(CONSOLE_SHOW_SECRETS="true") as live, looking_at(browser, live.url) as page:
        page.until(lambda: all_is_well(page))
        page.until_reads(KV, *VALUES)
        assert page.page.is_visible("#shown")
        assert page.is_as_wide_as_the_window()


def test_screenshot(page: Look, tmp_path: Path) -> None:
    """In the midst of an outage: what one sees is what the project is for."""
    page.until(lambda: int(page.text("#requests b")) > 20)
    renewed = number(page, "#token", "renewed")
    page.until(lambda: number(page, "#token", "renewed") > renewed)
    press(page, "seal")
    page.until_reads(KV, "stale")
    page.page.mouse.move(0, 0)
    path = Path(os.environ.get("LIVE_SCREENSHOT", tmp_path / "live.png"))
    page.page.screenshot(path=path)
    assert path.stat().st_size < MOST_BYTES
    page.until(lambda: all_is_well(page))
