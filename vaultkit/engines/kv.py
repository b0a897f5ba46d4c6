"""KV v2, cached by version: a refresh asks for the version alone, and reads the values when it has moved (K1 to K4).

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ..errors import PermissionDenied, ResponseTooLarge, VaultError
from ..events import NoVersionQuery
from ..lifetime import Moment
from ..secret import Secret
from ..settings import A_DAY, a_boolean, a_mount, a_number, a_path_or_prefix, setting, several
from ..transport.answers import Answer, expect
from .cache import Cached, SecretEngine


@dataclass(frozen=True, kw_only=True)
class KvSettings:
    """[kv_secret]: the KV v2 engine. Seconds."""

    enabled: bool = setting(a_boolean, True)
    mount: str = setting(a_mount, "")
    path: tuple[str, ...] = setting(several(a_path_or_prefix), ("database",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 5.0)
    full_read_interval: float = setting(a_number(1, A_DAY), 300.0)
    max_stale: float = setting(a_number(0, 365 * A_DAY), 3600.0)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here paths, and prefixes such as team/*."""
        return self.path


class KvEngine(SecretEngine[KvSettings]):
    """KV v2, cached by version."""

    section = "kv_secret"
    mount_suffix = "kv"
    title, short_title, icon = "KV", "KV", "📦"
    feature = "KV v2 Secret Engine (version-based caching)"

    def start_anew(self) -> None:
        super().start_anew()
        self._without_metadata: set[str] = set()

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        if cached is None or name in self._without_metadata or self._full_read_is_due(cached):
            return self._read(name, cached)
        mount, path = self.place_of(name)
        try:
            answer = self._ask(lambda api: api.secrets.kv.v2.read_secret_metadata(path, mount_point=mount))
        except (PermissionDenied, ResponseTooLarge) as error:  # too large: with dozens of versions kept
            return self._read_without_metadata(name, cached, error)
        if current_version(expect(answer.body, "data", dict), self._clock.time()) != version_of(cached.secret):
            return self._read(name, cached)
        return self._good_for_now(cached.secret.confirmed(), answer, read=cached.read)

    def _full_read_is_due(self, cached: Cached) -> bool:
        return cached.read.age(self._clock) >= self.settings.full_read_interval

    def place_of(self, name: str) -> tuple[str, str]:
        """The mount that a secret is in, and its path there."""
        return self.mount, name

    def _read(self, name: str, cached: Cached | None) -> Cached:
        mount, path = self.place_of(name)
        answer = self._ask(
            lambda api: api.secrets.kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
        )
        body = expect(answer.body, "data", dict)
        metadata = expect(body, "metadata", dict)
        version, created_time = expect(metadata, "version", int), expect(metadata, "created_time", str)
        secret = self.secret(name, values_of(body), version=version, created_time=created_time)
        if cached is not None and secret.says_the_same_as(cached.secret):
            secret = cached.secret.confirmed()
        return self._good_for_now(secret, answer, read=answer.asked)

    def _read_without_metadata(self, name: str, cached: Cached, error: VaultError) -> Cached:
        """K2: the version may not be asked for, so the values are read each time."""
        values = self._read(name, cached)
        # Only now: where the values cannot be read either, the trouble may pass.
        if not self._without_metadata:
            self._announcer.post(NoVersionQuery(copy.copy(error)))
        self._without_metadata.add(name)
        return values

    def _good_for_now(self, secret: Secret, answer: Answer, *, read: Moment) -> Cached:
        due = answer.asked.after(self.settings.refresh_interval)
        return self.cached(secret, answer, due=due, until=self._until(answer.asked), read=read)

    def _until(self, asked: Moment) -> Moment:
        """How long a value may be served without an answer (K4)."""
        return asked.after(max(self.settings.max_stale, self.settings.refresh_interval))

    @staticmethod
    def words_of_change(previous: Secret, secret: Secret) -> str:
        return f"secret changed: version {previous.version} → {secret.version}"


class Version(NamedTuple):
    """One version of a KV secret, told from all others.

    The creation time counts too: a secret deleted with its metadata and written anew starts again at version 1 (K1).
    """

    number: int | None
    created_time: str | None


UNKNOWN_VERSION = Version(None, None)
"""Of a secret that must be asked for itself."""


def version_of(secret: Secret) -> Version:
    return Version(secret.version, secret.created_time)


def current_version(metadata: dict[str, Any], now: float) -> Version | None:
    """The version whose values a read gives, by a secret's metadata; None if it is deleted or destroyed.

    Raises: UnexpectedResponse, if these are no metadata.
    """
    number = expect(metadata, "current_version", int)
    facts = expect(metadata, "versions", dict).get(str(number))
    if not isinstance(facts, dict) or facts.get("destroyed") is not False:
        return None
    try:
        gone = is_past(facts.get("deletion_time"), now)
    except ValueError:
        return UNKNOWN_VERSION
    return None if gone else Version(number, facts.get("created_time"))


def is_past(deletion_time: object, now: float) -> bool:
    """A deletion_time is empty, past, or (with delete_version_after) still to come. Raises: ValueError."""
    if deletion_time == "":
        return False
    at = datetime.strptime(str(deletion_time)[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return at.timestamp() <= now


def values_of(body: dict[str, Any]) -> dict[str, Any]:
    """The values in an answer. {"data": null} was written so, and is an empty secret."""
    return {} if "data" in body and body["data"] is None else expect(body, "data", dict)
