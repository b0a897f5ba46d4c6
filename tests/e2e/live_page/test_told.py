"""The live page in a real Chromium, told of moments that are made to order by a server of the test's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.live_page.browser import Look
from tests.e2e.live_page.conftest import Open
from tests.e2e.live_page.script import FAULTS, MASK, STATE_SECONDS, LiveScript, fault, happened, requested

pytestmark = pytest.mark.tools("chromium")

KV, DYNAMIC, STATIC = 0, 1, 2
MARKUP = "<img src=x onerror=document.title='struck'><b>bold</b>"


# ── How it looks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def all_is_well(_state: dict[str, Any]) -> None:
    pass


def much_is_wrong(state: dict[str, Any]) -> None:
    state["show_secrets"] = True
    state["vault"]["state"] = "sealed"
    state["token"].update(ttl=2.0)
    state["secrets"][KV].update(stale=True)
    state["secrets"][DYNAMIC].update(error="permission denied: no policy of this token grants it", values={})
    fault(state, "seal").update(running=True, left=9.0)


def it_is_over(state: dict[str, Any]) -> None:
    much_is_wrong(state)
    state["token"].update(state="none", ttl=0.0)
    state["vault"]["state"] = "away"
    state["application"].update(running=False, past=True)


def test_threads_of_one_name_leave_when_they_end(script: LiveScript, look: Open) -> None:
    """Two log in to the database at a time, and both are called so."""
    twin = {"name": "login-check", "doing": "logs in to the database", "next": None}
    threads = script.state["threads"]
    script.state["threads"] = [twin, twin, *threads]
    page = look()
    page.until_reads("#threads", "login-check")
    page.page.wait_for_timeout(500)
    assert page.page.locator("#threads li", has_text="login-check").count() == 2
    script.state["threads"] = threads
    page.until(lambda: page.page.locator("#threads li").count() == len(threads))


@pytest.mark.parametrize("moment", [all_is_well, much_is_wrong, it_is_over])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(
    script: LiveScript, look: Open, scheme: str, moment: Callable[[dict[str, Any]], None]
) -> None:
    """At 1280 by 720: 18 px, 7:1, nothing sideways, and axe finds nothing."""
    moment(script.state)
    for number in range(20):
        script.tell("happened", happened(number, "Token renewed", rule="T3"))
        script.tell("request", requested(number, "my-vault-app-kv/data/database"))
    script.tell("happened", happened(20, "No answer", rule="K4", level="warning"))
    script.tell("request", requested(20, "my-vault-app-kv/data/database", ours=False, status="permission denied"))
    page = look(color_scheme=scheme)
    page.until_reads("#log", "permission denied")
    assert len(page.texts()) > 50
    assert page.hard_to_read() == []
    assert page.violations() == []
    assert page.is_as_wide_as_the_window()


@pytest.mark.parametrize("width", [360, 800, 1920])
def test_no_window_scrolls_sideways(look: Open, width: int) -> None:
    assert look(viewport={"width": width, "height": 900}).is_as_wide_as_the_window()


def test_first_screen_has_what_a_class_looks_at(look: Open) -> None:
    """The ring, Vault, the counter, each secret with its values, each button and what to watch."""
    page = look().page
    for selector in ("#token", "#vault", "#requests", "#newest", ".secret", "#faults li", "#watch"):
        for each in page.locator(selector).all():
            box = each.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 720, selector


# ── What it says ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("token", "words", "rule"),
    [
        ({}, "renewal in 10 s", "T3"),
        ({"ttl": 3.9}, "renewal due", "T3"),
        ({"last": True}, "max TTL is near, a login in 10 s", "T4"),
        ({"renewable": False}, "not renewable, a login in 10 s", "T5"),
        ({"state": "none", "ttl": 0.0}, "next: a login", "T7"),
        ({"ttl": None, "granted": None}, "it never ends", ""),
    ],
)
def test_token_tells_what_comes_next(
    script: LiveScript, look: Open, token: dict[str, Any], words: str, rule: str
) -> None:
    script.state["token"].update(token)
    page = look()
    page.until_reads("#token", words, rule)
    link = page.page.locator("#token a")
    assert link.get_attribute("href") == f"/rules#{rule}" if rule else not link.is_visible()


def ring(page: Look) -> float:
    """How many hundredths of the ring are shown."""
    return float((page.page.get_attribute(".ring .life", "stroke-dasharray") or "").split()[0])


KEEP_MOVES = """
moves = new Set();
life = document.querySelector(".life");
new MutationObserver(() => moves.add(parseFloat(life.getAttribute("stroke-dasharray"))))
    .observe(life, {attributeFilter: ["stroke-dasharray"]})
"""


@pytest.mark.parametrize(("motion", "least", "most"), [("no-preference", 10, 1000), ("reduce", 1, 6)])
def test_ring_runs_down_between_two_states(script: LiveScript, look: Open, motion: str, least: int, most: int) -> None:
    """It shows 14 s of 20 s; then the server is silent, and time goes on until the page knows that it is the past.

    So it goes smoothly or, where little motion is wanted, each second.
    """
    page = look(reduced_motion=motion)
    page.until(lambda: abs(ring(page) - 70) < 1)
    script.silent = True
    page.page.wait_for_timeout(STATE_SECONDS * 1000)
    page.page.evaluate(KEEP_MOVES)
    page.until_reads("#past", "This is the past: last heard")
    moves = page.page.evaluate("[...moves]")
    assert least <= len(moves) <= most
    assert min(moves) < 63
    page.until(lambda: abs(ring(page) - 70) < 1)


def test_ring_is_full_again_after_a_renewal(script: LiveScript, look: Open) -> None:
    script.state["token"]["ttl"] = 2.0
    page = look()
    page.until(lambda: ring(page) < 11)
    script.state["token"].update(ttl=20.0, renewed=4)
    page.until(lambda: ring(page) > 98)
    page.until_reads("#token", "renewed 4 times")


def test_secret_says_how_it_is_in_words(script: LiveScript, look: Open) -> None:
    page = look()
    cards = page.page.locator(".secret")
    assert "KV v2, version 3 fresh" in " ".join(cards.nth(KV).inner_text().split())
    script.state["secrets"][DYNAMIC].update(revision=3)
    script.state["secrets"][STATIC].update(error="not found: no such role", values={}, revision=0)
    script.state["secrets"][KV].update(stale=True)
    page.until(lambda: "the last value serves on" in cards.nth(KV).inner_text())
    assert "stale" in cards.nth(KV).inner_text()
    assert re.search(r"revision 3, new \d+ s ago", cards.nth(DYNAMIC).inner_text())
    assert "error" in cards.nth(STATIC).inner_text()
    assert "not found: no such role" in cards.nth(STATIC).inner_text()
    assert MASK not in cards.nth(STATIC).inner_text()
    assert "revision" not in cards.nth(STATIC).inner_text()


def test_pool_shows_who_drains(look: Open) -> None:
    page = look()
    page.until_reads("#pool", "1234 queries, 0 lost", "current: 4 connections, 2 at work", "drains: 2 connections")
    assert page.page.locator(".generations .old .stack i").count() == 2
    assert page.page.locator(".generations .busy").count() == 3


def test_what_is_shown_is_text_and_never_markup(script: LiveScript, look: Open) -> None:
    script.state["secrets"][KV]["values"] = {MARKUP: MARKUP}
    script.state["pool"]["generations"][0]["user"] = MARKUP
    script.state["threads"][0]["doing"] = MARKUP
    script.tell("happened", happened(1, MARKUP, rule=MARKUP))
    script.tell("request", requested(1, MARKUP, status=MARKUP))
    page = look()
    page.until_reads("#log", MARKUP)
    page.until_reads("#events", MARKUP)
    assert page.page.title() == "Vault, live"
    assert page.page.locator("img").count() == 0


def test_values_that_are_shown_are_said_to_be(script: LiveScript, look: Open) -> None:
    page = look()
    assert not page.page.is_visible("#shown")
    script.state["show_secrets"] = True
    page.until(lambda: page.page.is_visible("#shown"))


def test_secrets_beyond_those_shown_are_counted(script: LiveScript, look: Open) -> None:
    page = look()
    assert not page.page.is_visible("#beyond")
    script.state["secrets_beyond"] = 9950
    page.until_reads("#beyond", "and 9950 more, which are not shown")


def test_logs_have_the_newest_first_and_fifty_lines(script: LiveScript, look: Open) -> None:
    for number in range(60):
        script.tell("happened", happened(number, f"event {number}."))
        script.tell("request", requested(number, f"path/{number}"))
    page = look()
    page.until_reads("#log", "path/59")
    for rows in ("#events tbody tr", "#log tbody tr"):
        assert page.page.locator(rows).count() == 50
        assert "59" in page.page.locator(rows).first.inner_text()
    page.until_reads("#newest", "event 59.")


def test_own_server_has_no_desk_no_counter_no_pool(script: LiveScript, look: Open) -> None:
    """Of `python -m live`: no faults, no audit log, no pool."""
    script.state.update(faults=[], requests=None, pool=None)
    page = look()
    for selector in ("#faults", "#requests", "#log", "#pool", ".skip"):
        assert not page.page.is_visible(selector)
    assert page.violations() == []


# ── What a screen reader says ────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_matters_is_read_out(script: LiveScript, look: Open) -> None:
    """A warning that comes now; no renewal, no line of before, and nothing that ticks."""
    script.tell("happened", happened(1, "an old warning", level="warning", at=1.0))
    page = look()
    page.until_reads("#events", "an old warning")
    assert page.page.locator("#announcer").text_content() == ""
    page.page.evaluate(
        "said = []; new MutationObserver(() => said.push(announcer.textContent)).observe(announcer, {childList: true})"
    )
    script.tell("happened", happened(2, "Token renewed"))
    script.tell("happened", happened(3, "Vault is away", level="warning", at=4e9))
    page.until_reads("#events", "Vault is away")
    script.state["token"]["ttl"] = 9.0
    page.until_reads("#token", "9 s of 20 s")
    assert page.page.evaluate("said") == ["Vault is away"]
    assert page.page.locator("[aria-live], [role=status], [role=alert]").count() == 1


def test_names_of_buttons_tell_what_to_watch(look: Open) -> None:
    page = look().page
    for _, label, tells, rule in FAULTS:
        button = page.get_by_role("button", name=label)
        assert page.locator(f"#{button.get_attribute('aria-describedby')}").text_content() == tells
        assert page.locator("#faults").get_by_role("link", name=f"Rule {rule},").count() == 1
