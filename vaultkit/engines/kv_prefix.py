"""All KV secrets below a prefix such as `team/*`: their versions by one listing, and of the values what has moved (K5).

OpenBao tells all versions in one answer, to a SCAN. A Vault does not know that request: it lists the names, folder by
folder, and each secret is then asked for its own version.

To do without prefixes, delete this file, and in `engines/__init__.py` its import and its name.
"""

from __future__ import annotations

import copy
import math
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import quote

from ..announcer import Announcer
from ..errors import Refused, ResponseTooLarge, SecretNotFound, UnexpectedResponse, VaultError, VaultUnavailable
from ..events import NoScan, PrefixChanged, PrefixStale
from ..lifetime import LONG_AGO, Clock, Moment
from ..secret import Secret
from ..settings import is_path, is_prefix
from ..single_flight import SingleFlight
from ..transport.answers import Ask, expect, printable
from .cache import Cached
from .kv import UNKNOWN_VERSION, KvEngine, KvSettings, Version, current_version

MOST_FAILURES = 3
"""So many in a row without an answer, and the rest of the turn asks for nothing more (C2)."""
NO_SCAN = (Refused, ResponseTooLarge, UnexpectedResponse)
"""The errors that leave hope for the other way to learn what is below a prefix."""
DEEPEST_FOLDER = 100


class KvPrefixEngine(KvEngine):
    """KV v2 with prefixes.

    A turn of the application's worker asks for all versions at once, and confirms, drops or marks for reading what is
    cached. To a reader each secret is as any other, and asked for alone should it be due.
    """

    def start_anew(self) -> None:
        super().start_anew()
        self._kv_listings = KvListings(self._ask, self.mount, self.settings, self._clock, self._announcer)
        self._listings: dict[str, Listing] = {}

    def _read(self, name: str, cached: Cached | None) -> Cached:
        """What is below a prefix is read one after the other at first, and shall not be so again all at one time."""
        new = super()._read(name, cached)
        if cached is None and any(name in listing.versions for listing in list(self._listings.values())):
            new = replace(new, read=new.read.after(-random.uniform(0, self.settings.full_read_interval)))
        return new

    def get_below(self, prefix: str) -> dict[str, Secret]:
        """All secrets below a prefix, by path. Raises: an error of `errors`, the first that is met."""
        if not is_prefix(prefix) or not is_path(prefix):
            raise SecretNotFound(f'"{printable(prefix)}" is no prefix such as team/*')
        secrets = {}
        for outcome in self._read_below(prefix, stop=threading.Event()):
            if isinstance(outcome, VaultError):
                raise outcome
            secrets[outcome.name] = outcome
        return secrets

    def read_all(self, stop: threading.Event) -> Iterator[Secret | VaultError]:
        """Everything that config.ini names, a prefix as all that is below it, and each secret once."""
        seen: set[str] = set()
        for name in self.settings.names:
            for outcome in self._read_below(name, stop) if is_prefix(name) else [self._outcome(name)]:
                if stop.is_set():
                    return
                if isinstance(outcome, VaultError):
                    yield outcome
                elif outcome.name not in seen:
                    seen.add(outcome.name)
                    yield outcome

    def seconds_until_due(self) -> float:
        """As for other engines, but until all are due: those that were asked for together are so again."""
        listed = [self._listings[name].due.left(self._clock) for name in self.settings.names if name in self._listings]
        cached = [self._seconds_left(name) for name in self.settings.names if name in self._cache]
        return max([*listed, *cached], default=math.inf)

    def _end_pauses(self) -> None:
        for prefix, listing in list(self._listings.items()):
            if (flight := self._flights.get(f"{prefix}/")) and flight.pause() > 0:
                self._listings[prefix] = replace(listing, due=LONG_AGO)
        super()._end_pauses()

    def _read_below(self, prefix: str, stop: threading.Event) -> Iterator[Secret | VaultError]:
        """What the listing confirms, from the cache; then what is to be read, one after the other."""
        try:
            listing = self._refresh_listing(prefix)
        except VaultError as error:
            yield error
            return
        now = Moment.now(self._clock)
        waiting: list[str] = []
        for name in listing.versions:
            cached = self._cache.get(name)
            if cached is None or cached.fresh_monotonic <= now.monotonic or cached.fresh_wall <= now.wall:
                waiting.append(name)
            else:
                yield cached.secret
        yield from self._read_waiting(prefix, waiting, stop)

    def _read_waiting(self, prefix: str, names: list[str], stop: threading.Event) -> Iterator[Secret | VaultError]:
        failures = 0
        for name in names:
            if stop.is_set():
                return
            if failures == MOST_FAILURES:
                cached = self._usable(name)
                if cached is not None:
                    yield cached.secret
                continue
            with suppress(VaultError):  # reading thousands takes long; should this fail, the next turn tells
                self._refresh_listing(prefix)
            outcome = self._outcome(name)
            got_no_answer = outcome.stale if isinstance(outcome, Secret) else isinstance(outcome, VaultUnavailable)
            failures = failures + 1 if got_no_answer else 0
            if not isinstance(outcome, SecretNotFound):  # deleted, and so none of them
                yield outcome

    def _refresh_listing(self, prefix: str) -> Listing:
        """The listing, asked for anew if it is due. In an outage the one that there is.

        Raises: an error of `errors`.
        """
        flight = self._flight(f"{prefix}/")  # no path ends with a slash
        try:
            with flight.lock:
                listing = self._listings.get(prefix)
                if listing is None or listing.due.has_come(self._clock):
                    flight.raise_if_resting()
                    listing = self._ask_for_listing(prefix, flight)
        finally:
            self._announcer.deliver()
        if not listing.versions:
            raise SecretNotFound(f"there is nothing below {self.mount}/{prefix.removesuffix('*')}")
        return listing

    def _ask_for_listing(self, prefix: str, flight: SingleFlight) -> Listing:
        known = self._listings.get(prefix)
        try:
            listing = self._kv_listings.below(prefix)
        except VaultError as error:
            again = flight.failed(error, self._longest_pause(error))
            if known is None or not isinstance(error, VaultUnavailable):
                self._listings.pop(prefix, None)
                raise
            self._serve_stale(prefix, known, error, again)
            listing = replace(known, due=again)
        else:
            flight.succeeded()
            self._confirm(prefix, listing)
            self._announce_changes(prefix, known, listing)
        self._listings[prefix] = listing
        return listing

    def _confirm(self, prefix: str, listing: Listing) -> None:
        """Confirm what is cached of the versions listed, have read what is of others, and drop what is gone (K3)."""
        expires = self._until(listing.asked)
        with self._lock:
            for name, cached in self._cached_below(prefix):
                if cached.expires.monotonic > expires.monotonic:
                    continue  # asked for later than the listing was
                if name in listing.versions:
                    self._cache[name] = self._by_listing(cached, listing.versions[name], listing.next_answer, expires)
                else:
                    self._forget(name)

    def _announce_changes(self, prefix: str, known: Listing | None, listing: Listing) -> None:
        if known is None:
            return
        came, went = listing.versions.keys() - known.versions.keys(), known.versions.keys() - listing.versions.keys()
        if came or went:
            self._announcer.post(PrefixChanged(prefix, came, went))

    def _by_listing(self, cached: Cached, version: Version, due: Moment, expires: Moment) -> Cached:
        """`cached`, until then, if this is its version; else such that it is asked for next."""
        secret = cached.secret
        if version is UNKNOWN_VERSION or self._full_read_is_due(cached):
            return replace(cached, due=LONG_AGO)
        if version != (secret.version, secret.created_time):
            return replace(cached, due=LONG_AGO, read=LONG_AGO)
        return Cached(secret.confirmed(), due, expires, cached.read, cached.token_generation)

    def _serve_stale(self, prefix: str, known: Listing, error: VaultError, again: Moment) -> None:
        """Vault gave no answer: until it is asked again, all below the prefix serve as they are (K4, C2)."""
        served, listed = 0, self._until(known.asked).monotonic
        with self._lock:
            for name, cached in self._cached_below(prefix):
                if name not in known.versions and cached.expires.monotonic <= listed:
                    self._forget(name)  # gone already; an answer from before came late (K3)
                elif cached.fresh_monotonic < again.monotonic and not cached.usable_until.has_come(self._clock):
                    self._cache[name] = replace(cached, secret=replace(cached.secret, stale=True), due=again)
                    served += 1
        self._announcer.post(PrefixStale(prefix, served, copy.copy(error), again.left(self._clock)))

    def _forget_idle(self) -> None:
        """The same of prefixes that config.ini does not name, and below which nothing was."""
        super()._forget_idle()
        listings, named = list(self._listings.items()), self.settings.names
        self._listings = {prefix: listing for prefix, listing in listings if listing.versions or prefix in named}

    def _cached_below(self, prefix: str) -> list[tuple[str, Cached]]:
        folder = prefix.removesuffix("*")
        return [(name, cached) for name, cached in self._cache.items() if name.startswith(folder)]

    def _forget(self, name: str) -> None:
        del self._cache[name]
        self._without_metadata.discard(name)


@dataclass(frozen=True)
class Listing:
    """What is below a prefix, by one answer of Vault's."""

    versions: Mapping[str, Version]
    asked: Moment
    due: Moment
    """When to ask again: after the refresh interval, and not before it has rested as long as it took."""
    next_answer: Moment
    """When that answer should be there, if it takes as long as this one: what this one confirms is good until then."""


class KvListings:
    """Asks for what is below prefixes of one KV mount."""

    def __init__(self, ask: Ask, mount: str, settings: KvSettings, clock: Clock, announcer: Announcer) -> None:
        self._ask = ask
        self._mount = mount
        self._settings = settings
        self._clock, self._announcer = clock, announcer
        self._scan_failed: dict[str, Moment] = {}

    def below(self, prefix: str) -> Listing:
        """Raises: an error of `errors`."""
        asked = Moment.now(self._clock)
        versions = self._versions_below(prefix)
        took = asked.age(self._clock)
        due = asked.after(max(self._settings.refresh_interval, 2 * took))
        return Listing(versions, asked, due, due.after(took))

    def _versions_below(self, prefix: str) -> dict[str, Version]:
        folder = prefix.removesuffix("*")
        failed = self._scan_failed.get(prefix)
        if failed is not None and failed.age(self._clock) < self._settings.full_read_interval:
            return self._names_below(folder)
        try:
            return self._scan(folder)
        except NO_SCAN as error:
            names = self._names_below(folder)
            if names:  # only now: where the names are not to be had either, the trouble may pass
                if failed is None:
                    self._announcer.post(NoScan(prefix, copy.copy(error)))
                self._scan_failed[prefix] = Moment.now(self._clock)
            return names

    def _scan(self, folder: str) -> dict[str, Version]:
        """All versions in one request: https://openbao.org/api-docs/secret/kv/kv-v2/"""
        url = quote(f"/v1/{self._mount}/detailed-metadata/{folder}")
        answer = self._ask(lambda api: api.adapter.request("scan", url))
        data = expect(answer.body, "data", dict)
        found = expect(data, "key_info", dict) if data else {}
        now = self._clock.time()
        versions = {folder + key: listed_version(metadata, now) for key, metadata in found.items()}
        return {name: version for name, version in versions.items() if version is not None}

    def _names_below(self, folder: str) -> dict[str, Version]:
        """All names, a request for each folder."""
        if folder.count("/") > DEEPEST_FOLDER:
            raise UnexpectedResponse(f"the folders below {self._mount} seem to have no end")
        names: dict[str, Version] = {}
        for key in self._keys_in(folder):
            path = folder + key
            names.update(self._names_below(path) if path.endswith("/") else {path: UNKNOWN_VERSION})
        return names

    def _keys_in(self, folder: str) -> list[str]:
        try:
            answer = self._ask(lambda api: api.secrets.kv.v2.list_secrets(folder, mount_point=self._mount))
        except SecretNotFound:
            return []  # a folder goes with the last secret in it
        keys = expect(expect(answer.body, "data", dict), "keys", list)
        return [key for key in keys if isinstance(key, str) and is_path(key.removesuffix("/"))]


def listed_version(metadata: object, now: float) -> Version | None:
    """`current_version`, where one odd entry is no reason to do without all others."""
    if not isinstance(metadata, dict):
        return UNKNOWN_VERSION
    try:
        return current_version(metadata, now)
    except UnexpectedResponse:
        return UNKNOWN_VERSION
