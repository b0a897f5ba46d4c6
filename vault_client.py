"""The client: logs in with AppRole, keeps its token alive, and serves secrets from caches that are right.

    with VaultClient(VaultConfig.load()) as vault:
        vault.get_kv_secret("database").data["api_key"]

Read it in this order: `VaultClient` (what it offers), `ask` (a request with a valid token), `keep_token_alive` (renewal
and re-login), `close`. How each kind of secret is cached stands in `secret_engines`, the HTTP side in `vault_http`. T1,
K1 and the like are the rules in the README.
"""

from __future__ import annotations

import copy
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, cast

import hvac
import requests

from config_loader import VaultConfig
from lifetime import LONG_AGO, Clock, Moment, backoff
from secret_cache import Answer, SecretEngine
from secret_engines import ENGINES, DynamicEngine, KvEngine, StaticEngine
from single_flight import SingleFlight
from vault_errors import (
    ClientClosed,
    LoginRefused,
    PermissionDenied,
    RequestRejected,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultTimeout,
)
from vault_events import (
    Announcer,
    Listener,
    LoggedIn,
    LoginFailed,
    RenewalFailed,
    TokenLost,
    TokenRenewed,
    TokenRevoked,
)
from vault_http import VaultAdapter, checked, new_session
from vault_secret import Secret

RENEW_AT_SHARE_OF_TTL = 4 / 5
CLEARLY_LESS = 9 / 10
LOOKS_PER_TTL = 10
SHORTEST_LOOK_SECONDS = 0.1
SHORTEST_TIMEOUT_SECONDS = 0.1
REVOKE_SECONDS = 2.0
REFUSALS = (PermissionDenied, RequestRejected, SecretNotFound)
"""Vault's answer is no, and asking again will not change it."""


@dataclass(frozen=True)
class Health:
    """What `sys/health` says of the server."""

    initialized: bool
    sealed: bool
    standby: bool
    version: str


@dataclass(frozen=True)
class TokenInfo:
    """What is known of the token without asking Vault; the token itself is not in it."""

    generation: int
    """1 for the first login, one more for each that follows (T8)."""
    ttl: float
    """Seconds left; `inf` for a token that does not expire."""
    renewable: bool
    policies: tuple[str, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Token:
    """A token as of its login or last renewal. Its value is nowhere but in `vault`, which sends it."""

    vault: hvac.Client
    generation: int
    asked: Moment
    """The moment *before* the request left that granted the TTL (T1)."""
    granted: float
    """The TTL in seconds; `inf` if the token does not expire."""
    full: float
    """The TTL that a login grants, with which a renewal's is compared (T4)."""
    renewable: bool
    policies: tuple[str, ...]
    next_step: Moment
    """When to renew it, or, if that is no use, to log in anew."""
    failures: int = 0
    """Renewals in a row that got no answer."""

    @property
    def expires(self) -> Moment:
        return self.asked.after(self.granted)

    @property
    def can_be_prolonged(self) -> bool:
        """Whether a renewal would gain anything. `renewable` stays true at max TTL: only the grant shrinks (T4)."""
        return self.renewable and self.granted >= self.full * CLEARLY_LESS

    def is_good_for(self, lease: float, clock: Clock) -> bool:
        """Whether a lease of so many seconds may be issued under it: it outlives it, or a new one hardly would (D2)."""
        if self.can_be_prolonged:
            return True
        left = self.expires.left(clock)
        return left >= lease or left >= self.full * RENEW_AT_SHARE_OF_TTL


class VaultClient:
    """Secrets from Vault or OpenBao, for any number of threads.

    It logs in by itself when it first needs a token. Renewal needs somebody to call `keep_token_alive` now and then:
    `VaultApplication` does so from a thread. Without that the token runs out, and the next request logs in anew.

    `listeners` are called with the events of `vault_events`, in one of the threads that use the client, with no lock of
    the client held. Events of different threads may overtake each other.
    """

    get_kv_secret: Callable[[str], Secret]
    """The current version of a KV v2 secret, by path. Raises: an error of `vault_errors`, as the three below do."""
    get_kv_secrets: Callable[[str], dict[str, Secret]]
    """All KV v2 secrets below a prefix such as `team/*`, by path."""
    get_database_dynamic_secret: Callable[[str], Secret]
    """A username and password that Vault made for us, by role, with at least a moment of their lease left."""
    get_database_static_secret: Callable[[str], Secret]
    """The current password of a database user that Vault rotates, by role."""

    def __init__(
        self,
        config: VaultConfig,
        *,
        clock: Clock = time,
        session: requests.Session | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._clock = clock
        self._announcer = Announcer(listeners)
        self._token_settings = config.token
        self._timeout = config.http.timeout
        verify: str | bool = (config.vault.ca_file or True) if config.vault.tls_verify else False
        self._session = session or new_session(
            config.vault.url,
            verify=verify,
            max_response_size=config.http.max_response_size,
            max_listing_size=config.http.max_listing_size,
        )
        self._connect = partial(
            hvac.Client,
            url=config.vault.url,
            namespace=config.vault.namespace or None,
            verify=verify,
            timeout=config.http.timeout,
            session=self._session,
            adapter=VaultAdapter,
        )
        self._credentials: tuple[str, str] | None = (config.vault.role_id, config.vault.secret_id)
        self._token: Token | None = None
        self._draining: Token | None = None
        """The token before: not used any more, and left to expire (T8)."""
        self._generation = 0
        self._closed = False
        self._lock = threading.Lock()  # held to change token, generation and credentials, never during a request
        self._login = SingleFlight(clock)
        self._lookup_allowed = True
        self.engines: dict[str, SecretEngine[Any]] = {
            kind.section: kind(
                getattr(config, kind.section),
                self,
                entity=config.vault.entity,
                clock=clock,
                announcer=self._announcer,
                backoff_max=config.token.backoff_max,
            )
            for kind in ENGINES
        }
        # The engines' own methods rather than calls to them: half of what a cached read costs is the call.
        kv = cast(KvEngine, self.engines[KvEngine.section])
        self.get_kv_secret, self.get_kv_secrets = kv.get, kv.get_below
        self.get_database_dynamic_secret = self.engines[DynamicEngine.section].get
        self.get_database_static_secret = self.engines[StaticEngine.section].get

    # ── What it offers ───────────────────────────────────────────────────────────────────────────────────────────────

    def get_instead_of(self, refused: Secret) -> Secret:
        """What to use instead of a secret that was refused where it was used, as by a database.

        Static passwords rotate, and leases are revoked, behind our back: Vault is asked anew, however many threads were
        refused, and at most once in two seconds. The answer may be the same secret again.
        Raises: an error of `vault_errors`.
        """
        return self.engines[refused.engine].get_instead_of(refused)

    @property
    def logged_in(self) -> bool:
        """Whether there is a token, as far as is known without asking Vault."""
        return self._token is not None

    def get_token_info(self) -> TokenInfo:
        """What is known of the token; logs in if there is none."""
        with self._events():
            token = self._valid_token()
        return TokenInfo(token.generation, token.expires.left(self._clock), token.renewable, token.policies)

    def health_check(self) -> Health:
        """How the server is, whatever state it is in. Needs no token. Raises: VaultUnavailable, UnexpectedResponse."""
        # Each state is asked to be told with status 200: a retry would not change it.
        body = self._connect(token="").sys.read_health_status(
            method="GET",
            standby_code=200,
            performance_standby_code=200,
            dr_secondary_code=200,
            sealed_code=200,
            uninit_code=200,
        )
        states = {state: checked(body, state, bool) for state in ("initialized", "sealed", "standby")}
        return Health(version=checked(body, "version", str), **states)

    def login(self) -> TokenInfo:
        """Log in anew, whatever the token. Raises: LoginRefused, VaultUnavailable, or another of `vault_errors`."""
        with self._events():
            self._log_in(instead_of=self._token)
        return self.get_token_info()

    def renew_token(self) -> TokenInfo:
        """Renew the token now. Raises: PermissionDenied or RequestRejected when Vault does not renew it."""
        with self._events():
            self._renew(self._valid_token())
        return self.get_token_info()

    # ── Asking with a valid token ────────────────────────────────────────────────────────────────────────────────────

    def ask(self, request: Callable[[hvac.Client], Any], *, lease: float = 0.0) -> Answer:
        """Make a request that needs a token, perhaps for a lease of so many seconds; for the secret engines.

        A 403 may mean a dead token or a missing permission, so Vault is asked once which of them it is. Only a dead
        token leads to a login and a second try (T9).
        """
        token = self._valid_token(lease)
        try:
            return self._answer(token, request)
        except PermissionDenied:
            if self._is_alive(token):
                raise
        self._lose(token, "Vault does not accept it any more")
        token = self._log_in(instead_of=token)
        try:
            return self._answer(token, request)
        except PermissionDenied:
            # Where no policy allows lookup-self a new token looks dead, too: never log in for that again.
            self._lookup_allowed = self._is_alive(token)
            raise

    def _answer(self, token: Token, request: Callable[[hvac.Client], Any]) -> Answer:
        asked = Moment.now(self._clock)
        return Answer(request(token.vault), asked, token.generation)

    def _valid_token(self, lease: float = 0.0) -> Token:
        """The token, or that of a new login if it has run out, or would before the lease that is asked for (D2)."""
        if self._closed:
            raise ClientClosed("this VaultClient is closed")
        token = self._token
        if token is None or token.expires.has_come(self._clock):
            self._lose(token, "its TTL has run out")
            return self._log_in(instead_of=token)
        if not token.is_good_for(lease, self._clock):
            return self._log_in(instead_of=token)
        return token

    def _is_alive(self, token: Token) -> bool:
        if not self._lookup_allowed:
            return True
        try:
            token.vault.auth.token.lookup_self()
        except PermissionDenied:
            return False
        return True

    # ── Keeping the token alive ──────────────────────────────────────────────────────────────────────────────────────

    def keep_token_alive(self) -> None:
        """Do what the token needs now: nothing, a renewal, or a login (T3 to T7). The token watcher calls this.

        What gets no answer is announced and tried again at a later call. Raises: LoginRefused, which is final.
        """
        with self._events():
            token = self._token
            if token is None or token.expires.has_come(self._clock):
                self._lose(token, "its TTL has run out")
                self._try_login(instead_of=token)
            elif token.next_step.has_come(self._clock):
                self._prolong(token)

    def seconds_to_next_look(self) -> float:
        """How long the token watcher may wait: 10 looks in a short token's life, and one when a step is due (T2)."""
        token = self._token
        if token is None:
            look, due = self._token_settings.check_interval, self._login.pause()
        else:
            look = min(self._token_settings.check_interval, token.granted / LOOKS_PER_TTL)
            due = max(token.next_step.left(self._clock), self._login.pause())
        return max(SHORTEST_LOOK_SECONDS, min(look, due))

    def _prolong(self, token: Token) -> None:
        """At 4/5 of the token's life: renew it if that is of use, else log in (T3 to T5)."""
        if not token.can_be_prolonged:
            self._try_login(instead_of=token)
            return
        try:
            self._renew(token)
        except REFUSALS:
            self._replace_refused(token)
        except VaultError as error:
            self._renew_later(token, error)

    def _replace_refused(self, token: Token) -> None:
        """A renewal was refused: log in at once (T7). If the token is dead, so is what it issued."""
        try:
            alive = self._is_alive(token)
        except VaultError as error:
            self._renew_later(token, error)
            return
        if not alive:
            self._lose(token, "Vault refused to renew it")
        self._try_login(instead_of=token)

    def _renew(self, token: Token) -> None:
        asked = Moment.now(self._clock)
        increment = None if math.isinf(token.full) else f"{token.full:.0f}s"
        # A request that hangs must leave time for another one before the token ends (T6).
        timeout = min(self._timeout, max(SHORTEST_TIMEOUT_SECONDS, token.expires.left(self._clock) / 2))
        vault = self._connect(token=token.vault.token, timeout=timeout)
        body = vault.auth.token.renew_self(increment=increment)
        renewed = self._granted(token.vault, token.generation, asked, checked(body, "auth", dict), full=token.full)
        if self._replace(token, renewed):
            self._announcer.post(TokenRenewed(renewed.granted, last=not renewed.can_be_prolonged))

    def _renew_later(self, token: Token, error: VaultError) -> None:
        """A renewal got no answer: the token lives on, and so does what it issued (T6).

        However long the back-off has grown, there is another try in what is left of the token's life.
        """
        failures = token.failures + 1
        pause = backoff(failures, self._token_settings.backoff_max, error.retry_after)
        pause = min(pause, token.expires.left(self._clock) / 2)
        later = replace(token, failures=failures, next_step=Moment.now(self._clock).after(pause))
        if self._replace(token, later):
            self._announcer.post(RenewalFailed(copy.copy(error), token.expires.left(self._clock), pause))

    def _try_login(self, instead_of: Token | None) -> None:
        """Log in; what gets no answer was announced by `_log_in`, and is tried again when its back-off is over (T7)."""
        try:
            self._log_in(instead_of)
        except LoginRefused:
            raise
        except VaultError:
            return

    def _log_in(self, instead_of: Token | None) -> Token:
        """A new token generation, or the one that another thread got meanwhile. One login at a time (C1)."""
        with self._login.lock:
            token = self._token
            if token is not None and (instead_of is None or token.generation > instead_of.generation):
                return token
            self._login.check()
            try:
                token = self._request_token()
            except VaultError as error:
                again = self._login.failed(error, self._token_settings.backoff_max)
                if not isinstance(error, (LoginRefused, ClientClosed)):
                    self._announcer.post(LoginFailed(copy.copy(error), again.left(self._clock)))
                raise
            self._login.succeeded()
        return token

    def _request_token(self) -> Token:
        credentials = self._credentials
        if credentials is None:
            raise ClientClosed("this VaultClient is closed")
        role_id, secret_id = credentials
        vault = self._connect(token="")
        asked = Moment.now(self._clock)
        try:
            body = vault.auth.approle.login(role_id=role_id, secret_id=secret_id, use_token=False)
        except REFUSALS as refusal:
            raise LoginRefused(
                f"Vault refused the login: {refusal}; are role_id and secret_id right and still valid?"
            ) from refusal
        auth = checked(body, "auth", dict)
        vault.token = usable_as_token(checked(auth, "client_token", str))
        token = self._granted(vault, self._generation + 1, asked, auth)
        self._adopt(token)
        return token

    def _granted(
        self, vault: hvac.Client, generation: int, asked: Moment, auth: dict[str, Any], full: float | None = None
    ) -> Token:
        """The token that a login or a renewal (with the `full` TTL asked for) granted."""
        granted: float = checked(auth, "lease_duration", int)
        if full is None or math.isinf(full):
            granted = full = granted or math.inf  # 0 stands for a token that does not expire
        early = self._token_settings.renew_jitter * random.random()
        return Token(
            vault=vault,
            generation=generation,
            asked=asked,
            granted=granted,
            full=full,
            renewable=checked(auth, "renewable", bool),
            policies=tuple(str(policy) for policy in checked(auth, "policies", list)),
            next_step=asked.after(granted * (RENEW_AT_SHARE_OF_TTL - early)),
        )

    def _adopt(self, token: Token) -> None:
        """A new generation: leases of the one before are due for replacement (T8). Its token is left to expire."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._generation = token.generation
                self._tell_engines(token.generation, token.expires)
                self._draining, self._token = self._token, token
        if closed:
            self._revoke(token)
            raise ClientClosed("the client was closed while it logged in")
        self._announcer.post(LoggedIn(token.generation, token.granted))

    def _replace(self, token: Token, renewed: Token) -> bool:
        """Put the token as renewed in the place of the token; False if a login was faster."""
        with self._lock:
            if self._token is None or self._token.generation != token.generation:
                return False
            self._token = renewed
            self._tell_engines(renewed.generation, renewed.expires)
            return True

    def _lose(self, token: Token | None, reason: str) -> None:
        """The token is dead, and the leases with it."""
        with self._lock:
            if token is None or self._token is None or self._token.generation != token.generation:
                return
            self._token = None
            self._tell_engines(token.generation, LONG_AGO)
        self._announcer.post(TokenLost(reason))

    def _tell_engines(self, generation: int, ends: Moment) -> None:
        for engine in self.engines.values():
            engine.token_changed(generation, ends)

    @contextmanager
    def _events(self) -> Iterator[None]:
        """Deliver, at the end of a call from outside, what was posted during it."""
        try:
            yield
        finally:
            self._announcer.deliver()

    # ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Revoke the token, and its leases with it, and forget every secret. Takes at most 2 s; safe to call again.

        Afterwards neither the token nor role_id, secret_id or any cached value can be reached from this object. More
        Python cannot promise: strings are immutable and cannot be overwritten, so their bytes stay in memory until it
        is used again, and what a caller still holds (a `Secret`, the `VaultConfig`, the environment) is the caller's.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            token, draining = self._token, self._draining
            self._token = self._draining = self._credentials = None
        for engine in self.engines.values():
            engine.clear()
        alive = [each for each in (token, draining) if each is not None and not each.expires.has_come(self._clock)]
        if alive:
            self._revoke(*alive)
        self._session.close()
        self._announcer.deliver()

    def _revoke(self, *tokens: Token) -> None:
        """Revoke tokens, waiting no longer than REVOKE_SECONDS, whatever the network does (X1)."""
        outcome: SimpleQueue[VaultError | None] = SimpleQueue()

        def revoke() -> None:
            try:
                for token in tokens:
                    token.vault.auth.token.revoke_self()
                outcome.put(None)
            except VaultError as error:
                outcome.put(error)

        threading.Thread(target=revoke, name="revoke-token", daemon=True).start()
        try:
            error = outcome.get(timeout=REVOKE_SECONDS)
        except Empty:
            error = VaultTimeout(f"Vault did not answer within {REVOKE_SECONDS:g} s")
        self._announcer.post(TokenRevoked(copy.copy(error), tokens[0].expires.left(self._clock)))

    def __enter__(self) -> VaultClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def usable_as_token(value: str) -> str:
    """Refuse what cannot be an HTTP header: requests would quote it in its error (P1). Raises: UnexpectedResponse."""
    if not (value and value.isascii() and value.isprintable()) or " " in value:
        raise UnexpectedResponse("the login was answered without a usable token")
    return value
