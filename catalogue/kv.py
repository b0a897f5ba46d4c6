"""KV v2 for the rotation and the drift: read with the version, written with check-and-set alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import hvac

from vaultkit.errors import PermissionDenied, RequestRejected, SecretDeleted, SecretNotFound
from vaultkit.transport.answers import expect

Ask = Callable[[Callable[[hvac.Client], Any]], Any]
"""A client's `ask`."""
MISMATCH = "check-and-set parameter did not match"
MERGE = {"Content-Type": "application/merge-patch+json"}
"""What is not named stays as it is."""


class Overtaken(Exception):
    """Somebody else has written in between."""


@dataclass(frozen=True)
class Version:
    """The values, and which version these are. 0 and none, if nothing was ever written."""

    number: int
    values: dict[str, Any] = field(repr=False)


class Kv:
    """One mount. Raises the errors of `vaultkit.errors`."""

    def __init__(self, ask: Ask, mount: str) -> None:
        self._ask, self.mount = ask, mount

    def read(self, path: str) -> Version:
        """What is there now; a secret that was deleted has its number and no values."""
        try:
            answer = self._ask(lambda api: api.read(f"{self.mount}/data/{path}"))
        except SecretDeleted:
            return Version(int(self.about(path)["current_version"]), {})
        except SecretNotFound:
            return Version(0, {})
        data = expect(answer or {}, "data", dict)
        return Version(int(expect(data, "metadata", dict)["version"]), expect(data, "data", dict))

    def write(self, path: str, values: Mapping[str, Any], over: int) -> int:
        """A new version over that one. Returns its number. Raises: Overtaken."""
        body = {"data": dict(values), "options": {"cas": over}}
        try:
            answer = self._ask(lambda api: api.write_data(f"{self.mount}/data/{path}", data=body))
        except RequestRejected as error:
            if MISMATCH in str(error):
                raise Overtaken(f"{self.mount}/{path} was written by somebody else") from None
            raise
        return int(expect(answer, "data", dict)["version"])

    def about(self, path: str) -> dict[str, Any]:
        """What is known of a secret: versions, and custom_metadata."""
        answer = self._ask(lambda api: api.read(f"{self.mount}/metadata/{path}"))
        return expect(answer or {}, "data", dict)

    def note(self, path: str, about: Mapping[str, str]) -> None:
        """Add to the custom metadata."""
        url, body = f"/v1/{self.mount}/metadata/{path}", {"custom_metadata": dict(about)}
        self._ask(lambda api: api.adapter.request("patch", url, headers=MERGE, json=body))

    def known_below(self, folder: str) -> dict[str, dict[str, Any]]:
        """What is known of all secrets of a folder, by path: in one request (OpenBao's SCAN), or with one for each."""
        try:
            url = f"/v1/{self.mount}/detailed-metadata/{folder}"
            answer = self._ask(lambda api: api.adapter.request("scan", url))
        except SecretNotFound:
            return {}
        except (RequestRejected, PermissionDenied):
            paths = self._listed(folder)
            return {path: self.about(path) for path in paths}
        found = expect(expect(answer, "data", dict), "key_info", dict)
        return {f"{folder}/{path}": about for path, about in found.items()}

    def _listed(self, folder: str) -> list[str]:
        try:
            answer = self._ask(lambda api: api.list(f"{self.mount}/metadata/{folder}"))
        except SecretNotFound:
            return []
        paths: list[str] = []
        for key in expect(expect(answer, "data", dict), "keys", list):
            path = f"{folder}/{key}".rstrip("/")
            paths += self._listed(path) if key.endswith("/") else [path]
        return paths
