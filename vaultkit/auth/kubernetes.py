"""Kubernetes: the token of a pod's service account, which Vault has the API server review.

https://developer.hashicorp.com/vault/docs/auth/kubernetes

The kubelet renews the token in the file, so it is read anew at each login. While the API server is away, Vault refuses
every login, with the same 403 as for a token that is no good: such a refusal is not for good (T7). OpenBao reviews the
token at each renewal, too, so that a renewal may be refused for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import PermissionDenied, Refused
from ..settings import A_DAY, a_name, a_number, a_path, a_text, or_nothing, setting
from .method import LoginMethod, digest
from .sources import file_problem, from_file

if TYPE_CHECKING:
    import hvac

TOKEN_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token"
SAYS_NOTHING = "permission denied"
"""An expired or revoked token, a wrong signature, an API server that is away. Whatever else is wrong is said."""


@dataclass(frozen=True, kw_only=True)
class KubernetesAuthSettings:
    """[kubernetes_auth]: how to log in with a service account. Seconds."""

    mount: str = setting(a_path, "kubernetes")
    role: str = setting(or_nothing(a_name), "")
    token_file: str = setting(a_text, TOKEN_FILE)
    refused_limit: float = setting(a_number(0, A_DAY), 0.0)


class Kubernetes(LoginMethod[KubernetesAuthSettings]):
    """Logs in with the token of a service account."""

    section = "kubernetes_auth"
    settings_type = KubernetesAuthSettings

    @classmethod
    def problems(cls, settings: KubernetesAuthSettings, connection: Mapping[str, Any]) -> list[str]:
        problems = file_problem(settings.token_file, "[kubernetes_auth] token_file")
        if not settings.role:
            problems.append("[kubernetes_auth] role: a value is required, the role of auth/kubernetes")
        return problems

    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        settings = self.settings
        answer: dict[str, Any] = api.auth.kubernetes.login(
            role=settings.role, jwt=self._token(), use_token=False, mount_point=settings.mount
        )
        return answer

    def is_final(self, refusal: Refused) -> bool:
        return not (isinstance(refusal, PermissionDenied) and refusal.said == SAYS_NOTHING)

    @property
    def patience(self) -> float:
        return self.settings.refused_limit or math.inf

    def hints(self, refusal: Refused) -> list[str]:
        return [
            "Vault says the same when it cannot ask the API server, when the token has expired or its account or pod is"
            f" gone, and when nothing is mounted at auth/{self.settings.mount}"
            if not self.is_final(refusal)
            else f"see vault read auth/{self.settings.mount}/role/{self.settings.role}: names, namespaces, audience"
        ]

    def fingerprint(self) -> str:
        return "" if self._settings is None else digest(self._settings.role, self._token())

    def _token(self) -> str:
        return from_file(self.settings.token_file, "[kubernetes_auth] token_file")
