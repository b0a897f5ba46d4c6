"""The three caching strategies: KV v2 by version, dynamic database credentials by TTL, static ones by time.

Each is a `SecretEngine`, which keeps the cache; here stands how Vault is asked, and how long its answer is good.
Another engine is another small class like these.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, NamedTuple

from hvac.utils import format_url

from config_loader import DatabaseDynamicSettings, DatabaseStaticSettings, KvSettings, is_prefix
from lifetime import LONG_AGO, Moment
from secret_cache import ASK_AGAIN_SECONDS, Answer, Cached, SecretEngine
from vault_errors import (
    PermissionDenied,
    RequestRejected,
    ResponseTooLarge,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultOverloaded,
    VaultSealed,
    VaultStandby,
    VaultTimeout,
    VaultUnreachable,
)
from vault_events import NoScan, NoVersionQuery
from vault_http import checked, printable
from vault_secret import Secret

VAULT_IS_AWAY = (VaultUnreachable, VaultTimeout, VaultSealed, VaultStandby, VaultOverloaded)
"""The errors that the next secret would meet, too; a bare VaultUnavailable may concern one secret alone."""
DEEPEST_FOLDER = 100
LEASE_SHARE_LEFT = 1 / 5
UNKNOWN = math.inf
"""The length of a lease before the first one was granted: only a token with most of its life ahead is good for it."""


class Version(NamedTuple):
    """One version of a KV secret, told from all others.

    The creation time counts too: a secret deleted with its metadata and written anew starts again at version 1 (K1).
    """

    number: int | None
    created_time: str | None


UNKNOWN_VERSION = Version(None, None)
"""Of a secret whose name alone is known."""


class KvEngine(SecretEngine[KvSettings]):
    """KV v2, cached by version: a refresh asks for the version alone, and reads the values when it has moved (K1).

    Of a prefix such as `team/*` a list is cached, which tells the version of every secret below it. One request brings
    it up to date, and with it all that it confirms (K5). What is below a prefix is asked for alone when the list is out
    of date, so that nobody who wants one secret waits for the list of all.
    """

    section = "kv_secret"
    mount_suffix = "kv"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._without_metadata: set[str] = set()
        self._scans = True

    def get_below(self, prefix: str) -> dict[str, Secret]:
        """All secrets below a prefix, by path. Raises: an error of `vault_errors`, the first that is met."""
        if not is_prefix(prefix):
            raise SecretNotFound(f'"{printable(prefix)}" is no prefix: it does not end with /*')
        secrets = {}
        for outcome in self._read_below(self.get(prefix)):
            if isinstance(outcome, VaultError):
                raise outcome
            secrets[outcome.name] = outcome
        return secrets

    def read_all(self) -> Iterator[Secret | VaultError]:
        """Everything that config.ini names, a prefix as all that is below it."""
        for outcome in super().read_all():
            if isinstance(outcome, Secret) and is_prefix(outcome.name):
                yield from self._read_below(outcome)
            else:
                yield outcome

    def _read_below(self, versions: Secret) -> Iterator[Secret | VaultError]:
        for name, version in versions.data.items():
            cached = self._cache.get(name)
            if cached is not None and not versions.stale and self._is_confirmed(cached, version):
                yield cached.secret
                continue
            self._outcome(versions.name)  # reading thousands takes longer than the list of their versions stays fresh
            outcome = self._outcome(name)
            if not isinstance(outcome, SecretNotFound):  # it went, meanwhile
                yield outcome
            if isinstance(outcome, VAULT_IS_AWAY):
                return  # one failure, rather than one for each name (C2)

    def _is_confirmed(self, cached: Cached, version: Version) -> bool:
        """Whether nothing is to be done for this secret: ten thousand are looked at in each turn."""
        secret = cached.secret
        return (secret.version, secret.created_time) == version and not (secret.stale or self._full_read_is_due(cached))

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        if is_prefix(name):
            return self._read_versions(name, cached)
        if cached is None:
            return self._read_values(name, cached)
        versions = self._versions_above(name)
        if versions is not None and versions.secret.stale:
            return self._as_stale(cached, versions)
        if self._full_read_is_due(cached):
            return self._read_values(name, cached)
        current = UNKNOWN_VERSION if versions is None else versions.secret.data.get(name)
        if versions is None or current is UNKNOWN_VERSION:
            return self._ask_for_version(name, cached)
        if current != version_of(cached.secret):
            return self._read_values(name, cached)
        return replace(cached, secret=cached.secret.confirmed(), due=versions.due, expires=versions.expires)

    def _full_read_is_due(self, cached: Cached) -> bool:
        return cached.read.age(self._clock) >= self.settings.full_read_interval

    # ── One secret ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask_for_version(self, name: str, cached: Cached) -> Cached:
        if name in self._without_metadata:
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
        if current_version(checked(answer.body, "data", dict), self._clock.time()) != version_of(cached.secret):
            return self._read_values(name, cached)
        return self._cached(cached.secret.confirmed(), answer, read=cached.read)

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
        versions = self._versions_above(name)
        if versions is None:
            return self._cached(secret_or_same(secret, cached), answer, read=answer.asked)
        # Those below a prefix are due with it. Read one after the other at first, they are not so again at one time.
        spread = 0.0 if cached else random.uniform(0, self.settings.full_read_interval)
        found = self._cached(secret_or_same(secret, cached), answer, read=answer.asked.after(-spread))
        return replace(found, due=found.due.or_earlier(versions.due))

    def _cached(self, secret: Secret, answer: Answer, *, read: Moment) -> Cached:
        return Cached(
            secret,
            due=answer.asked.after(self.settings.refresh_interval),
            expires=answer.asked.after(max(self.settings.max_stale, self.settings.refresh_interval)),
            read=read,
            token_generation=answer.token_generation,
        )

    # ── All secrets below a prefix ───────────────────────────────────────────────────────────────────────────────────

    def _versions_above(self, name: str) -> Cached | None:
        """The list of versions that speaks of this secret, if one is up to date or about to be."""
        parts = name.split("/")
        for depth in range(len(parts)):
            prefix = "/".join([*parts[:depth], "*"])
            versions = self._usable(prefix)
            if versions and (not versions.fresh_until.has_come(self._clock) or self._flight(prefix).lock.locked()):
                return versions
        return None

    def _as_stale(self, cached: Cached, versions: Cached) -> Cached:
        """`cached` while the list of versions gets no answer: nobody asks for each secret then (C2, K4)."""
        confirmed = versions.secret.data.get(cached.secret.name) == version_of(cached.secret)
        expires = versions.expires if confirmed else cached.expires
        return replace(cached, secret=replace(cached.secret, stale=True), due=versions.due, expires=expires)

    def _read_versions(self, prefix: str, cached: Cached | None) -> Cached:
        folder = prefix.removesuffix("*")
        answer, versions = self._ask_for_versions(folder)
        self._forget_missing(folder, versions)
        if not versions:
            raise SecretNotFound(f"there is nothing below {self.mount}/{folder}")
        listed = Secret(engine=self.section, name=prefix, data=MappingProxyType(versions))
        return self._cached(secret_or_same(listed, cached), answer, read=answer.asked)

    def _ask_for_versions(self, folder: str) -> tuple[Answer, dict[str, Version]]:
        if not self._scans:
            return self._list(folder)
        try:
            return self._scan(folder)
        except (PermissionDenied, RequestRejected, SecretNotFound) as error:
            names = self._list(folder)
            self._scans = False  # only now: where the names cannot be listed either, the trouble may pass
            self._announcer.post(NoScan(copy.copy(error)))
            return names

    def _scan(self, folder: str) -> tuple[Answer, dict[str, Version]]:
        """All versions in one request, which OpenBao answers and Vault does not.

        https://openbao.org/api-docs/secret/kv/kv-v2/
        """
        url = format_url("/v1/{mount}/detailed-metadata/{folder}", mount=self.mount, folder=folder)
        answer = self._vault.ask(lambda vault: vault.adapter.request("scan", url))
        data = checked(answer.body, "data", dict)
        found = checked(data, "key_info", dict) if data else {}
        now = self._clock.time()
        versions = {folder + key: current_version(metadata, now) for key, metadata in found.items()}
        return answer, {name: version for name, version in versions.items() if version is not None}

    def _list(self, folder: str) -> tuple[Answer, dict[str, Version]]:
        """All names, a request for each folder: from there on each secret is asked for its own version."""
        if folder.count("/") > DEEPEST_FOLDER:
            raise UnexpectedResponse(f"the folders below {self.mount} seem to have no end")
        answer = self._vault.ask(lambda vault: vault.secrets.kv.v2.list_secrets(folder, mount_point=self.mount))
        names: dict[str, Version] = {}
        for key in checked(checked(answer.body, "data", dict), "keys", list):
            path = f"{folder}{key}"
            names.update(self._list(path)[1] if path.endswith("/") else {path: UNKNOWN_VERSION})
        return answer, names

    def _forget_missing(self, folder: str, versions: Mapping[str, Version]) -> None:
        """Drop what is no longer below the prefix (K3)."""
        with self._lock:
            below = [name for name in self._cache if name.startswith(folder) and not is_prefix(name)]
            for name in below:
                if name not in versions:
                    del self._cache[name]


def version_of(secret: Secret) -> Version:
    return Version(secret.version, secret.created_time)


def secret_or_same(secret: Secret, cached: Cached | None) -> Secret:
    """The cached object, if it says the same: who compares objects then sees no change."""
    if cached is not None and secret.says_the_same_as(cached.secret):
        return cached.secret.confirmed()
    return secret


def current_version(metadata: dict[str, Any], now: float) -> Version | None:
    """The version of which a read would give the values, by a secret's metadata; None if it is gone."""
    number = checked(metadata, "current_version", int)
    facts = checked(metadata, "versions", dict).get(str(number))
    if not isinstance(facts, dict) or facts.get("destroyed") is not False or is_past(facts.get("deletion_time"), now):
        return None
    return Version(number, facts.get("created_time"))


def is_past(deletion_time: object, now: float) -> bool:
    """A deletion_time is empty, past, or (with delete_version_after) still to come."""
    if deletion_time == "":
        return False
    try:
        at = datetime.strptime(str(deletion_time)[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return True  # reading the values will tell
    return at.timestamp() <= now


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
