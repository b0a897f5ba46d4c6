"""The three caching strategies: KV v2 by version, dynamic database credentials by TTL, static ones by time.

Each is a `SecretEngine`, which keeps the cache; here stands how Vault is asked, and how long its answer is good.
Another engine is another small class like these.
"""

from __future__ import annotations

import copy
import math
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from config_loader import DatabaseDynamicSettings, DatabaseStaticSettings, KvSettings, is_prefix
from kv_listing import UNKNOWN_VERSION, KvListings, Listing, Version, current_version
from lifetime import LONG_AGO, Moment
from secret_cache import ASK_AGAIN_SECONDS, Answer, Cached, SecretEngine, is_path
from single_flight import SingleFlight
from vault_errors import (
    PermissionDenied,
    RequestRejected,
    ResponseTooLarge,
    SecretNotFound,
    VaultError,
    VaultUnavailable,
)
from vault_events import NoVersionQuery, PrefixChanged, PrefixStale
from vault_http import checked, printable
from vault_secret import Secret

MOST_FAILURES = 3
"""So many in a row without an answer, and the rest of the turn asks for nothing more (C2)."""
LEASE_SHARE_LEFT = 1 / 5
UNKNOWN = math.inf
"""The length of a lease before the first one was granted: only a token with most of its life ahead is good for it."""


class KvEngine(SecretEngine[KvSettings]):
    """KV v2, cached by version: a refresh asks for the version alone, and reads the values when it has moved (K1).

    Of a prefix, a turn of the application's worker asks for all versions at once, and confirms, drops or marks for
    reading what is cached (K5). To a reader each secret is as any other, and asked for alone should it be due.
    """

    section = "kv_secret"
    mount_suffix = "kv"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._without_metadata: set[str] = set()
        self._kv_listings = KvListings(self._vault, self.mount, self.settings, self._clock, self._announcer)
        self._listings: dict[str, Listing] = {}

    # ── One secret ───────────────────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        if cached is None or name in self._without_metadata or self._full_read_is_due(cached):
            return self._read_values(name, cached)
        try:
            answer = self._vault.ask(
                lambda vault: vault.secrets.kv.v2.read_secret_metadata(name, mount_point=self.mount)
            )
        except (PermissionDenied, ResponseTooLarge) as error:  # too large: with dozens of versions kept
            values = self._read_values(name, cached)
            # Only now: where the values cannot be read either, the trouble may pass.
            if not self._without_metadata:
                self._announcer.post(NoVersionQuery(copy.copy(error)))
            self._without_metadata.add(name)
            return values
        if current_version(checked(answer.body, "data", dict), self._clock.time()) != version_of(cached.secret):
            return self._read_values(name, cached)
        return self._cached(cached.secret.confirmed(), answer, read=cached.read)

    def _full_read_is_due(self, cached: Cached) -> bool:
        return cached.read.age(self._clock) >= self.settings.full_read_interval

    def _read_values(self, name: str, cached: Cached | None) -> Cached:
        answer = self._vault.ask(
            lambda vault: vault.secrets.kv.v2.read_secret_version(
                name, mount_point=self.mount, raise_on_deleted_version=True
            )
        )
        body = checked(answer.body, "data", dict)
        metadata = checked(body, "metadata", dict)
        secret = Secret(
            engine=self.section,
            name=name,
            data=MappingProxyType(checked(body, "data", dict)),
            version=checked(metadata, "version", int),
            created_time=checked(metadata, "created_time", str),
        )
        if cached is not None and secret.says_the_same_as(cached.secret):
            secret = cached.secret.confirmed()
        # What is below a prefix is read one after the other at first, and shall not be so again all at one time.
        at_once = cached is None and any(name in listing.versions for listing in self._listings.values())
        spread = random.uniform(0, self.settings.full_read_interval) if at_once else 0.0
        return self._cached(secret, answer, read=answer.asked.after(-spread))

    def _cached(self, secret: Secret, answer: Answer, *, read: Moment) -> Cached:
        return Cached(
            secret,
            due=answer.asked.after(self.settings.refresh_interval),
            expires=self._expires(answer.asked),
            read=read,
            token_generation=answer.token_generation,
        )

    def _expires(self, asked: Moment) -> Moment:
        return asked.after(max(self.settings.max_stale, self.settings.refresh_interval))

    # ── All secrets below a prefix ───────────────────────────────────────────────────────────────────────────────────

    def get_below(self, prefix: str) -> dict[str, Secret]:
        """All secrets below a prefix, by path. Raises: an error of `vault_errors`, the first that is met."""
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
        due = [self._listings[name].due for name in self.settings.names if name in self._listings]
        cached = (self._cache.get(name) for name in self.settings.names)
        due += [each.fresh_until for each in cached if each is not None]
        return max((each.left(self._clock) for each in due), default=math.inf)

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

        Raises: an error of `vault_errors`.
        """
        flight = self._flight(f"{prefix}/")  # no path ends with a slash
        try:
            with flight.lock:
                listing = self._listings.get(prefix)
                if listing is None or listing.due.has_come(self._clock):
                    flight.check()
                    listing = self._ask_for_listing(prefix, flight)
        finally:
            self._announcer.deliver()
        if not listing.versions:
            raise SecretNotFound(f"there is nothing below {self.mount}/{prefix.removesuffix('*')}")
        return listing

    def _ask_for_listing(self, prefix: str, flight: SingleFlight) -> Listing:
        known = self._listings.pop(prefix, None)
        try:
            listing = self._kv_listings.ask(prefix)
        except VaultError as error:
            again = flight.failed(error, self._longest_pause(error))
            if known is None or not isinstance(error, VaultUnavailable):
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
        expires = self._expires(listing.asked)
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
        served, listed = 0, self._expires(known.asked).monotonic
        with self._lock:
            for name, cached in self._cached_below(prefix):
                if name not in known.versions and cached.expires.monotonic <= listed:
                    self._forget(name)  # gone already; an answer from before came late (K3)
                elif cached.fresh_monotonic < again.monotonic and not cached.usable_until.has_come(self._clock):
                    self._cache[name] = replace(cached, secret=replace(cached.secret, stale=True), due=again)
                    served += 1
        self._announcer.post(PrefixStale(prefix, served, copy.copy(error), again.left(self._clock)))

    def _cached_below(self, prefix: str) -> list[tuple[str, Cached]]:
        folder = prefix.removesuffix("*")
        return [(name, cached) for name, cached in self._cache.items() if name.startswith(folder)]

    def _forget(self, name: str) -> None:
        del self._cache[name]
        self._flights.pop(name, None)
        self._without_metadata.discard(name)


def version_of(secret: Secret) -> Version:
    return Version(secret.version, secret.created_time)


class DynamicEngine(SecretEngine[DatabaseDynamicSettings]):
    """Dynamic database credentials, cached by TTL: fetched anew when the lease has little left (D1).

    A lease belongs to the token that it was issued under, and dies with it (D2, T8).
    """

    section = "database_dynamic"
    mount_suffix = "database"

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        with role_must_exist(self.mount, name):
            answer = self._vault.ask(
                lambda vault: vault.secrets.database.generate_credentials(name, mount_point=self.mount),
                lease=UNKNOWN if cached is None else cached.expires.monotonic - cached.read.monotonic,
            )
        lease = checked(answer.body, "lease_duration", int)
        expires = answer.asked.after(lease)
        secret = Secret(
            engine=self.section,
            name=name,
            data=MappingProxyType(checked(answer.body, "data", dict)),
            lease_id=checked(answer.body, "lease_id", str),
            expires=expires,
            clock=self._clock,
        )
        due = expires.after(-min(self.settings.ttl_threshold, lease * LEASE_SHARE_LEFT))
        return Cached(secret, due=due, expires=expires, read=answer.asked, token_generation=answer.token_generation)

    def _as_of_now(self, cached: Cached) -> Cached:
        if cached.token_generation == self._token_generation:
            return replace(cached, token_ends=self._token_ends)
        # Issued under the token before: due at once, and good for draining until that token ends.
        return replace(cached, due=LONG_AGO, token_ends=cached.token_ends.or_earlier(self._last_token_ended))


class StaticEngine(SecretEngine[DatabaseStaticSettings]):
    """Static database credentials, cached by time, and never past the next rotation (S1)."""

    section = "database_static"
    mount_suffix = "database"

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        with role_must_exist(self.mount, name):
            answer = self._vault.ask(
                lambda vault: vault.secrets.database.get_static_credentials(name, mount_point=self.mount)
            )
        data = checked(answer.body, "data", dict)
        ttl = checked(data, "ttl", int)
        secret = Secret(
            engine=self.section,
            name=name,
            data=MappingProxyType({key: checked(data, key, str) for key in ("username", "password")}),
            last_rotation=checked(data, "last_vault_rotation", str),
            expires=answer.asked.after(ttl),
            clock=self._clock,
        )
        if cached is not None and self._rotation_is_overdue(cached.secret, secret):
            # The new `ttl` is not believed until the password has changed.
            return self._cached_for_a_moment(replace(secret, expires=cached.secret.expires), answer)
        if ttl <= 0:
            return self._cached_for_a_moment(secret, answer)
        due, expires = answer.asked.after(self.settings.cache_time), answer.asked.after(ttl)
        return Cached(secret, due=due, expires=expires, read=answer.asked, token_generation=answer.token_generation)

    def _cached_for_a_moment(self, secret: Secret, answer: Answer) -> Cached:
        """The password is about to change: good for now, and to be asked for again soon."""
        soon = Moment.now(self._clock).after(ASK_AGAIN_SECONDS)
        return Cached(secret, due=soon, expires=soon, read=answer.asked, token_generation=answer.token_generation)

    def _rotation_is_overdue(self, old: Secret, new: Secret) -> bool:
        """Whether the password should have changed by now and has not, whatever the new `ttl` says."""
        due = old.expires is not None and old.expires.has_come(self._clock)
        return due and old.last_rotation == new.last_rotation


ENGINES: tuple[type[SecretEngine[Any]], ...] = (KvEngine, DynamicEngine, StaticEngine)


@contextmanager
def role_must_exist(mount: str, name: str) -> Iterator[None]:
    """Tell a role that is not there, which Vault reports as a bad request, from other bad requests."""
    try:
        yield
    except RequestRejected as rejected:
        if "unknown role" not in str(rejected):
            raise
        raise SecretNotFound(f'there is no role "{printable(name)}" at {mount}') from rejected
