"""A token that was handed to us: by value, in a file, or as VAULT_TOKEN.

It is looked up, and renewed while it can be. It is not ours to revoke, and its end is ours to announce: from 4/5 of its
life on, another one is asked for, and followed where it comes by a file. With a token role it only creates a token,
which is ours: of this role, with its policies, and revoked at the end.
https://developer.hashicorp.com/vault/api-docs/auth/token
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import LoginUnavailable, Refused
from ..settings import a_name, a_text, or_nothing, setting
from ..transport.answers import expect
from ..transport.connection import ConnectionSettings
from .grant import usable_as_token
from .method import LoginMethod, digest
from .sources import file_problem, from_file

if TYPE_CHECKING:
    import hvac

TOLD_AGAIN_SECONDS = 300.0
LOOKS_AHEAD = 10
"""How often another token is looked for in the time that is left."""


@dataclass(frozen=True, kw_only=True)
class TokenAuthSettings:
    """[token_auth]: the token that was handed to us, and perhaps the token role that it may create tokens of."""

    token: str = setting(a_text, "", secret=True, also={"VAULT_TOKEN": a_text})
    token_file: str = setting(a_text, "")
    role: str = setting(or_nothing(a_name), "")


class GivenToken(LoginMethod[TokenAuthSettings]):
    """No login: the token is there."""

    section = "token_auth"
    settings_type = TokenAuthSettings

    def __init__(self, settings: TokenAuthSettings, connection: ConnectionSettings) -> None:
        super().__init__(settings, connection)
        self.token_is_ours = bool(settings.role)
        self._in_use = ""
        """The fingerprint of the token that is in use: nothing is gained by handing out the same one again."""

    @classmethod
    def problems(cls, settings: TokenAuthSettings, connection: Mapping[str, Any]) -> list[str]:
        problems = file_problem(settings.token_file, "[token_auth] token_file")
        ways = [way for way in ("token", "token_file") if getattr(settings, way)]
        if len(ways) != 1:
            found = " and ".join(ways) or "neither"
            problems.append(f"[token_auth] token, token_file: found {found}, expected one; VAULT_TOKEN is token")
        return problems

    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        api.token = usable_as_token(self._token(), "no usable token was handed over")
        if self.settings.role:
            return self._created(api)
        return self._renewed(api)

    def hints(self, refusal: Refused) -> list[str]:
        role = self.settings.role
        needed = f"update on auth/token/create/{role}" if role else "read on auth/token/lookup-self"
        return [f"is the token that was handed to us right, still alive, and does a policy of it grant {needed}?"]

    def fingerprint(self) -> str:
        return "" if self._settings is None else digest(self._settings.role, self._token())

    def forget(self) -> None:
        super().forget()
        self.lost()

    def lost(self) -> None:
        self._in_use = ""

    def _token(self) -> str:
        settings = self.settings
        return from_file(settings.token_file, "[token_auth] token_file") if settings.token_file else settings.token

    def _created(self, api: hvac.Client) -> dict[str, Any]:
        with suppress(Refused):  # one that cannot be renewed may still create others
            api.auth.token.renew_self()
        answer: dict[str, Any] = api.auth.token.create(role_name=self.settings.role)
        return answer

    def _renewed(self, api: hvac.Client) -> dict[str, Any]:
        """The token as a login would grant it. Raises: LoginUnavailable, if it is the one that is in use already."""
        found = expect(api.auth.token.lookup_self(), "data", dict)
        ttl, handed_over = expect(found, "ttl", int), self.fingerprint()
        never_ends = ttl == 0 and found.get("expire_time") is None
        if handed_over == self._in_use or (ttl == 0 and not never_ends):
            raise in_use(ttl, never_ends=never_ends)
        answer = {"auth": {**found, "client_token": api.token, "lease_duration": ttl, "renewable": False}}
        if found.get("renewable") is True:
            with suppress(Refused):  # by a policy: then it serves until it ends
                # Only a renewal tells how long a renewal is good for.
                answer = api.auth.token.renew_self()
        self._in_use = handed_over
        return answer


def in_use(ttl: int, *, never_ends: bool) -> LoginUnavailable:
    """What there is to say instead of a login: the end is announced, the more often the nearer it is."""
    ends = "does not end" if never_ends else f"ends in {ttl} s: hand over another"
    error = LoginUnavailable(f"the token that was handed to us is in use already, and {ends}")
    error.retry_after = min(TOLD_AGAIN_SECONDS, ttl / LOOKS_AHEAD)
    return error
