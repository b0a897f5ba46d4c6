"""A cache in front of one of Vault's secret engines, for any number of threads.

`SecretEngine` holds what all engines have in common: a cached read without a lock, one request however many threads ask
(C1), the cached value while Vault is away (K4). How to ask, and how long an answer is good, say its subclasses in
`secret_engines`.
"""

from __future__ import annotations

import copy
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import hvac

from lifetime import LONG_AGO, NEVER, Clock, Moment
from single_flight import SingleFlight
from vault_errors import (
    ClientClosed,
    ResponseTooLarge,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultTimeout,
    VaultUnavailable,
)
from vault_events import Announcer, SecretChanged, StaleServed
from vault_http import printable
from vault_secret import Secret

NO_ANSWER = (VaultUnavailable, UnexpectedResponse, ResponseTooLarge)
"""The errors that leave open what Vault holds. All others are Vault's answer, and end the life of a cached value."""

ASK_AGAIN_SECONDS = 1.0
SHORTEST_PAUSE_SECONDS = 0.1
REFUSAL_SECONDS = 2.0
"""How long after one refusal (`get_instead_of`) the next one is no reason to ask Vault: a database that lets nobody in
must not cost a lease for every try."""


@dataclass(frozen=True, repr=False)
class Answer:
    """What Vault said, when it was asked, and the token generation that asked (T8)."""

    body: dict[str, Any]
    asked: Moment
    token_generation: int


class Asker(Protocol):
    """Whoever can ask Vault with a valid token: the client."""

    def ask(self, request: Callable[[hvac.Client], Any], *, lease: float = 0.0) -> Answer: ...


@dataclass(slots=True)
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
    """When the values were last read, not their version alone; or earlier, for them to be read anew sooner."""
    token_generation: int
    token_ends: Moment = NEVER
    """Where the secret dies with its token: when that is."""
    fresh_until: Moment = field(init=False)
    usable_until: Moment = field(init=False)
    fresh_monotonic: float = field(init=False)
    """`fresh_until` on each clock, at hand for a cached read."""
    fresh_wall: float = field(init=False)

    def __post_init__(self) -> None:
        self.usable_until = self.expires.or_earlier(self.token_ends)
        self.fresh_until = self.due.or_earlier(self.usable_until)
        self.fresh_monotonic, self.fresh_wall = self.fresh_until


class EngineSettings(Protocol):
    """What the section of every secret engine has."""

    @property
    def enabled(self) -> bool: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def refresh_interval(self) -> float: ...


SettingsT = TypeVar("SettingsT", bound=EngineSettings)


class SecretEngine(ABC, Generic[SettingsT]):
    """One secret engine behind a cache, for any number of threads.

    To add an engine: a class like those in `secret_engines`, with its section, its mount and a `fetch`; the same
    section in config.ini and `VaultConfig`; and the class's name in ENGINES. The application then gives it a thread.
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
        self._monotonic, self._wall = clock.monotonic, clock.time
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
        # Moment.has_come(), written out: this is all that a cached read costs, and it takes no lock.
        if cached is not None and self._monotonic() < cached.fresh_monotonic and self._wall() < cached.fresh_wall:
            return cached.secret
        return self._refresh(name)

    def read_all(self, stop: threading.Event) -> Iterator[Secret | VaultError]:
        """Everything that config.ini names, as `get` gives it; where it raises an error, the error. Until `stop`."""
        for name in self.settings.names:
            if stop.is_set():
                return
            yield self._outcome(name)

    def _outcome(self, name: str) -> Secret | VaultError:
        try:
            return self.get(name)
        except VaultError as error:
            return error

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
        """How long all that is cached of what config.ini names stays fresh; `inf` if nothing is."""
        cached = (self._cache.get(name) for name in self.settings.names)
        return min((each.fresh_until.left(self._clock) for each in cached if each is not None), default=math.inf)

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
        longest = self._longest_pause(error)
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

    def _longest_pause(self, error: VaultError) -> float:
        """Seconds. What Vault has answered may be another answer at the next turn; an outage is asked about less."""
        return self._backoff_max if isinstance(error, NO_ANSWER) else self._turn

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


def check_name(name: str) -> None:
    """Refuse a path that would not stay below its mount. Raises: SecretNotFound."""
    if not is_path(name):
        raise SecretNotFound(f'"{printable(name)}" is no path: it has an empty part, "." or ".."')


def is_path(name: str) -> bool:
    return not any(part in ("", ".", "..") for part in name.split("/"))
