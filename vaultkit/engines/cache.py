"""A cache in front of one of Vault's secret engines, for any number of threads.

`SecretEngine` holds what all engines have in common: a cached read without a lock, one request however many threads ask
(C1), the cached value while Vault is away (K4). How to ask, and how long an answer is good, say its subclasses, a file
for each of Vault's engines.
"""

from __future__ import annotations

import copy
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from ..announcer import Announcer
from ..errors import ClientClosed, NoAnswer, SecretNotFound, UnexpectedResponse, VaultError, VaultTimeout
from ..events import SecretChanged, StaleServed
from ..lifetime import FIRST_BACKOFF_SECONDS, LONG_AGO, NEVER, Clock, Moment
from ..secret import Secret
from ..settings import is_path
from ..shield import without_frames
from ..single_flight import SingleFlight
from ..transport.answers import Answer, Ask, printable

ASK_AGAIN_SECONDS, SHORTEST_PAUSE_SECONDS = 1.0, 0.1
FIRST_PAUSE_OF_LEASES_SECONDS, LONGEST_PAUSE_OF_LEASES_SECONDS = 120.0, 3600.0
"""Of which chance takes up to a half."""
MOST_IDLE_NAMES = 1000
"""So many names may be remembered of which nothing is cached, such as those that do not exist (C1)."""


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
    lease: float = 0.0
    """How long its lease was when it was issued, in seconds."""
    renewable: bool = False
    """Whether to renew its lease is of any use: not once it was refused where it was used, or its token is another."""
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
    def mount(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def refresh_interval(self) -> float: ...


SettingsT = TypeVar("SettingsT", bound=EngineSettings)


class SecretEngine(ABC, Generic[SettingsT]):
    """One secret engine behind a cache, for any number of threads.

    To add an engine: a file like `database.py`, with its settings and a class that has a section, a mount and a
    `fetch`; its name in ENGINES; the same section in config.ini and `VaultConfig`. The application gives it a thread.
    """

    section: str
    """The section of config.ini, which names the engine wherever it is spoken of."""
    mount_suffix: str
    """The mount is `{entity}-{mount_suffix}`, unless the section names another."""
    title, short_title, icon, feature = "Secret", "secret", "🔒", ""
    """What people call it, on a line of its own and among others, and what it does."""
    refusal_seconds = 2.0
    """How long after a refusal (`get_instead_of`) the next is no reason to ask Vault: each could cost a lease."""

    def __init__(
        self,
        settings: SettingsT,
        ask: Ask,
        *,
        entity: str,
        clock: Clock,
        announcer: Announcer,
        backoff_max: float,
    ) -> None:
        self.settings = settings
        self.mount = settings.mount or f"{entity}-{self.mount_suffix}"
        self._ask = ask
        self._clock = clock
        self._monotonic, self._wall = clock.monotonic, clock.time
        self._announcer = announcer
        self._backoff_max = backoff_max
        self._turn_seconds = max(ASK_AGAIN_SECONDS, settings.refresh_interval)
        self._closed = False
        self.start_anew()

    def start_anew(self) -> None:
        """Nothing cached, and locks of its own: at first, and in the child of a fork (T10)."""
        self._cache: dict[str, Cached] = {}
        self._flights: dict[str, SingleFlight] = {}
        self._revisions: dict[str, int] = {}
        self._forgotten_revisions = 0
        self._sweep_at = MOST_IDLE_NAMES
        self._token_generation = 0
        self._token_ends = self._last_token_ended = NEVER
        self._lock = threading.Lock()  # held to change all of the above, never during a request

    @abstractmethod
    def fetch(self, name: str, cached: Cached | None) -> Cached:
        """Ask Vault for a secret of which we hold `cached`. Raises: an error of `errors`."""

    @staticmethod
    def words_of_change(previous: Secret, secret: Secret) -> str:
        """How to tell of a change."""
        return "secret changed"

    def get(self, name: str) -> Secret:
        """The secret, from the cache while it is fresh, else from Vault. Raises: an error of `errors`."""
        try:
            cached = self._cache[name]
        except KeyError:
            return self._refresh(name)
        # Moment.has_come(), written out: this is all that a cached read costs, and it takes no lock.
        if self._monotonic() < cached.fresh_monotonic and self._wall() < cached.fresh_wall:
            return cached.secret
        return self._refresh(name)

    def peek(self, name: str) -> Secret | None:
        """The secret if it is cached and fresh, else None. Never asks Vault nor waits: an event loop may call it."""
        cached = self._cache.get(name)
        return None if cached is None or cached.fresh_until.has_come(self._clock) else cached.secret

    def get_below(self, prefix: str) -> dict[str, Secret]:
        """All secrets below a prefix, by name; of engines that know prefixes. Raises: an error of `errors`."""
        raise SecretNotFound(f"{self.title} knows no prefixes such as {printable(prefix)}")

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
        Raises: an error of `errors`.
        """
        name = refused.name
        flight = self._flight(name)
        try:
            with flight.lock:
                if self._is_cached(refused) and flight.may_ask_early(self.refusal_seconds):
                    with self._lock:
                        if name in self._cache:
                            self._cache[name] = replace(self._cache[name], due=LONG_AGO, renewable=False)
                return self._fetch_once(name, flight)
        finally:
            self._announcer.deliver()

    def seconds_until_due(self) -> float:
        """How long all that was cached of what config.ini names needs no asking; `inf` if nothing was."""
        return min(map(self._seconds_left, self.settings.names), default=math.inf)

    def _seconds_left(self, name: str) -> float:
        """What has ended in an outage is asked for when its back-off ends, and not before."""
        cached, flight = self._cache.get(name), self._flights.get(name)
        if cached is None:
            return math.inf
        return max(cached.fresh_until.left(self._clock), flight.pause() if flight else 0.0)

    def token_changed(self, generation: int, ends: Moment) -> None:
        """The token was renewed (the same generation), lost (`ends` is past), or replaced by a login (a new one).

        What failed for want of a login, or serves on stale, need not wait for the end of its back-off.
        """
        with self._lock:
            if generation != self._token_generation:
                self._last_token_ended = self._token_ends
                self._end_pauses()
            self._token_generation, self._token_ends = generation, ends
            for name, cached in self._cache.items():
                self._cache[name] = self._under_current_token(cached)

    def _end_pauses(self) -> None:
        """Vault has answered: ask for what failed. Called with the lock held."""
        for flight in self._flights.values():
            flight.end_pause()
        for name, cached in self._cache.items():
            if cached.secret.stale:
                self._cache[name] = replace(cached, due=LONG_AGO)

    def clear(self) -> None:
        """Forget every secret, and keep none from now on."""
        with self._lock:
            self._closed = True
            self._cache.clear()
            self._flights.clear()

    # ── What `fetch` makes ───────────────────────────────────────────────────────────────────────────────────────────

    def secret(self, name: str, data: dict[str, Any], **facts: Any) -> Secret:
        """A secret of this engine. `facts` are those of `Secret` that its kind has, such as its version or lease."""
        return Secret(engine=self.section, name=name, data=data, clock=self._clock, **facts)

    def cached(
        self, secret: Secret, answer: Answer, *, due: Moment, until: Moment, read: Moment | None = None
    ) -> Cached:
        """What is kept of an answer: to be asked for again when it is `due`, and good `until` then if there is none."""
        return Cached(secret, due, until, read or answer.asked, answer.token_generation)

    # ── One thread asks; the others take what there is, or wait ──────────────────────────────────────────────────────

    def _refresh(self, name: str) -> Secret:
        if not is_path(name):  # it would not stay below the mount
            raise SecretNotFound(f'"{printable(name)}" is no path: it has an empty part, "." or ".."')
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
        flight.raise_if_resting()
        try:
            return self._store(name, flight, self._fetch(name))
        except VaultError as error:
            return self._fall_back(name, flight, error)

    @without_frames
    def _fetch(self, name: str) -> Cached:
        """`fetch`, whose errors name what was asked for."""
        try:
            return self.fetch(name, self._cache.get(name))
        except RecursionError:
            raise UnexpectedResponse(f"{self.mount}/{name} is nested too deeply") from None
        except UnexpectedResponse as error:
            named = UnexpectedResponse(f"{self.mount}/{name}: {error}")
            named.lease_id = error.lease_id
            raise named from None

    def _store(self, name: str, flight: SingleFlight, new: Cached) -> Secret:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client was closed while it asked for a secret")
            old = self._cache.get(name)
            previous = old.secret if old else None
            changed = not new.secret.says_the_same_as(previous)
            revision = self._revisions.get(name, self._forgotten_revisions) + changed
            if new.secret.revision != revision:
                new = replace(new, secret=replace(new.secret, revision=revision))
            self._revisions[name] = revision
            self._cache[name] = new = self._under_current_token(new)
        if new.usable_until.has_come(self._clock):
            raise VaultTimeout(f"the answer for {self.section} {name} took longer than the secret lives")
        flight.succeeded()
        if changed:
            self._announcer.post(SecretChanged(new.secret, previous))
        return new.secret

    def _fall_back(self, name: str, flight: SingleFlight, error: VaultError) -> Secret:
        """Serve what we hold, marked stale (K4); raise if we hold nothing, or if the error is Vault's answer."""
        cached = self._usable(name) if isinstance(error, NoAnswer) else None
        first, longest = self._pauses(error)
        # However long the back-off has grown, there is another try in what is left.
        left = math.inf if cached is None or error.lease_id else cached.usable_until.left(self._clock) / 2
        left = max(SHORTEST_PAUSE_SECONDS, left)
        again = flight.failed(error, min(longest, left), first_pause=first, within=left)
        with self._lock:
            if not isinstance(error, NoAnswer):
                self._cache.pop(name, None)
            if cached is None or self._closed:
                raise error
            stale = replace(cached.secret, stale=True)
            self._cache[name] = replace(cached, secret=stale, due=again)
        self._announcer.post(StaleServed(stale, copy.copy(error), again.left(self._clock)))
        return stale

    def _pauses(self, error: VaultError) -> tuple[float, float]:
        """The first and the longest pause after this error, in seconds: what is issued in vain is so rarely (D3)."""
        if error.lease_id:
            return FIRST_PAUSE_OF_LEASES_SECONDS, LONGEST_PAUSE_OF_LEASES_SECONDS
        return FIRST_BACKOFF_SECONDS, self._longest_pause(error)

    def _longest_pause(self, error: VaultError) -> float:
        """Seconds. What Vault has answered may be another answer at the next turn; an outage is asked about less."""
        return self._backoff_max if isinstance(error, NoAnswer) else self._turn_seconds

    def _is_cached(self, secret: Secret) -> bool:
        cached = self._cache.get(secret.name)
        return cached is not None and cached.secret.says_the_same_as(secret)

    def _usable(self, name: str) -> Cached | None:
        cached = self._cache.get(name)
        return None if cached is None or cached.usable_until.has_come(self._clock) else cached

    def _flight(self, name: str) -> SingleFlight:
        with self._lock:
            if len(self._flights) >= self._sweep_at:
                self._forget_idle()
            return self._flights.setdefault(name, SingleFlight(self._clock))

    def _forget_idle(self) -> None:
        """Drop what is kept of names that nobody asks for and nothing is cached of (C1). Called with the lock held."""
        self._cache = {name: each for name, each in self._cache.items() if not each.usable_until.has_come(self._clock)}
        for name in [name for name, flight in self._flights.items() if self._is_idle(name, flight)]:
            del self._flights[name]
            # Whoever comes back starts above all that is forgotten: a revision never counts backwards.
            self._forgotten_revisions = max(self._forgotten_revisions, self._revisions.pop(name, 0))
        self._sweep_at = len(self._flights) + MOST_IDLE_NAMES

    def _is_idle(self, name: str, flight: SingleFlight) -> bool:
        """Not what rests long, as what was issued in vain does (D3)."""
        return not (name in self._cache or flight.lock.locked() or flight.pause() > self._turn_seconds)

    def _under_current_token(self, cached: Cached) -> Cached:
        """`cached`, should the token have changed since Vault was asked. Called with the lock held."""
        return cached
