"""TLS certificates: the client certificate of the connection says who we are.

https://developer.hashicorp.com/vault/docs/auth/cert

It is [vault] client_cert, which is shown to the server at every request: a token of this method can be renewed with the
same certificate alone. So where it was replaced in its file, there is a login instead of a renewal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Refused
from ..settings import a_path, a_text, setting
from ..transport.connection import ConnectionSettings
from .method import LoginMethod, digest
from .sources import from_file

if TYPE_CHECKING:
    import hvac


@dataclass(frozen=True, kw_only=True)
class CertAuthSettings:
    """[cert_auth]: how to log in with the certificate of [vault] client_cert."""

    mount: str = setting(a_path, "cert")
    role: str = setting(a_text, "")


class Cert(LoginMethod[CertAuthSettings]):
    """Logs in with the connection's client certificate."""

    section = "cert_auth"
    settings_type = CertAuthSettings

    def __init__(self, settings: CertAuthSettings, connection: ConnectionSettings) -> None:
        super().__init__(settings, connection)
        self._client_cert = connection.client_cert
        self._shown = ""
        """The fingerprint of the certificate at the login before."""

    @classmethod
    def problems(cls, settings: CertAuthSettings, connection: Mapping[str, Any]) -> list[str]:
        problems = []
        if not connection.get("client_cert"):
            problems.append("[vault] client_cert: a value is required with auth_method = cert, and client_key")
        if not str(connection.get("url", "")).lower().startswith("https:"):
            problems.append("[vault] url: expected https:// with auth_method = cert")
        return problems

    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        if self.is_outdated():
            api.session.close()  # the connections that are kept alive were made with the one before
        self._shown = self.fingerprint()
        settings = self.settings
        # hvac's own login would have files of its own; here the connection has shown the certificate.
        answer: dict[str, Any] = api.write_data(f"auth/{settings.mount}/login", data={"name": settings.role})
        return answer

    def is_outdated(self) -> bool:
        return self._shown not in ("", self.fingerprint())

    def hints(self, refusal: Refused) -> list[str]:
        return [f"is the CA of [vault] client_cert in a role of auth/{self.settings.mount}, and does its name fit?"]

    def fingerprint(self) -> str:
        settings = self._settings
        if settings is None:
            return ""
        return digest(settings.role, from_file(self._client_cert, "[vault] client_cert"))
