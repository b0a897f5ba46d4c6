"""Proves that a role's credentials work: it logs in, reads a path, rotates its token, and sees the old one refused.

Nothing is taken for proven that was not seen: the old token counts as refused only if it read before, if Vault said so
with a 403, and if the new one still reads. All that was issued is given back, whatever happens; no value is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import hvac

from config_loader import DEFAULT_PATH, read
from listeners.usage import CommandLine
from scripts.operating import Interruption, administrator, administrators_token, ending, log_in, tell
from vaultkit.auth import METHODS
from vaultkit.auth.approle import WAYS
from vaultkit.errors import ConfigurationError, PermissionDenied, SecretNotFound, VaultError
from vaultkit.settings import variable
from vaultkit.transport.answers import printable, warnings_of

EPILOG = """\
It logs in as [vault] auth_method says, with the credentials of the application's settings (config.ini, environment). Of
AppRole, with an administrator's VAULT_TOKEN, it issues itself a secret_id of ROLE, and destroys it afterwards. With
auth_method = token, ROLE is a token role, of which VAULT_TOKEN creates the tokens.

status: 0 all is well; 1 Vault refused, or something is not as it must be; 2 usage; 3 no answer from Vault
"""
PROGRAM = "verify-vault-credentials.sh"
WRAPPED = [way for way in WAYS if way.startswith("wrapped")]
LEFT = "what could not be given back lives until its TTL ends: "


class NotProven(VaultError):
    """Something is not as it must be."""


class Borrowed:
    """What this script had Vault issue, to be given back at the end of a `with` block, whatever happens in it."""

    def __init__(self) -> None:
        self._to_give_back: dict[str, Callable[[], Any]] = {}

    def add(self, name: str, give_back: Callable[[], Any]) -> None:
        self._to_give_back[name] = give_back

    def give_back(self, name: str) -> None:
        """Raises: what the request raises; then it is tried again at the end."""
        self._to_give_back[name]()
        del self._to_give_back[name]

    def __enter__(self) -> Borrowed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._to_give_back:
            return
        left = [words for name in reversed(list(self._to_give_back)) if (words := self._left(name))]
        if not left:
            tell("  ✓ all that was issued is revoked")
        elif error is None:
            raise NotProven(f"{LEFT}{'; '.join(left)}")
        else:
            print(f"{PROGRAM}: {LEFT}{'; '.join(left)}", file=sys.stderr)

    def _left(self, name: str) -> str:
        try:
            self.give_back(name)
        except VaultError as error:
            return f"{name} ({error})"
        return ""


class Verification:
    """One run, step by step."""

    def __init__(self, role: str, path: str, borrowed: Borrowed, interruption: Interruption) -> None:
        self._role, self._path = role, path
        self._borrowed, self._interruption = borrowed, interruption
        self._settings = read(DEFAULT_PATH, os.environ, to_log_in=False)["vault"]
        self._method = self._settings.auth_method
        self._issues = self._method == "approle" and bool(administrators_token())

    def run(self) -> None:
        old = self._log_in("the first token")
        self._reads(old, "the first token")
        new = self._log_in("the second token")
        self._reads(new, "the second token")
        self._revoke("the first token")
        self._is_refused(old, "the first token")
        self._reads(new, "the second token")

    def _log_in(self, name: str) -> hvac.Client:
        self._interruption.check()
        api = log_in(self._issued(f"the secret_id of {name}") if self._issues else self._of_the_settings())
        self._borrowed.add(name, partial(revoke, api))
        if self._method == "approle":
            self._is_of_the_role(api)
        tell(f"  ✓ logged in as {self._role} by {self._method}: {name}")
        return api

    def _of_the_settings(self) -> dict[str, str]:
        wrapped = [way for way in WRAPPED if getattr(self._settings, way)]
        if self._method == "approle" and wrapped:
            raise ConfigurationError(
                [f"[vault] {wrapped[0]}: it can be unwrapped once, which is the application's to do; expected a"
                 " secret_id, or an administrator's VAULT_TOKEN to issue one"]
            )  # fmt: skip
        return {**os.environ, variable(METHODS[self._method].section, "role"): self._role}

    def _issued(self, name: str) -> dict[str, str]:
        """The variables of an AppRole login with a secret_id of our own."""
        api, role = administrator(), f"auth/approle/role/{self._role}"
        role_id = api.read(f"{role}/role-id")["data"]["role_id"]
        issued = api.write_data(f"{role}/secret-id", data={"metadata": '{"issued_to": "verify-vault-credentials"}'})
        accessor = {"secret_id_accessor": issued["data"]["secret_id_accessor"]}
        self._borrowed.add(name, lambda: api.write_data(f"{role}/secret-id-accessor/destroy", data=accessor))
        others = {variable("vault", way): "" for way in WAYS}
        return {**os.environ, **others, "VAULT_ROLE_ID": role_id, "VAULT_SECRET_ID": issued["data"]["secret_id"]}

    def _is_of_the_role(self, api: hvac.Client) -> None:
        found = (api.auth.token.lookup_self()["data"]["meta"] or {}).get("role_name")
        if found != self._role:
            raise NotProven(f"the settings log in as the AppRole {printable(str(found))}, expected {self._role}")

    def _reads(self, api: hvac.Client, name: str) -> None:
        self._interruption.check()
        found = what_is_in(api.read(self._path), self._path)
        tell(f"  ✓ {name} reads {self._path}: {found}")

    def _revoke(self, name: str) -> None:
        self._interruption.check()
        self._borrowed.give_back(name)
        tell(f"  ✓ {name} is revoked")

    def _is_refused(self, api: hvac.Client, name: str) -> None:
        self._interruption.check()
        try:
            api.read(self._path)
        except PermissionDenied:
            tell(f"  ✓ {name} is refused")
            return
        raise NotProven(f"{name} still reads {self._path} after it was revoked")


def revoke(api: hvac.Client) -> None:
    """Revoke the token of this client; an administrator may where the role may not."""
    try:
        api.auth.token.revoke_self()
    except PermissionDenied:
        if not administrators_token():
            raise
        administrator().auth.token.revoke(api.token)


def what_is_in(answer: dict[str, Any] | None, path: str) -> str:
    """The version, lease and names of what was read; never a value. Raises: SecretNotFound, if nothing was."""
    data = (answer or {}).get("data")
    if not data:
        raise SecretNotFound(f"{path} was answered without data{warnings_of(answer or {})}")
    parts = []
    if isinstance(data.get("metadata"), dict) and isinstance(data.get("data"), dict):
        parts.append(f"version {data['metadata'].get('version')}")
        data = data["data"]
    if answer and answer.get("lease_id"):
        parts.append(f"a lease of {answer.get('lease_duration')} s")
    return ", ".join([*parts, f"fields {printable(' '.join(sorted(data)))}"])


def main() -> int:
    parser = CommandLine(
        prog=PROGRAM,
        example=f"scripts/{PROGRAM} my-vault-app my-vault-app-kv/data/database",
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
    )
    parser.add_argument("role", metavar="ROLE", help="name of the role, such as my-vault-app")
    parser.add_argument("path", metavar="PATH", help="what to read, as the API has it: my-vault-app-kv/data/database")
    options = parser.parse_args()
    for name, value in vars(options).items():
        if not value.strip("/ "):
            parser.error(f"{name.upper()} is empty")
    interruption = Interruption()
    with Borrowed() as borrowed:
        Verification(options.role, options.path.strip("/"), borrowed, interruption).run()
    tell(f"all is well: {options.role} reads {options.path}, and a token that was rotated away does not")
    return 0


if __name__ == "__main__":
    sys.exit(ending(main, PROGRAM))
