"""Database credentials: dynamic ones cached by TTL, replaced or renewed (D1 to D3), static ones by time (S1).

https://developer.hashicorp.com/vault/api-docs/secret/databases
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..auth.grant import LEAST_SHARE_GRANTED
from ..errors import (
    NoAnswer,
    PermissionDenied,
    Refused,
    RequestRejected,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
)
from ..events import LeaseRenewed, LeaseUnusable, NoLeaseRenewal
from ..lifetime import LONG_AGO, Moment
from ..secret import Secret
from ..settings import A_DAY, a_boolean, a_mount, a_name, a_number, one_of, setting, several
from ..transport.answers import Answer, expect, printable
from .cache import ASK_AGAIN_SECONDS, Cached, SecretEngine

LEASE_SHARE_LEFT = 1 / 5
ROTATE, RENEW = "rotate", "renew"
SHORTEST_TIMEOUT_SECONDS = 0.1
UNKNOWN = math.inf
"""The length of a lease before the first one was granted: only a token with most of its life ahead is good for it."""


@dataclass(frozen=True, kw_only=True)
class DatabaseDynamicSettings:
    """[database_dynamic]: dynamic database credentials. Seconds."""

    enabled: bool = setting(a_boolean, True)
    mount: str = setting(a_mount, "")
    role_id: tuple[str, ...] = setting(several(a_name), ("db-demo-dynamic",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 5.0)
    ttl_threshold: float = setting(a_number(0, A_DAY), 10.0)
    on_expiry: str = setting(one_of(ROTATE, RENEW), ROTATE)
    check_login: bool = setting(a_boolean, False)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here roles."""
        return self.role_id


@dataclass(frozen=True, kw_only=True)
class DatabaseStaticSettings:
    """[database_static]: static database credentials. Seconds."""

    enabled: bool = setting(a_boolean, True)
    mount: str = setting(a_mount, "")
    role_id: tuple[str, ...] = setting(several(a_name), ("db-demo-static",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 10.0)
    cache_time: float = setting(a_number(1, A_DAY), 300.0)
    max_stale: float = setting(a_number(0, 365 * A_DAY), 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here roles."""
        return self.role_id


class DynamicEngine(SecretEngine[DatabaseDynamicSettings]):
    """Dynamic credentials: a user for each reader, replaced or renewed when the lease has little left (D1).

    A lease belongs to the token that it was issued under, and dies with it (D2, T8).
    """

    section = "database_dynamic"
    mount_suffix = "database"
    title, short_title, icon = "Database Dynamic", "dynamic", "🗄️"
    feature = "Database Dynamic Secret Engine (TTL-based renewal)"
    _left_behind = 0
    """So many leases could not be given back."""

    def start_anew(self) -> None:
        super().start_anew()
        self._renews = self.settings.on_expiry == RENEW

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        if cached is None or not self._can_be_renewed(cached):
            return self._issue(name, cached)
        outcome = self._renewal(cached)
        if isinstance(outcome, Cached) and self._is_good(outcome):
            self._announcer.post(LeaseRenewed(outcome.secret, last=not outcome.renewable))
            return outcome
        issued = self._issue(name, cached)
        if isinstance(outcome, PermissionDenied):  # only now: where all is forbidden, the trouble may pass
            self._rotate_from_now_on(outcome)
        return issued

    def _issue(self, name: str, cached: Cached | None) -> Cached:
        with role_must_exist(self.mount, name):
            answer = self._ask(
                lambda api: api.secrets.database.generate_credentials(name, mount_point=self.mount),
                for_lease_of=UNKNOWN if cached is None else cached.lease,
            )
        with leased(answer.body):
            lease, lease_id = expect(answer.body, "lease_duration", int), expect(answer.body, "lease_id", str)
            data = expect(answer.body, "data", dict)
        renewable = answer.body.get("renewable") is True
        return self._under_lease(self.secret(name, data, lease_id=lease_id), answer, lease, lease, renewable=renewable)

    def _under_lease(self, secret: Secret, answer: Answer, granted: float, full: float, *, renewable: bool) -> Cached:
        """What is kept under a lease: granted for so many seconds now, and for the full ones when it was issued."""
        ends = answer.asked.after(granted)
        due = ends.after(-min(self.settings.ttl_threshold, full * LEASE_SHARE_LEFT))
        cached = self.cached(replace(secret, expires=ends), answer, due=due, until=ends)
        return replace(cached, lease=full, renewable=renewable)

    # ── Renewal ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _can_be_renewed(self, cached: Cached) -> bool:
        return self._renews and cached.renewable and not cached.usable_until.has_come(self._clock)

    def _renewal(self, cached: Cached) -> Cached | Refused:
        """What Vault said to a renewal. Raises: NoAnswer; the credentials serve on then, to the end of their lease."""
        try:
            return self._renew(cached)
        except Refused as refused:
            return copy.copy(refused)
        except NoAnswer as error:
            error.lease_id = ""  # of the lease that serves on: nothing was issued that could be given back
            raise

    def _renew(self, cached: Cached) -> Cached:
        """The same secret for longer; for the last time where Vault grants clearly less: max TTL is near, as in T4."""
        secret, full = cached.secret, cached.lease
        renewal = {"lease_id": secret.lease_id, "increment": round(full)}
        # A request that hangs must leave time for another one before the lease ends.
        timeout = max(SHORTEST_TIMEOUT_SECONDS, cached.usable_until.left(self._clock) / 2)
        answer = self._ask(
            lambda api: api.adapter.put("/v1/sys/leases/renew", json=renewal, timeout=timeout), for_lease_of=full
        )
        granted = expect(answer.body, "lease_duration", int)
        is_full = granted >= full * LEAST_SHARE_GRANTED
        renewed = self._under_lease(secret.confirmed(), answer, granted, full, renewable=is_full)
        return replace(renewed, read=cached.read, token_generation=cached.token_generation)

    def _is_good(self, renewed: Cached) -> bool:
        """Whether it serves for a while: for want of a good token (D2) there may have been a login meanwhile (T8)."""
        return renewed.token_generation == self._token_generation and not renewed.fresh_until.has_come(self._clock)

    def _rotate_from_now_on(self, error: PermissionDenied) -> None:
        with self._lock:
            renewed_until_now, self._renews = self._renews, False
        if renewed_until_now:
            self._announcer.post(NoLeaseRenewal(error))

    # ── What is of no use, and another token ─────────────────────────────────────────────────────────────────────────

    def _fetch(self, name: str) -> Cached:
        try:
            return super()._fetch(name)
        except NoAnswer as error:
            if error.lease_id:
                self._give_back(name, error)
            raise

    def _give_back(self, name: str, error: NoAnswer) -> None:
        """D3: nobody here can use what was issued."""
        try:
            self._ask(lambda api: api.sys.revoke_lease(error.lease_id))
            given_back = True
        except VaultError:
            given_back = False
            self._left_behind += 1
        self._announcer.post(LeaseUnusable(self.section, name, copy.copy(error), given_back, self._left_behind))

    def _under_current_token(self, cached: Cached) -> Cached:
        if cached.token_generation == self._token_generation:
            return replace(cached, token_ends=self._token_ends)
        # Issued under the token before: due at once, and good for draining until that token ends.
        token_ends = cached.token_ends.or_earlier(self._last_token_ended)
        return replace(cached, due=LONG_AGO, token_ends=token_ends, renewable=False)

    @staticmethod
    def words_of_change(previous: Secret, secret: Secret) -> str:
        return "credentials replaced: a new user with a lease of its own"


class StaticEngine(SecretEngine[DatabaseStaticSettings]):
    """Static credentials: a lasting user whose password Vault rotates; cached by time, never past a rotation (S1).

    What it is after that only Vault knows. If there is no answer then, the last password serves on for `max_stale`.
    """

    section = "database_static"
    mount_suffix = "database"
    title, short_title, icon = "Database Static", "static", "🔒"
    feature = "Database Static Secret Engine (time-based caching)"
    refusal_seconds = 0.5  # to ask costs no lease, and a password may rotate twice in a moment

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        with role_must_exist(self.mount, name):
            answer = self._ask(lambda api: api.secrets.database.get_static_credentials(name, mount_point=self.mount))
        data = expect(answer.body, "data", dict)
        ttl, last_rotation = expect(data, "ttl", int), expect(data, "last_vault_rotation", str)
        rotates = answer.asked.after(ttl)
        secret = self.secret(name, login_of(data), last_rotation=last_rotation, expires=rotates)
        if cached is not None and self._rotation_is_overdue(cached.secret, secret):
            # The new `ttl` is not believed until the password has changed.
            return self._good_for_a_moment(replace(secret, expires=cached.secret.expires), answer)
        if ttl <= 0:
            return self._good_for_a_moment(secret, answer)
        due = answer.asked.after(self.settings.cache_time).or_earlier(rotates)
        return self.cached(secret, answer, due=due, until=rotates.after(self.settings.max_stale))

    def _good_for_a_moment(self, secret: Secret, answer: Answer) -> Cached:
        """The password is about to change: to be asked for again soon."""
        soon = Moment.now(self._clock).after(ASK_AGAIN_SECONDS)
        return self.cached(secret, answer, due=soon, until=soon.after(self.settings.max_stale))

    def _rotation_is_overdue(self, old: Secret, new: Secret) -> bool:
        """Whether the password should have changed by now and has not, whatever the new `ttl` says."""
        due = old.expires is not None and old.expires.has_come(self._clock)
        return due and old.last_rotation == new.last_rotation

    @staticmethod
    def words_of_change(previous: Secret, secret: Secret) -> str:
        return "password rotated"


def login_of(data: dict[str, Any]) -> dict[str, str]:
    """Who to log in as, and with what: a role may have a key pair instead of a password."""
    secret = next((key for key in ("password", "rsa_private_key") if key in data), "password")
    return {key: expect(data, key, str) for key in ("username", secret)}


@contextmanager
def leased(body: dict[str, Any]) -> Iterator[None]:
    """Let an error tell of the lease that this answer came with, for it to be given back (D3)."""
    try:
        yield
    except UnexpectedResponse as error:
        error.lease_id = str(body.get("lease_id") or "")
        raise


@contextmanager
def role_must_exist(mount: str, name: str) -> Iterator[None]:
    """Tell a role that is not there, which Vault reports as a bad request, from other bad requests."""
    try:
        yield
    except RequestRejected as rejected:
        if "unknown role" not in str(rejected):
            raise
        raise SecretNotFound(f'there is no role "{printable(name)}" at {mount}') from rejected
