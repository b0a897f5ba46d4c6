"""The live page, its buttons, and its line to the server: what is pressed, what breaks, what it says of the past."""

from __future__ import annotations

import re

import pytest

from tests.e2e.live_page.browser import Look
from tests.e2e.live_page.conftest import Open
from tests.e2e.live_page.script import TOKEN, LiveScript, fault, happened

pytestmark = pytest.mark.tools("chromium")

NOT_THERE = "Failed to load resource: net::ERR_"
"""What Chromium itself says of a server that is away."""


def focused(page: Look) -> str:
    return str(page.page.evaluate("document.activeElement.innerText"))


def age(page: Look) -> int:
    """How many seconds ago something was heard, as it says."""
    found = re.search(r"last heard (\d+) s ago", page.text("#past"))
    return int(found[1]) if found else 0


def expect_complaints(page: Look, *words: str) -> None:
    """Each of them is of these; they are dealt with."""
    assert [each for each in page.complaints if not any(word in each for word in words)] == []
    page.complaints.clear()


# ── The past ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_application_that_is_down_leaves_the_past_which_stands_still(script: LiveScript, look: Open) -> None:
    """The age is that of what was heard; the token's TTL is not counted on, for nobody knows what became of it."""
    page = look()
    script.state["application"].update(running=False, past=True, heard=script.state["at"] - 12)
    page.until_reads("#past", "This is the past: last heard 13 s ago. The application is not running.")
    for _ in range(10):
        assert "14 s of 20 s left" in page.text("#token")
        page.page.wait_for_timeout(200)
    script.state["application"].update(running=True, starts=2, since=script.state["at"])
    page.until_reads("#past", "The application starts again.")
    script.state["application"].update(heard=script.state["at"])
    page.until_reads("#past", "The application says nothing.")
    script.state["application"].update(past=False)
    page.until(lambda: not page.page.is_visible("#past"))
    page.until_reads("header", "start 2")


def test_page_that_is_there_before_the_application_says_so(script: LiveScript, look: Open) -> None:
    script.state["application"].update(past=True, heard=0.0)
    look().until_reads("#past", "nothing was heard yet. The application starts.")


def test_server_that_says_nothing_leaves_the_past(script: LiveScript, look: Open) -> None:
    page = look()
    script.silent = True
    page.until_reads("#past", "This is the past", "The server of this page says nothing.")
    page.until(lambda: age(page) >= 6)
    script.silent = False
    page.until(lambda: not page.page.is_visible("#past"))


def test_server_that_has_no_stream_to_give_is_asked_again(script: LiveScript, look: Open) -> None:
    """Where an answer is no stream, a browser gives up."""
    page = look()
    script.stop()
    script.full = True
    script.start()
    page.until(lambda: any("503" in each for each in page.complaints))
    assert "The server of this page is away." in page.text("#past")
    script.full = False
    page.until(lambda: not page.page.is_visible("#past"))
    expect_complaints(page, NOT_THERE, "503")


def test_server_that_is_started_again_is_found_by_itself(script: LiveScript, look: Open) -> None:
    """Its log is not shown twice, its buttons take the token of the new run, and the focus stays where it was."""
    script.tell("happened", happened(1, "Token renewed"))
    page = look()
    page.page.get_by_role("button", name="Cut the network").focus()
    script.stop()
    page.until_reads("#past", "This is the past", "The server of this page is away.")
    assert page.page.get_by_role("button", name="Seal Vault").get_attribute("aria-disabled") == "true"
    script.token = "a-token-of-the-next-run"
    script.start()
    page.until(lambda: not page.page.is_visible("#past"))
    assert page.page.locator("#events tbody tr").count() == 1
    page.until(lambda: script.asked_for_page == 2)
    assert "Cut the network" in focused(page)
    page.page.wait_for_function("known.token === 'a-token-of-the-next-run'")
    page.page.keyboard.press("Enter")
    page.until(lambda: script.pressed == ["cut a-token-of-the-next-run"])
    expect_complaints(page, NOT_THERE)


# ── The buttons ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keyboard_alone_breaks_it_and_finds_the_rule(script: LiveScript, look: Open) -> None:
    """The first Tab is the way to the buttons; a state that comes does not take the focus away."""
    page = look()
    page.page.keyboard.press("Tab")
    assert focused(page) == "To the faults"
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Tab")
    assert "Write a new version" in focused(page)
    page.until_reads("#watch", "Write a new version", "within 5 s the application has the new value")
    page.page.keyboard.press("Tab")
    assert focused(page) == "K1"
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Space")
    page.until(lambda: script.pressed == [f"kv-delete {TOKEN}"])
    script.state["token"]["ttl"] = 5.0
    page.until_reads("#token", "5 s of 20 s")
    assert "Delete the secret" in focused(page)


def test_running_fault_counts_down_and_bars_the_others(script: LiveScript, look: Open) -> None:
    """They keep the focus and their names; pressed, they do nothing."""
    page = look()
    fault(script.state, "cut").update(running=True, left=12.5)
    page.until_reads("#faults .running", "Cut the network", "s")
    page.until_reads("#watch", "Cut the network: 13 s", "back-off", "Rule C2: why it holds")
    page.page.get_by_role("button", name="Seal Vault").click(force=True)
    page.page.get_by_role("button", name="Seal Vault").press("Enter")
    page.until_reads("#watch", "Cut the network")
    fault(script.state, "cut").update(running=False, left=None)
    page.until(lambda: page.page.locator("#announcer").text_content() == "Cut the network: over")
    page.page.get_by_role("button", name="Rotate the password").click()
    page.until(lambda: script.pressed == [f"rotate {TOKEN}"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (409, "One at a time: another fault is running."),
        (403, "This page is of an earlier run of its server: reload it."),
        (500, "The server of this page refused it with status 500."),
    ],
)
def test_refused_button_says_why(script: LiveScript, look: Open, status: int, words: str) -> None:
    page = look()
    script.status = status
    page.page.get_by_role("button", name="Kill Vault").click()
    page.until_reads("#watch", words)
    assert page.page.locator("#announcer").text_content() == words
    expect_complaints(page, f"the server responded with a status of {status}")


def test_rule_is_one_click_away_and_the_page_stays(look: Open) -> None:
    page = look()
    with page.page.context.expect_page() as opened:
        page.page.locator("#faults").get_by_role("link", name="Rule K1,").click()
    assert opened.value.url.endswith("/rules#K1")
    assert page.page.is_visible("#token")
