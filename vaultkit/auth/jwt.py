"""JWT: a token that somebody signed whom Vault trusts: a cloud, a CI system, SPIFFE, a Kubernetes cluster.

https://developer.hashicorp.com/vault/docs/auth/jwt

It comes from one of four sources: the settings (for what an environment variable is meant), a file, an address, or a
command. The last three may have a better one later, so that a JWT that has expired is not refused for good (T7).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import PermissionDenied, Refused
from ..settings import A_DAY, a_name, a_number, a_path, a_text, or_nothing, setting
from .method import LoginMethod, digest
from .sources import file_problem, from_address, from_command, from_file

if TYPE_CHECKING:
    import hvac

SOURCES = ("jwt", "jwt_file", "jwt_url", "jwt_command")
MAY_PASS = ("not yet valid", "in the future", "fetching keys", "could not load configuration")
"""What Vault says where its clock is behind, and of a provider whose keys it cannot get."""
ANOTHER_MAY_FOLLOW = ("expired", "no known key", "failed to verify")
"""What Vault says of a JWT in whose place there may soon be a better one."""


def an_address_of_jwts(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or not value.isprintable()):
        raise ValueError("an address with http:// or https://")
    return value


def some_headers(value: str) -> str:
    """`Name: value`, several separated by commas."""
    if not all(name.strip() and text.strip() for name, _, text in _headers_in(value)):
        raise ValueError("headers such as Metadata-Flavor: Google; several are separated by commas")
    return value


def _headers_in(value: str) -> list[tuple[str, str, str]]:
    return [header.partition(":") for header in value.split(",")] if value else []


def a_command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"a command as a shell would read it ({error})") from None
    if value and not words:
        raise ValueError("a command")
    return value


@dataclass(frozen=True, kw_only=True)
class JwtAuthSettings:
    """[jwt_auth]: how to log in with a JWT, and where that comes from. Seconds."""

    mount: str = setting(a_path, "jwt")
    role: str = setting(or_nothing(a_name), "")
    jwt: str = setting(a_text, "", secret=True)
    jwt_file: str = setting(a_text, "")
    jwt_url: str = setting(an_address_of_jwts, "", secret=True)
    jwt_headers: str = setting(some_headers, "", secret=True)
    jwt_field: str = setting(a_text, "")
    jwt_command: str = setting(a_command, "")
    refused_limit: float = setting(a_number(0, A_DAY), 0.0)


class Jwt(LoginMethod[JwtAuthSettings]):
    """Logs in with a JWT."""

    section = "jwt_auth"
    settings_type = JwtAuthSettings

    @classmethod
    def problems(cls, settings: JwtAuthSettings, connection: Mapping[str, Any]) -> list[str]:
        problems = file_problem(settings.jwt_file, "[jwt_auth] jwt_file")
        sources = [source for source in SOURCES if getattr(settings, source)]
        if len(sources) != 1:
            found = " and ".join(sources) or "none of them"
            problems.append(f"[jwt_auth] {', '.join(SOURCES)}: found {found}, expected one")
        if not settings.role:
            problems.append("[jwt_auth] role: a value is required, the role of auth/jwt")
        return problems

    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        settings = self.settings
        answer: dict[str, Any] = api.auth.jwt.jwt_login(
            role=settings.role, jwt=self._jwt(), use_token=False, path=settings.mount
        )
        return answer

    def is_final(self, refusal: Refused) -> bool:
        passing = MAY_PASS if self.settings.jwt else MAY_PASS + ANOTHER_MAY_FOLLOW
        return not any(words in str(refusal) for words in passing)

    @property
    def patience(self) -> float:
        return self.settings.refused_limit or math.inf

    def hints(self, refusal: Refused) -> list[str]:
        settings = self.settings
        hints = [f"see vault read auth/{settings.mount}/role/{settings.role}: audience, subject, claims"]
        if isinstance(refusal, PermissionDenied):
            hints.append(f"Vault says the same when nothing is mounted at auth/{settings.mount}")
        return hints

    def fingerprint(self) -> str:
        """Of the JWT itself where a look at it costs nothing."""
        settings = self._settings
        if settings is None:
            return ""
        return digest(settings, settings.jwt, settings.jwt_url, self._jwt() if settings.jwt_file else "")

    def _jwt(self) -> str:
        settings = self.settings
        if settings.jwt_file:
            return from_file(settings.jwt_file, "[jwt_auth] jwt_file")
        if settings.jwt_command:
            return from_command(settings.jwt_command, "[jwt_auth] jwt_command")
        if settings.jwt_url:
            headers = {name.strip(): text.strip() for name, _, text in _headers_in(settings.jwt_headers)}
            return from_address(settings.jwt_url, headers, settings.jwt_field, "[jwt_auth] jwt_url")
        return settings.jwt.strip()
