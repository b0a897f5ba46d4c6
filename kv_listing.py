"""The versions of KV secrets: of one by its metadata, and of all below a prefix such as `team/*` by a listing (K5).

OpenBao tells them all in one answer, to a SCAN. A Vault does not know that request: it lists the names, folder by
folder, and each secret is then asked for its own version.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from hvac.utils import format_url

from config_loader import KvSettings
from lifetime import Clock, Moment
from secret_cache import Asker, is_path
from vault_errors import PermissionDenied, RequestRejected, ResponseTooLarge, SecretNotFound, UnexpectedResponse
from vault_events import Announcer, NoScan
from vault_http import checked

NO_SCAN = (PermissionDenied, RequestRejected, SecretNotFound, ResponseTooLarge, UnexpectedResponse)
"""The errors that leave hope for the other way to learn what is below a prefix."""
DEEPEST_FOLDER = 100


class Version(NamedTuple):
    """One version of a KV secret, told from all others.

    The creation time counts too: a secret deleted with its metadata and written anew starts again at version 1 (K1).
    """

    number: int | None
    created_time: str | None


UNKNOWN_VERSION = Version(None, None)
"""Of a secret that must be asked for itself."""


def current_version(metadata: dict[str, Any], now: float) -> Version | None:
    """The version whose values a read gives, by a secret's metadata; None if it is deleted or destroyed.

    Raises: UnexpectedResponse, if these are no metadata.
    """
    number = checked(metadata, "current_version", int)
    facts = checked(metadata, "versions", dict).get(str(number))
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

    def __init__(self, vault: Asker, mount: str, settings: KvSettings, clock: Clock, announcer: Announcer) -> None:
        self._vault = vault
        self._mount = mount
        self._settings = settings
        self._clock = clock
        self._announcer = announcer
        self._scan_failed: dict[str, Moment] = {}

    def ask(self, prefix: str) -> Listing:
        """Raises: an error of `vault_errors`."""
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
        url = format_url("/v1/{mount}/detailed-metadata/{folder}", mount=self._mount, folder=folder)
        answer = self._vault.ask(lambda vault: vault.adapter.request("scan", url))
        data = checked(answer.body, "data", dict)
        found = checked(data, "key_info", dict) if data else {}
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
            answer = self._vault.ask(lambda vault: vault.secrets.kv.v2.list_secrets(folder, mount_point=self._mount))
        except SecretNotFound:
            return []  # a folder goes with the last secret in it
        keys = checked(checked(answer.body, "data", dict), "keys", list)
        return [key for key in keys if isinstance(key, str) and is_path(key.removesuffix("/"))]


def listed_version(metadata: object, now: float) -> Version | None:
    """`current_version`, where one odd entry is no reason to do without all others."""
    if not isinstance(metadata, dict):
        return UNKNOWN_VERSION
    try:
        return current_version(metadata, now)
    except UnexpectedResponse:
        return UNKNOWN_VERSION
