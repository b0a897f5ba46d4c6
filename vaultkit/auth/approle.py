"""AppRole: a role_id, which says who we are, and a secret_id, which is the password to it.

https://developer.hashicorp.com/vault/docs/auth/approle

The secret_id is handed over by value, in a file that is read anew at each login, or wrapped: in a token that can be
unwrapped once. Who finds that it was unwrapped before knows that somebody else may have the secret_id.
https://developer.hashicorp.com/vault/docs/concepts/response-wrapping
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import LoginRefused, PermissionDenied, Refused
from ..settings import a_text, setting
from ..transport.answers import expect, printable
from ..transport.connection import ConnectionSettings
from .grant import usable_as_token
from .method import LoginMethod, digest
from .sources import file_problem, from_file

if TYPE_CHECKING:
    import hvac

WAYS = ("secret_id", "secret_id_file", "wrapped_secret_id", "wrapped_secret_id_file")
CREATION_PATH = re.compile(r"auth/approle/role/[^/]+/secret-id")
"""Where Vault wraps a secret_id. What somebody wraps by hand comes from sys/wrapping/wrap, and may be anything."""
ALARM = "an intruder may have the secret_id: destroy it, and find out who unwrapped it, before another is issued"


@dataclass(frozen=True, kw_only=True)
class AppRoleSettings:
    """Of [vault]: what AppRole needs: a role_id, and one of four ways to a secret_id."""

    role_id: str = setting(a_text, "")
    secret_id: str = setting(a_text, "", secret=True)
    secret_id_file: str = setting(a_text, "")
    wrapped_secret_id: str = setting(a_text, "", secret=True)
    wrapped_secret_id_file: str = setting(a_text, "")


class AppRole(LoginMethod[AppRoleSettings]):
    """Logs in with a role_id and a secret_id."""

    section = "vault"
    settings_type = AppRoleSettings

    def __init__(self, settings: AppRoleSettings, connection: ConnectionSettings) -> None:
        super().__init__(settings, connection)
        self._unwrapped: tuple[str, str] | None = None
        """The fingerprint of a wrapping token, and what was in it: for later logins, and for forked children."""

    @classmethod
    def problems(cls, settings: AppRoleSettings, connection: Mapping[str, Any]) -> list[str]:
        problems = []
        if not settings.role_id:
            problems.append("[vault] role_id: a value is required; set it in the file or as VAULT_ROLE_ID")
        ways = [way for way in WAYS if getattr(settings, way)]
        if not ways:
            problems.append("[vault] secret_id: a value is required; set it in the file or as VAULT_SECRET_ID")
        if len(ways) > 1:
            problems.append(f"[vault] {' and '.join(ways)}: found each of them, expected one")
        for way in ("secret_id_file", "wrapped_secret_id_file"):
            problems += file_problem(getattr(settings, way), f"[vault] {way}")
        return problems

    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        role_id, secret_id = self.settings.role_id, self._secret_id(api)
        answer: dict[str, Any] = api.auth.approle.login(role_id=role_id, secret_id=secret_id, use_token=False)
        return answer

    def hints(self, refusal: Refused) -> list[str]:
        secret_id = self.settings.secret_id
        hints = []
        if secret_id != secret_id.strip(" \"'"):
            hints.append("the secret_id begins or ends with a blank or a quotation mark")
        if secret_id.startswith(("hvs.", "s.")):
            hints.append("the secret_id looks like a token; if it is wrapped, hand it over as wrapped_secret_id")
        if isinstance(refusal, PermissionDenied):
            hints.append(
                "too many refused logins lock a role for a quarter of an hour: vault read sys/locked-users lists it,"
                " and vault write -force sys/locked-users/ACCESSOR/unlock/ROLE_ID unlocks it"
            )
        return [*hints, "are role_id and secret_id right and still valid?"]

    def fingerprint(self) -> str:
        return "" if self._settings is None else digest(self._settings.role_id, self._handed_over())

    def forget(self) -> None:
        super().forget()
        self._unwrapped = None

    def _handed_over(self) -> str:
        """The secret_id, or the token that it is wrapped in."""
        settings = self.settings
        for way in ("secret_id_file", "wrapped_secret_id_file"):
            if path := getattr(settings, way):
                return from_file(path, f"[vault] {way}")
        return settings.secret_id or settings.wrapped_secret_id

    def _secret_id(self, api: hvac.Client) -> str:
        handed_over = self._handed_over()
        if not (self.settings.wrapped_secret_id or self.settings.wrapped_secret_id_file):
            return handed_over
        if self._unwrapped is None or self._unwrapped[0] != digest(handed_over):
            self._unwrapped = digest(handed_over), unwrap(api, handed_over)
        return self._unwrapped[1]


def unwrap(api: hvac.Client, wrapping_token: str) -> str:
    """The secret_id in a wrapping token, which is used up by that. Raises: LoginRefused, with an alarm in words."""
    usable_as_token(wrapping_token, "no usable wrapped secret_id was handed over")
    try:
        found = expect(api.write_data("sys/wrapping/lookup", data={"token": wrapping_token}), "data", dict)
        check_creation_path(expect(found, "creation_path", str))
        api.token = wrapping_token
        return expect(expect(api.sys.unwrap(), "data", dict), "secret_id", str)
    except LoginRefused:
        raise
    except Refused as refusal:
        raise LoginRefused(
            f"the wrapped secret_id cannot be unwrapped ({refusal}): its time ran out, or it was unwrapped before: by"
            " an earlier run of this program or another client, each of which needs its own, or by somebody else;"
            f" {ALARM}"
        ) from None
    finally:
        api.token = None


def check_creation_path(path: str) -> None:
    """Raises: LoginRefused, unless it was Vault itself that wrapped a secret_id."""
    if not CREATION_PATH.fullmatch(path):
        raise LoginRefused(
            f"the wrapped secret_id was made at {printable(path)}, expected auth/approle/role/NAME/secret-id:"
            f" it is forged, and was not unwrapped; {ALARM}"
        )
