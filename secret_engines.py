"""The three caching strategies: KV v2 by version, dynamic database credentials by TTL, static ones by time.

A `SecretEngine` is a cache in front of one of Vault's secret engines. The base class holds what all have in common: a
cached read without a lock, one request however many threads ask (C1), the cached value while Vault is away (K4). A
subclass says how to ask and how long the answer is good; another engine is another small class like these three.
"""

from __future__ import annotations

import copy
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import hvac

from config_loader import DatabaseDynamicSettings, DatabaseStaticSettings, KvSettings
from lifetime import LONG_AGO, NEVER, Clock, Moment
from single_flight import SingleFlight
from vault_errors import (
    ClientClosed,
    PermissionDenied,
    RequestRejected,
    ResponseTooLarge,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultTimeout,
    VaultUnavailable,
)
from vault_events import Announcer, NoVersionQuery, SecretChanged, StaleServed
from vault_http import checked, printable
from vault_secret import Secret

NO_ANSWER = (VaultUnavailable, UnexpectedResponse, ResponseTooLarge)
"""The errors that leave open what Vault holds. All others are Vault's answer, and end the life of a cached value."""

LEASE_SHARE_LEFT = 1 / 5
ASK_AGAIN_SECONDS = 1.0
SHORTEST_PAUSE_SECONDS = 0.1
REFUSAL_SECONDS = 2.0
"""How long after one refusal (`get_instead_of`) the next one is no reason to ask Vault: a database that lets nobody in
must not cost a lease for every try."""
UNKNOWN = math.inf
"""The length of a lease before the first one was granted: only a token with most of its life ahead is good for it."""


@dataclass(frozen=True, repr=False)
class Answer:
    """What Vault said, when it was asked, and the token generation that asked (T8)."""

    body: dict[str, Any]
    asked: Moment
    token_generation: int


class Asker(Protocol):
    """Whoever can ask Vault with a valid token: the client."""

    def ask(self, request: Callable[[hvac.Client], Any], *, lease: float = 0.0) -> Answer: ...


@dataclass
class Cached:
    """A secret in the cache: fresh until it is due, usable until it expires; neither for longer than its token lives.

    It is never changed, only replaced, so that a reader needs no lock.
    """

    secret: Secret
    due: Moment
    """From then on Vault is asked again."""
    expires: Moment
    """Until then the secret may be served if Vault gives no answer."""
    read: Moment
    """When the values were last read, not their version alone."""
    token_generation: int
    token_ends: Moment = NEVER
    """Where the secret dies with its token: when that is."""
    fresh_until: Moment = field(init=False)
    usable_until: Moment = field(init=False)

    def __post_init__(self) -> None:
        self.usable_until = self.expires.or_earlier(self.token_ends)
        self.fresh_until = self.due.or_earlier(self.usable_until)


class EngineSettings(Protocol):
    """What the section of every secret engine has."""

    @property
    def enabled(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def refresh_interval(self) -> float: ...


SettingsT = TypeVar("SettingsT", bound=EngineSettings)


class SecretEngine(ABC, Generic[SettingsT]):
    """One secret engine behind a cache, for any number of threads.

    To add an engine: a class like those below, with its section, its mount and a `fetch`; the same section in
    config.ini and `VaultConfig`; and the class's name in ENGINES. The application then gives it a thread.
    """

    section: str
    """The section of config.ini, which names the engine wherever it is spoken of."""
    mount_suffix: str
    """The mount is `{entity}-{mount_suffix}`."""

    def __init__(
        self,
        settings: SettingsT,
        vault: Asker,
        *,
        entity: str,
        clock: Clock,
        announcer: Announcer,
        backoff_max: float,
    ) -> None:
        self.settings = settings
        self.mount = f"{entity}-{self.mount_suffix}"
        self._vault = vault
        self._clock = clock
        self._announcer = announcer
        self._backoff_max = backoff_max
        self._turn = max(ASK_AGAIN_SECONDS, settings.refresh_interval)
        self._cache: dict[str, Cached] = {}
        self._flights: dict[str, SingleFlight] = {}
        self._changes: dict[str, int] = {}
        self._token_generation = 0
        self._token_ends = self._last_token_ended = NEVER
        self._closed = False
        self._lock = threading.Lock()  # held to change all of the above, never during a request

    @abstractmethod
    def fetch(self, name: str, cached: Cached | None) -> Cached:
        """Ask Vault for a secret of which we hold `cached`. Raises: an error of `vault_errors`."""

    def get(self, name: str) -> Secret:
        """The secret, from the cache while it is fresh, else from Vault. Raises: an error of `vault_errors`."""
        cached = self._cache.get(name)
        clock = self._clock
        # Moment.has_come(), written out: this is all that a cached read costs, and it takes no lock.
        if cached and clock.monotonic() < cached.fresh_until.monotonic and clock.time() < cached.fresh_until.wall:
            return cached.secret
        return self._refresh(name)

    def get_instead_of(self, refused: Secret) -> Secret:
        """What to use instead of a secret that was refused where it was used: it was rotated or revoked meanwhile.

        Vault is asked, though it is not yet time to; once, however many threads were refused. Where it has nothing else
        to say, or was asked for this reason a moment ago, the answer is the secret that there is.
        Raises: an error of `vault_errors`.
        """
        name = refused.name
        flight = self._flight(name)
        try:
            with flight.lock:
                if self._is_cached(refused) and flight.may_ask_early(REFUSAL_SECONDS):
                    self._make_due(name)
                return self._fetch_once(name, flight)
        finally:
            self._announcer.deliver()

    def seconds_until_due(self) -> float:
        """How long the cached secret of config.ini stays fresh; `inf` if there is none."""
        cached = self._cache.get(self.settings.name)
        return math.inf if cached is None else cached.fresh_until.left(self._clock)

    def token_changed(self, generation: int, ends: Moment) -> None:
        """The token was renewed (the same generation), lost (`ends` is past), or replaced by a login (a new one).

        What failed for want of a login need not wait for the end of its back-off.
        """
        with self._lock:
            if generation != self._token_generation:
                self._last_token_ended = self._token_ends
                for flight in self._flights.values():
                    flight.end_pause()
            self._token_generation, self._token_ends = generation, ends
            for name, cached in self._cache.items():
                self._cache[name] = self._as_of_now(cached)

    def clear(self) -> None:
        """Forget every secret, and keep none from now on."""
        with self._lock:
            self._closed = True
            self._cache.clear()
            self._flights.clear()

    # ── One thread asks; the others take what there is, or wait ──────────────────────────────────────────────────────

    def _refresh(self, name: str) -> Secret:
        check_name(name)
        flight = self._flight(name)
        usable = self._usable(name)
        if usable is None:
            flight.lock.acquire()
        elif not flight.lock.acquire(blocking=False):
            return usable.secret
        try:
            return self._fetch_once(name, flight)
        finally:
            flight.lock.release()
            self._announcer.deliver()

    def _fetch_once(self, name: str, flight: SingleFlight) -> Secret:
        """Ask Vault, unless another thread has just done so, with or without success."""
        cached = self._usable(name)  # looked up again: it may have come while we waited for our turn
        if cached is not None and (flight.pause() > 0 or not cached.fresh_until.has_come(self._clock)):
            return cached.secret
        flight.check()
        try:
            return self._store(name, flight, self.fetch(name, self._cache.get(name)))
        except VaultError as error:
            return self._fall_back(name, flight, error)

    def _store(self, name: str, flight: SingleFlight, new: Cached) -> Secret:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client was closed while it asked for a secret")
            old = self._cache.get(name)
            previous = old.secret if old else None
            changed = not new.secret.says_the_same_as(previous)
            self._changes[name] = generation = self._changes.get(name, 0) + changed
            if new.secret.generation != generation:
                new = replace(new, secret=replace(new.secret, generation=generation))
            self._cache[name] = new = self._as_of_now(new)
        if new.usable_until.has_come(self._clock):
            raise VaultTimeout(f"the answer for {self.section} {name} took longer than the secret lives")
        flight.succeeded()
        if changed:
            self._announcer.post(SecretChanged(new.secret, previous))
        return new.secret

    def _fall_back(self, name: str, flight: SingleFlight, error: VaultError) -> Secret:
        """Serve what we hold, marked stale (K4); raise if we hold nothing, or if the error is Vault's answer."""
        cached = self._usable(name) if isinstance(error, NO_ANSWER) else None
        longest = self._backoff_max if isinstance(error, NO_ANSWER) else self._turn
        if cached is not None:  # however long the back-off has grown, there is another try in what is left
            longest = min(longest, max(SHORTEST_PAUSE_SECONDS, cached.usable_until.left(self._clock) / 2))
        again = flight.failed(error, longest)
        with self._lock:
            self._cache.pop(name, None)
            if cached is None or self._closed:
                raise error
            stale = replace(cached.secret, stale=True)
            self._cache[name] = replace(cached, secret=stale, due=again)
        self._announcer.post(StaleServed(stale, copy.copy(error), again.left(self._clock)))
        return stale

    def _is_cached(self, secret: Secret) -> bool:
        cached = self._cache.get(secret.name)
        return cached is not None and cached.secret.says_the_same_as(secret)

    def _make_due(self, name: str) -> None:
        with self._lock:
            if name in self._cache:
                self._cache[name] = replace(self._cache[name], due=LONG_AGO)

    def _usable(self, name: str) -> Cached | None:
        cached = self._cache.get(name)
        return None if cached is None or cached.usable_until.has_come(self._clock) else cached

    def _flight(self, name: str) -> SingleFlight:
        with self._lock:
            return self._flights.setdefault(name, SingleFlight(self._clock))

    def _as_of_now(self, cached: Cached) -> Cached:
        """`cached`, should the token have changed since Vault was asked. Called with the lock held."""
        return cached


class KvEngine(SecretEngine[KvSettings]):
    """KV v2, cached by version: a refresh asks for the version alone, and reads the values when it has moved (K1)."""

    section = "kv_secret"
    mount_suffix = "kv"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._without_metadata: set[str] = set()

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
            self._without_metadata.add(name)
            self._announcer.post(NoVersionQuery(copy.copy(error)))
            return values
        if not self._is_current(cached.secret, answer.body):
            return self._read_values(name, cached)
        return self._cached(cached.secret.confirmed(), answer, read=cached.read)

    def _full_read_is_due(self, cached: Cached) -> bool:
        return cached.read.age(self._clock) >= self.settings.full_read_interval

    def _is_current(self, secret: Secret, body: dict[str, Any]) -> bool:
        """Whether the metadata still speak of this version, and it is there.

        The creation time counts too: a secret deleted with its metadata and written anew starts again at version 1.
        """
        metadata = checked(body, "data", dict)
        version = checked(metadata, "current_version", int)
        facts = checked(metadata, "versions", dict).get(str(version))
        if not isinstance(facts, dict) or (version, facts.get("created_time")) != (secret.version, secret.created_time):
            return False
        return facts.get("destroyed") is False and not self._is_past(facts.get("deletion_time"))

    def _is_past(self, deletion_time: object) -> bool:
        """A deletion_time is empty, past, or (with delete_version_after) still to come."""
        if deletion_time == "":
            return False
        try:
            at = datetime.strptime(str(deletion_time)[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
        except ValueError:
            return True  # reading the values will tell
        return at.timestamp() <= self._clock.time()

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
        return self._cached(secret, answer, read=answer.asked)

    def _cached(self, secret: Secret, answer: Answer, *, read: Moment) -> Cached:
        return Cached(
            secret,
            due=answer.asked.after(self.settings.refresh_interval),
            expires=answer.asked.after(max(self.settings.max_stale, self.settings.refresh_interval)),
            read=read,
            token_generation=answer.token_generation,
        )


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


def check_name(name: str) -> None:
    """Refuse a path that would not stay below its mount. Raises: SecretNotFound."""
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise SecretNotFound(f'"{printable(name)}" is no path: it has an empty part, "." or ".."')
