"""What was read, for one event loop: bounded, right by version, and honest about what it could not ask.

    fresh      ─ refresh_interval ─▶ due      served without asking, thread or lock, until then
    due        ─ same version ─────▶ fresh    one request, however many coroutines ask
               ─ another, or `ttl` ▶ fresh    with the values read anew
               ─ no answer ────────▶ stale    said so, asked about with back-off, at most for max_stale
               ─ refused, deleted ─▶ gone
    any        ─ a write of ours ──▶ gone     and so is every read that began before the write had ended

It lives on the loop alone, so it needs no lock. Who may see a value is not its matter: whoever asks it has the right.
"""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vaultkit.errors import LoginRefused, NoAnswer, PermissionDenied, Refused, SecretNotFound, VaultError
from vaultkit.lifetime import Clock, Moment, backoff
from vaultkit.settings import A_DAY, a_number, setting

from .places import Place
from .store import Found, etag_of
from .threads import retrieve

MOST_MISSING = 1000
"""So many places are remembered at which there is nothing: apart from the values, which no scan is to push out."""
OF_WHO_ASKS = (PermissionDenied, LoginRefused)
"""Errors of one who asks, which another may not meet."""


OUTCOMES = ("hit", "miss", "revalidated", "stale", "bypass")
"""What the cache did for a reading: gave it, asked, compared its version, had no answer, was passed by."""


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """[gateway_cache]: how long what was read is good. Seconds, and a number of secrets."""

    refresh_interval: float = setting(a_number(0.1, A_DAY), 5.0)
    ttl: float = setting(a_number(0.1, A_DAY), 300.0)
    negative_ttl: float = setting(a_number(0, 1), 1.0)
    max_stale: float = setting(a_number(0, 365 * A_DAY), 3600.0)
    patience: float = setting(a_number(0, 60), 1.0)
    backoff_max: float = setting(a_number(1, A_DAY), 30.0)
    max_entries: int = setting(a_number(1, 10_000_000, int), 10_000)


@dataclass(frozen=True, slots=True)
class Reading:
    """A secret, with all that is known of it and of how it came."""

    data: Mapping[str, Any] = field(repr=False)
    """Read-only at every depth. `copy.deepcopy` gives one that may be changed."""
    version: int
    created: str
    """When the version was written, as Vault gives it."""
    age: float
    """Seconds since Vault last said that this is the current version."""
    stale: bool
    """Vault could not be asked when it was time to."""
    outcome: str
    """One of OUTCOMES."""

    @property
    def etag(self) -> str:
        return etag_of(self.version, self.created)


@dataclass(slots=True)
class Kept:
    """A secret in the cache."""

    found: Found
    read: Moment
    """Before the request left that gave the values."""
    confirmed: Moment
    """Before the request left that last gave the version."""
    due: Moment
    failures: int = 0
    """In a row, without an answer: as long as there are any, it is stale."""

    def reading(self, outcome: str, clock: Clock) -> Reading:
        found = self.found
        age = max(0.0, self.confirmed.age(clock))
        return Reading(found.data, found.version, found.created, age, outcome == "stale", outcome)


@dataclass(slots=True)
class Missing:
    """That there is nothing at a place, and what was said of it."""

    error: SecretNotFound
    """A copy, which has no traceback, whose frames would live on with it."""
    due: Moment


Fetch = Callable[[Place, Found | None], Awaitable[Found]]
"""Asks Vault: gives what is held, if that is still the current version, or what is."""


@dataclass(slots=True, eq=False)
class Flight:
    """One question to Vault, and all who wait for its answer."""

    began: Moment
    task: asyncio.Task[Reading | VaultError] = field(init=False)


KeptT = TypeVar("KeptT", Kept, Missing)


class SecretCache:
    """Secrets by place, for one event loop. Several managers may share it."""

    def __init__(self, settings: CacheSettings | None = None, *, clock: Clock = time) -> None:
        self._settings = settings or CacheSettings()
        self._clock = clock
        self._kept: OrderedDict[Place, Kept] = OrderedDict()
        self._missing: OrderedDict[Place, Missing] = OrderedDict()
        self._flights: dict[Place, Flight] = {}
        """The latest of each place. One that is not in here any more was overtaken, and what it brings is not kept."""

    def __len__(self) -> int:
        return len(self._kept)

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def peek(self, place: Place, min_version: int = 0) -> Reading | None:
        """What is there and fresh, or stale and asked about lately; else None. Never waits."""
        kept = self._kept.get(place)
        if kept is None or kept.found.version < min_version or kept.due.has_come(self._clock):
            return None
        self._kept.move_to_end(place)
        return kept.reading("stale" if kept.failures else "hit", self._clock)

    async def get(self, place: Place, fetch: Fetch, *, min_version: int = 0, fresh: bool = False) -> Reading:
        """The secret: from here while that is good, else from Vault. Raises: an error of `vaultkit.errors`.

        An entry older than `min_version` does not count. `fresh` asks Vault for the values whatever there is, as the
        one who asks now, and takes no stale ones.
        """
        while True:
            if not fresh and (cached := self._answer_at_hand(place, min_version)):
                return cached
            flight = None if fresh else self._flights.get(place)
            ours = flight is None
            if flight is None:
                flight = self._take_off(place, fetch, values=fresh)
            outcome = await self._outcome(flight, place, min_version, may_be_stale=not fresh)
            if isinstance(outcome, Reading):
                if ours or outcome.version >= min_version:
                    return outcome
            elif ours or not isinstance(outcome, OF_WHO_ASKS):
                raise copy.copy(outcome)  # the same error may be raised to many, each with a traceback of its own

    def _answer_at_hand(self, place: Place, min_version: int) -> Reading | None:
        """Raises: SecretNotFound, which is an answer, too."""
        missing = self._missing.get(place)
        if missing and not min_version and not missing.due.has_come(self._clock):
            raise copy.copy(missing.error)
        return self.peek(place, min_version)

    async def _outcome(
        self, flight: Flight, place: Place, min_version: int, *, may_be_stale: bool
    ) -> Reading | VaultError:
        """What comes of a flight. Whoever may have a stale value waits no longer for it than is fit for one."""
        patience = math.inf
        if may_be_stale and self._usable(place, min_version):
            patience = max(0.0, self._settings.patience - flight.began.age(self._clock))
        await asyncio.wait({flight.task}, timeout=None if math.isinf(patience) else patience)
        outcome = flight.task.result() if flight.task.done() else None
        if may_be_stale and (outcome is None or isinstance(outcome, NoAnswer)):
            usable = self._usable(place, min_version)
            if usable is not None:
                return usable.reading("stale", self._clock)
        if outcome is None:  # what could have served was written over meanwhile
            await asyncio.wait({flight.task})
            outcome = flight.task.result()
        return outcome

    def _usable(self, place: Place, min_version: int) -> Kept | None:
        """What may serve if Vault does not answer (K4)."""
        kept = self._kept.get(place)
        if kept is None or kept.found.version < min_version:
            return None
        longest = max(self._settings.max_stale, self._settings.refresh_interval)
        return None if kept.confirmed.after(longest).has_come(self._clock) else kept

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_off(self, place: Place, fetch: Fetch, *, values: bool) -> Flight:
        flight = Flight(Moment.now(self._clock))
        flight.task = asyncio.ensure_future(self._fly(flight, place, fetch, values=values))
        flight.task.add_done_callback(retrieve)
        self._flights[place] = flight
        return flight

    async def _fly(self, flight: Flight, place: Place, fetch: Fetch, *, values: bool) -> Reading | VaultError:
        kept = self._kept.get(place)
        known = None if values or kept is None or kept.read.age(self._clock) >= self._settings.ttl else kept.found
        try:
            found = await fetch(place, known)
        except VaultError as error:
            if self._flights.get(place) is flight:
                self._failed(place, error, asked_early=values)
            return error
        else:
            read = kept.read if kept is not None and found is known else flight.began
            landed = Kept(found, read, flight.began, flight.began.after(self._settings.refresh_interval))
            if self._flights.get(place) is flight:
                self._missing.pop(place, None)
                put(self._kept, place, landed, self._settings.max_entries)
            confirmed = known is not None and (found.version, found.created) == (known.version, known.created)
            return landed.reading("bypass" if values else "revalidated" if confirmed else "miss", self._clock)
        finally:
            if self._flights.get(place) is flight:
                del self._flights[place]

    def _failed(self, place: Place, error: VaultError, *, asked_early: bool) -> None:
        now = Moment.now(self._clock)
        if isinstance(error, SecretNotFound) and self._settings.negative_ttl:
            put(self._missing, place, Missing(copy.copy(error), now.after(self._settings.negative_ttl)), MOST_MISSING)
        if isinstance(error, Refused):
            self._kept.pop(place, None)
        elif (kept := self._kept.get(place)) and not asked_early:
            kept.failures += 1
            kept.due = now.after(backoff(kept.failures, self._settings.backoff_max, error.retry_after))

    # ── Forgetting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def forget(self, place: Place) -> None:
        """After a write: nothing that was read before it counts, nor what is being read just now."""
        self._kept.pop(place, None)
        self._missing.pop(place, None)
        self._flights.pop(place, None)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._missing.clear()
        self._flights.clear()


def put(kept: OrderedDict[Place, KeptT], place: Place, what: KeptT, most: int) -> None:
    """Keep it as the newest, and let go of the oldest beyond so many."""
    kept[place] = what
    kept.move_to_end(place)
    while len(kept) > most:
        kept.popitem(last=False)
