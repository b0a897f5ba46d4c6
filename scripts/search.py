"""Looks for what of a scope is alive on the server: tokens, secret_ids and leases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import hvac

from scripts.operating import keys_at, keys_below
from scripts.scopes import Scope
from vaultkit.errors import ConfigurationError, Refused
from vaultkit.transport.answers import printable


@dataclass(frozen=True)
class Token:
    """A token that is to be revoked; what names it on the screen is what the audit log has for its accessor."""

    accessor: str = field(repr=False)
    name: str


@dataclass(frozen=True)
class Found:
    """What of a scope is alive."""

    tokens: tuple[Token, ...]
    secret_ids: tuple[tuple[str, str], ...] = field(repr=False)
    """The path of the AppRole, and the accessor."""
    leases: tuple[str, ...]

    def __str__(self) -> str:
        counts = {"tokens": self.tokens, "secret_ids": self.secret_ids, "leases": self.leases}
        return ", ".join(f"{len(each)} {what}" for what, each in counts.items())


class Search:
    """Looks for what is alive."""

    def __init__(self, api: hvac.Client, scope: Scope) -> None:
        self._api, self._scope = api, scope
        self._own = api.auth.token.lookup_self()["data"]
        self._device = next(iter(sorted(api.read("sys/audit")["data"])), "")
        self.check_who_asks()

    def check_who_asks(self) -> None:
        """Raises: ConfigurationError, for a token that would lock itself out half-way."""
        if self._own.get("entity_id") in self._scope.entities:
            raise ConfigurationError(["VAULT_TOKEN belongs to an entity that is to be locked out; use another one"])
        if not self._own["orphan"]:
            raise ConfigurationError(
                ["VAULT_TOKEN ends when its parent does, which may be revoked; log in anew for one"]
            )

    def find(self) -> Found:
        return Found(tuple(self._tokens()), tuple(self._secret_ids()), tuple(self._leases()))

    def _tokens(self) -> Iterator[Token]:
        for accessor in keys_at(self._api, "auth/token/accessors"):
            about = self._about(accessor)
            if about and accessor != self._own["accessor"] and self._scope.holds(about):
                yield Token(accessor, self._name(accessor, about))

    def _about(self, accessor: str) -> Mapping[str, Any]:
        """What Vault knows of a token; nothing of one that is gone by now. Raises: what the request raises."""
        try:
            answer = self._api.write_data("auth/token/lookup-accessor", data={"accessor": accessor})
        except Refused as refused:
            if "invalid accessor" in str(refused):
                return {}
            raise
        data: Mapping[str, Any] = answer["data"]
        return data

    def _name(self, accessor: str, about: Mapping[str, Any]) -> str:
        issued = str(about.get("issue_time", "")).partition(".")[0]
        return printable(f"token {self._hash(accessor)} of {about['path']}, {about['display_name']}, issued {issued}")

    def _hash(self, accessor: str) -> str:
        if not self._device:
            return "(no audit device)"
        path = f"sys/audit-hash/{self._device.strip('/')}"
        return str(self._api.write_data(path, data={"input": accessor})["data"]["hash"])

    def _secret_ids(self) -> Iterator[tuple[str, str]]:
        for role in self._scope.approles:
            for accessor in keys_at(self._api, f"{role}/secret-id"):
                yield role, accessor

    def _leases(self) -> Iterator[str]:
        prefix = "sys/leases/lookup/"
        for below in self._scope.leases:
            for path in keys_below(self._api, prefix + below):
                lease = path.removeprefix(prefix)
                if not lease.startswith("auth/"):  # of tokens, which are found by their accessors
                    yield lease
