"""The gateway's cache and threads. Time and order are made to measure here, so Vault is a fake."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gateway.cache import MOST_MISSING, CacheSettings, Reading, SecretCache
from gateway.places import Place
from gateway.store import Found
from gateway.threads import Busy, Threads
from tests.fakes import FakeClock
from vaultkit.errors import (
    ClientClosed,
    PermissionDenied,
    SecretDeleted,
    SecretNotFound,
    VaultError,
    VaultTimeout,
    VaultUnreachable,
)
from vaultkit.frozen import frozen

PLACE = Place("", "tenants", "acme/app")
PATIENCE_SECONDS = 20.0


class Vault:
    """One secret, and what is asked about it. While `gate` is closed, answers wait; what they say is decided before."""

    def __init__(self) -> None:
        self.version, self.created = 1, "2026-11-23T19:12:51Z"
        self.error: VaultError | None = None
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def found(self) -> Found:
        return Found(frozen({"value": f"value-{self.version}", "deep": {"list": [1]}}), self.version, self.created)

    async def fetch(self, place: Place, known: Found | None) -> Found:
        self.asked.append("values" if known is None else "version")
        error, found = self.error, self.found()
        await self.gate.wait()
        if error:
            raise error
        return known if known == found and known is not None else found


class World:
    """A cache, its clock and its Vault."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.vault = Vault()
        self.cache = SecretCache(CacheSettings(**settings), clock=self.clock)

    async def get(self, **options: Any) -> Reading:
        return await self.cache.get(PLACE, self.vault.fetch, **options)

    def later(self, seconds: float) -> None:
        self.clock.pass_time(seconds)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_SECONDS))


async def turns(number: int = 5) -> None:
    """Let everything go on that can."""
    for _ in range(number):
        await asyncio.sleep(0)


# ── Fresh, due, gone ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_fresh_value_is_a_hit() -> None:
    """Without asking, and it says how old it is."""

    async def test() -> None:
        world = World()
        assert world.cache.peek(PLACE) is None
        assert (await world.get()).outcome == "miss"
        world.later(4)
        hit = world.cache.peek(PLACE)
        assert hit is not None
        assert (hit.outcome, hit.age, hit.stale, hit.version) == ("hit", 4, False, 1)
        assert world.vault.asked == ["values"]

    run(test())


def test_due_value_is_confirmed_by_its_version() -> None:
    """After refresh_interval the version is asked; after ttl the values (K1)."""

    async def test() -> None:
        world = World()
        await world.get()
        outcomes = []
        for seconds in (6, 6, 300):
            world.later(seconds)
            outcomes.append((await world.get()).outcome)
        assert outcomes == ["revalidated", "revalidated", "miss"]
        assert world.vault.asked == ["values", "version", "version", "values"]

    run(test())


def test_ttl_counts_from_the_values() -> None:
    """However often the version was confirmed meanwhile."""

    async def test() -> None:
        world = World(refresh_interval=5, ttl=12)
        for _ in range(4):
            await world.get()
            world.later(6)
        assert world.vault.asked == ["values", "version", "values", "version"]

    run(test())


@pytest.mark.parametrize("change", [{"version": 2}, {"created": "2027-01-01T00:00:00Z"}])
def test_moved_version_is_read(change: dict[str, Any]) -> None:
    """The number or, for one that was made anew, the creation time; the two have different ETags."""

    async def test() -> None:
        world = World()
        before = await world.get()
        vars(world.vault).update(change)
        world.later(6)
        after = await world.get()
        assert (after.outcome, after.data["value"]) == ("miss", f"value-{world.vault.version}")
        assert after.etag != before.etag

    run(test())


def test_reading_cannot_be_changed() -> None:
    """At no depth; what it shows of itself is no value."""

    async def test() -> None:
        world = World()
        reading = await world.get()
        with pytest.raises(TypeError):
            reading.data["deep"]["list"].append(2)
        assert "value-1" not in repr(reading)
        assert "value-1" not in repr(world.vault.found())

    run(test())


@pytest.mark.parametrize("kind", [SecretNotFound, SecretDeleted, PermissionDenied])
def test_refusal_ends_the_value(kind: type[VaultError]) -> None:
    """Also for an outage that follows (K3)."""

    async def test() -> None:
        world = World()
        await world.get()
        world.later(6)
        for error in (kind("no"), VaultUnreachable("away")):
            world.vault.error = error
            with pytest.raises(type(error)):
                await world.get()
            world.later(2)

    run(test())


def test_nothing_there_is_remembered_for_a_second() -> None:
    """Not longer, and not past a write of ours."""

    async def test() -> None:
        world = World()
        world.vault.error = SecretNotFound("nothing")
        for _ in range(5):
            with pytest.raises(SecretNotFound):
                await world.get()
        assert len(world.vault.asked) == 1
        world.vault.error = None
        world.cache.forget(PLACE)
        assert (await world.get()).version == 1
        world.cache.forget(PLACE)
        world.vault.error = SecretNotFound("nothing")
        with pytest.raises(SecretNotFound):
            await world.get()
        world.vault.error = None
        world.later(1.1)
        assert (await world.get()).version == 1

    run(test())


def test_min_version_passes_over_what_is_older() -> None:
    """A fresh entry, and a read in flight that began before the version was there."""

    async def test() -> None:
        world = World()
        await world.get()
        world.vault.version = 2
        assert (await world.get()).version == 1
        assert (await world.get(min_version=2)).version == 2
        world.later(6)
        world.vault.gate.clear()
        slow = asyncio.ensure_future(world.get())
        await turns()
        world.vault.version = 3
        newer = asyncio.ensure_future(world.get(min_version=3))
        await turns()
        world.vault.gate.set()
        assert (await slow).version == 2
        assert (await newer).version == 3

    run(test())


def test_old_value_is_not_served_stale_for_min_version() -> None:
    """An outage is an error for whom it would be too old."""

    async def test() -> None:
        world = World()
        await world.get()
        world.later(6)
        world.vault.error = VaultUnreachable("away")
        assert (await world.get(min_version=1)).stale
        with pytest.raises(VaultUnreachable):
            await world.get(min_version=2)

    run(test())


def test_fresh_asks_whatever_there_is() -> None:
    """For the values, with no stale ones instead; what it brings is kept."""

    async def test() -> None:
        world = World()
        await world.get()
        world.vault.version = 2
        assert (await world.get(fresh=True)).outcome == "bypass"
        assert (await world.get()).version == 2
        world.vault.error = VaultUnreachable("away")
        with pytest.raises(VaultUnreachable):
            await world.get(fresh=True)
        assert (await world.get()).outcome == "hit"
        assert world.vault.asked == ["values"] * 3

    run(test())


# ── Writes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_slow_read_does_not_bring_the_old_value_back() -> None:
    """It began before the write had ended, and lands after it: whoever asks then is given what was written."""

    async def test() -> None:
        world = World()
        world.vault.gate.clear()
        slow = asyncio.ensure_future(world.get())
        await turns()
        world.vault.version = 2
        world.cache.forget(PLACE)
        reader = asyncio.ensure_future(world.get())
        await turns()
        world.vault.gate.set()
        assert (await reader).version == 2
        assert (await slow).version == 1
        assert (await world.get()).version == 2

    run(test())


def test_read_that_lands_last_is_not_kept() -> None:
    """One that began before the write, and is answered after the one that began behind it."""

    async def test() -> None:
        world = World()
        late = world.vault.gate = asyncio.Event()
        slow = asyncio.ensure_future(world.get())
        await turns()
        world.vault.version = 2
        world.cache.forget(PLACE)
        world.vault.gate = asyncio.Event()
        world.vault.gate.set()
        assert (await world.get()).version == 2
        late.set()
        assert (await slow).version == 1
        assert (await world.get()).version == 2

    run(test())


def test_slow_answer_of_nothing_does_not_come_back() -> None:
    """Nor does the 404 of a read that began before."""

    async def test() -> None:
        world = World()
        world.vault.error = SecretNotFound("nothing")
        world.vault.gate.clear()
        slow = asyncio.ensure_future(world.get())
        await turns()
        world.vault.error = None
        world.cache.forget(PLACE)
        world.vault.gate.set()
        with pytest.raises(SecretNotFound):
            await slow
        assert (await world.get()).version == 1

    run(test())


# ── One question for all ─────────────────────────────────────────────────────────────────────────────────────────────


def test_vault_is_asked_once() -> None:
    """However many coroutines ask, for a value that is not there and for one that is due (C1)."""

    async def test() -> None:
        world = World()
        for _ in range(2):
            world.vault.gate.clear()
            readers = [asyncio.ensure_future(world.get()) for _ in range(200)]
            await turns()
            world.vault.gate.set()
            assert {reading.version for reading in await asyncio.gather(*readers)} == {1}
            world.later(6)
        assert world.vault.asked == ["values", "version"]

    run(test())


def test_cancelled_reader_harms_nobody() -> None:
    """Neither the others, nor, if all are cancelled, whoever comes next; no error of theirs is left over."""

    async def test() -> None:
        world = World()
        world.vault.gate.clear()
        readers = [asyncio.ensure_future(world.get()) for _ in range(3)]
        await turns()
        readers[0].cancel()
        await turns()
        world.vault.gate.set()
        assert [(await reader).version for reader in readers[1:]] == [1, 1]
        world.cache.forget(PLACE)
        world.vault.error = VaultUnreachable("away")
        world.vault.gate.clear()
        alone = asyncio.ensure_future(world.get())
        await turns()
        alone.cancel()
        world.vault.gate.set()
        world.vault.error = None
        await turns()
        assert (await world.get()).version == 1

    run(test())


def test_error_that_nobody_waits_for_is_no_noise() -> None:
    """Also one that nobody planned for: asyncio has nothing to log of it."""

    async def test() -> None:
        noise: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        world = World()

        async def fail(*_: object) -> Found:
            await world.vault.gate.wait()
            raise ZeroDivisionError

        world.vault.gate.clear()
        alone = asyncio.ensure_future(world.cache.get(PLACE, fail))
        await turns()
        alone.cancel()
        await turns()
        world.vault.gate.set()
        await turns()
        del alone
        gc.collect()
        assert noise == []
        with pytest.raises(ZeroDivisionError):
            await world.cache.get(PLACE, fail)

    run(test())


def test_refusal_of_one_is_not_that_of_another() -> None:
    """Who waited for the answer to somebody without a right asks anew."""

    async def test() -> None:
        world = World()
        world.vault.gate.clear()
        world.vault.error = PermissionDenied("no")
        denied = asyncio.ensure_future(world.get())
        await turns()
        world.vault.error = None
        allowed = asyncio.ensure_future(world.get())
        await turns()
        world.vault.gate.set()
        assert (await allowed).version == 1
        with pytest.raises(PermissionDenied):
            await denied

    run(test())


# ── Vault is away ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_outage_is_told_and_not_asked_about_at_each_read() -> None:
    """Stale, with its age, with back-off; for max_stale, and no longer (K4)."""

    async def test() -> None:
        world = World(max_stale=60)
        await world.get()
        world.later(6)
        world.vault.error = VaultUnreachable("away")
        readings = [await world.get() for _ in range(100)]
        assert {(each.outcome, each.stale, each.age) for each in readings} == {("stale", True, 6)}
        assert world.vault.asked == ["values", "version"]
        world.later(55)
        with pytest.raises(VaultUnreachable):
            await world.get()

    run(test())


def test_stale_value_is_fresh_again_when_vault_is_back() -> None:
    """Once the back-off is over."""

    async def test() -> None:
        world = World()
        await world.get()
        world.later(6)
        world.vault.error = VaultUnreachable("away")
        assert (await world.get()).stale
        world.vault.error = None
        world.later(1.1)
        reading = await world.get()
        assert (reading.outcome, reading.stale) == ("revalidated", False)

    run(test())


def test_hung_vault_does_not_hold_up_what_is_cached() -> None:
    """Whoever has waited for `patience` is given the value, marked stale; who comes later need not wait at all."""

    async def test() -> None:
        world = World(patience=0.05)
        await world.get()
        world.later(6)
        world.vault.gate.clear()
        assert (await world.get()).outcome == "stale"
        world.later(1)
        assert [(await world.get()).outcome for _ in range(100)] == ["stale"] * 100
        assert world.vault.asked == ["values", "version"]
        world.vault.gate.set()
        await turns()
        assert (await world.get()).stale is False

    run(test())


# ── Bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cache_is_bounded() -> None:
    """100,000 random paths, some of which are not there, leave what the settings allow; what is used stays."""

    async def test() -> None:
        world = World(max_entries=500)

        async def fetch(place: Place, _: Found | None) -> Found:
            if place.path.endswith("7"):
                raise SecretNotFound("nothing")
            return world.vault.found()

        async def ask(number: int) -> None:
            with suppress(SecretNotFound):
                await world.cache.get(Place("", "tenants", f"random/{number}"), fetch)
            if number % 100 == 0:
                await world.get()

        objects = []
        for number in range(100_000):
            await ask(number)
            if number in (20_000, 99_999):
                objects.append(len(gc.get_objects()))
        cache = world.cache
        assert (len(cache), len(cache._missing), len(cache._flights)) == (500, MOST_MISSING, 0)
        assert objects[1] < objects[0] * 1.1
        assert world.vault.asked == ["values"]

    asyncio.run(test())


# ── Threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_are_bounded() -> None:
    """So many at work, so many waiting; the next is told at once, and there is a place again when one has ended."""

    async def test() -> None:
        threads, go, at_work = Threads(2, queue=3), threading.Event(), []

        def call() -> int:
            at_work.append(1)
            go.wait(PATIENCE_SECONDS)
            return 1

        running = [asyncio.ensure_future(threads.run(call)) for _ in range(5)]
        await turns()
        began = time.monotonic()
        with pytest.raises(Busy):
            await threads.run(call)
        assert time.monotonic() - began < 1
        while len(at_work) < 2:
            await asyncio.sleep(0.01)
        assert len(at_work) == 2
        go.set()
        assert await asyncio.gather(*running) == [1] * 5
        assert await threads.run(call) == 1
        assert threads.under_way == 0

    run(test())


def test_cancelled_call_goes_on_to_its_end() -> None:
    """Its place is free when it has ended, not before; its error is nobody's; `ended` is told."""

    async def test() -> None:
        threads, go, ended = Threads(1, queue=0), threading.Event(), asyncio.Event()

        def call() -> None:
            go.wait(PATIENCE_SECONDS)
            raise VaultTimeout("late")

        running = asyncio.ensure_future(threads.run(call, ended=ended.set))
        await turns()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(Busy):
            await threads.run(call)
        assert not ended.is_set()
        go.set()
        await ended.wait()
        assert await threads.run(lambda: 7) == 7

    run(test())


def test_close_waits_for_nothing() -> None:
    """Who waits for a call that hangs is told that it is over; what the call brings later is nobody's."""
    go = threading.Event()

    async def test() -> None:
        threads = Threads(1, queue=5)
        running = [asyncio.ensure_future(threads.run(lambda: go.wait(PATIENCE_SECONDS))) for _ in range(3)]
        await turns()
        threads.close()
        for each in running:
            with pytest.raises(ClientClosed):
                await each
        with pytest.raises(ClientClosed):
            await threads.run(lambda: 1)

    run(test())
    go.set()
