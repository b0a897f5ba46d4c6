"""AWS IAM: a signed request to AWS, which Vault sends, to hear from AWS who signed it. Vault alone has it.

https://developer.hashicorp.com/vault/docs/auth/aws

Tried by the shape of its request alone, against a stand-in. OpenBao has no such method: there, and on Vault as well, a
role of AWS logs in by `jwt` with what `aws sts get-web-identity-token` says. Needs botocore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import LoginUnavailable, PermissionDenied, Refused
from ..settings import a_name, a_path, a_text, or_nothing, setting
from .method import LoginMethod, digest

if TYPE_CHECKING:
    import hvac


@dataclass(frozen=True, kw_only=True)
class AwsAuthSettings:
    """[aws_auth]: how to log in with the credentials that AWS's own tools would use here."""

    mount: str = setting(a_path, "aws")
    role: str = setting(or_nothing(a_name), "")
    region: str = setting(a_name, "us-east-1")
    header_value: str = setting(a_text, "")


class Aws(LoginMethod[AwsAuthSettings]):
    """Logs in with a signed sts:GetCallerIdentity."""

    section = "aws_auth"
    settings_type = AwsAuthSettings

    @classmethod
    def problems(cls, settings: AwsAuthSettings, connection: Mapping[str, Any]) -> list[str]:
        problems = []
        if not settings.role:
            problems.append("[aws_auth] role: a value is required, the role of auth/aws")
        if find_spec("botocore") is None:
            problems.append("[vault] auth_method: aws needs botocore: pip install botocore")
        return problems

    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        settings, key = self.settings, credentials()
        answer: dict[str, Any] = api.auth.aws.iam_login(
            key.access_key,
            key.secret_key,
            session_token=key.token,
            header_value=settings.header_value or None,
            role=settings.role,
            region=settings.region,
            mount_point=settings.mount,
            use_token=False,
        )
        return answer

    def hints(self, refusal: Refused) -> list[str]:
        hints = [f"see vault read auth/{self.settings.mount}/role/{self.settings.role}"]
        if isinstance(refusal, PermissionDenied):
            hints.append("OpenBao has no aws login: use jwt")
        return hints

    def fingerprint(self) -> str:
        return "" if self._settings is None else digest(self._settings)


def credentials() -> Any:
    """The key that AWS's own tools would use here. Raises: LoginUnavailable."""
    from botocore.exceptions import BotoCoreError  # only where this method is used
    from botocore.session import Session

    try:
        found = Session().get_credentials()
        if found is not None:
            return found.get_frozen_credentials()
    except BotoCoreError as error:
        raise LoginUnavailable(f"AWS: the credentials cannot be had ({type(error).__name__})") from None
    raise LoginUnavailable("AWS: no credentials in the environment, the configuration, or from the instance")
