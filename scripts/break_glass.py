"""Locks out an entity, a role, a mount or everybody: freezes, revokes, rotates, and tells what could not be done.

Each step stands alone: one that fails is listed, and the others go on. It may be run again at any time, as when a
database is back, and then finds what is left. A dry run goes the same way and changes nothing.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

import hvac

from listeners.usage import CommandLine
from scripts.operating import OK, REFUSED, administrator, ending, keys_at, keys_below, tell
from scripts.scopes import KINDS, Freeze, Scope, nobody, scope_of
from scripts.search import Found, Search
from scripts.sessions import end_sessions
from vaultkit.errors import ConfigurationError, RequestRejected, SecretNotFound, VaultError

PROGRAM = "break-glass.sh"
EPILOG = """\
what is locked out:
  entity NAME         its tokens and logins at once; leases and passwords in its mounts, which are called NAME-…
  role auth/M/NAME    what logged in with this role of an auth method; of auth/token: what was created of a token role
  role M/NAME         what a dynamic database role has issued, or the password of a static one
  mount auth/M, M     what an auth method has let in; what a secrets engine has issued
  all                 everybody but who asks

VAULT_TOKEN takes a token of an administrator that is an orphan (a login or the root token) and not locked out by this.

status: 0 all is done; 1 something could not be done, and is listed; 2 usage; 3 no answer from Vault, nothing changed
"""
ON_BATCH_TOKENS = (
    "batch tokens are in no list and cannot be revoked: those of a disabled entity are refused, others live on until"
    " their TTL ends"
)


@dataclass(frozen=True)
class Step:
    """Something to do, and its words for the screen."""

    what: str
    do: Callable[[], Any] = field(repr=False)
    secret: str = field(default="", repr=False)
    """What Vault's own words must not repeat (P1)."""


class BreakGlass:
    """One run: the steps in their order, and what came of them."""

    def __init__(self, api: hvac.Client, scope: Scope, *, rotates_root: bool, dry: bool) -> None:
        self._api, self._scope = api, scope
        self._rotates_root, self._dry = rotates_root, dry
        self._search = Search(api, scope)
        self.done = 0
        self.failed: list[str] = []

    def run(self) -> None:
        tell("evidence")
        found = self._search.find()
        self._show(found)
        by_hand = self._kv()
        self._take("freeze", self._freezes())
        self._take("revoke", self._revocations())
        self._take("rotate", self._rotations())
        self._take("end sessions", self._sessions())
        if not self._dry:
            self._verify()
        self._report(by_hand)

    def _show(self, found: Found) -> None:
        for token in found.tokens:
            tell(f"    {token.name}")
        for lease in found.leases:
            tell(f"    lease {lease}")
        tell(f"    {found}")

    def _kv(self) -> list[str]:
        """What no machine can rotate, for it comes from elsewhere."""
        found = [path for mount in self._scope.kv for path in self._listed(mount)]
        return [path.replace("/metadata/", "/data/", 1) for path in found]

    def _listed(self, mount: str) -> list[str]:
        try:
            return keys_below(self._api, f"{mount}metadata/")
        except VaultError as error:
            self._fails(f"the secrets in {mount}", error)
            return []

    # ── Steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _freezes(self) -> Iterator[Step]:
        for freeze in self._scope.freezes:
            yield Step(freeze.what, partial(freeze.begin, self._api))

    def _take(self, stage: str, steps: Iterator[Step]) -> None:
        """Take the steps, each whatever became of the others; what cannot even be looked for is a failure, too."""
        tell(stage)
        try:
            for step in steps:
                self._step(step)
        except VaultError as error:
            self._fails(f"{stage}: not all was found", error)

    def _step(self, step: Step) -> None:
        if self._dry:
            tell(f"  · {step.what}")
            return
        try:
            step.do()
        except VaultError as error:
            self._fails(step.what, error, step.secret)
            return
        self.done += 1
        tell(f"  ✓ {step.what}")

    def _fails(self, what: str, error: VaultError, secret: str = "") -> None:
        words = f"{what}: {str(error).replace(secret, '…') if secret else error}"
        self.failed.append(words)
        tell(f"  ✗ {words}")

    def _write(self, path: str, **data: Any) -> Callable[[], Any]:
        return partial(self._api.write_data, path, data=data)

    def _revocations(self) -> Iterator[Step]:
        found = self._search.find()  # again: with what was issued until the freeze
        for role, accessor in found.secret_ids:  # before the tokens, for they are what logs in anew
            destroy = self._write(f"{role}/secret-id-accessor/destroy", secret_id_accessor=accessor)
            yield Step(f"a secret_id of {role}: destroyed", destroy, accessor)
        for token in found.tokens:
            revoke = self._write("auth/token/revoke-accessor", accessor=token.accessor)
            yield Step(f"{token.name}: revoked", revoke, token.accessor)
        # One by one: a prefix stops at the first that cannot be revoked. In sync: else Vault only promises to do it.
        for lease in found.leases:
            yield Step(f"lease {lease}: revoked", self._write("sys/leases/revoke", lease_id=lease, sync=True))

    def _rotations(self) -> Iterator[Step]:
        for static in self._scope.statics:
            yield Step(f"{static}: password rotated", self._write(static.replace("/static-roles/", "/rotate-role/", 1)))
        for mount, connection in self._connections() if self._rotates_root else ():
            rotate = self._write(f"{mount}rotate-root/{connection}")
            yield Step(f"{mount}config/{connection}: root password rotated", rotate)

    def _sessions(self) -> Iterator[Step]:
        for mount, connection in self._connections():
            users = self._static_users(mount, connection)
            also = "".join(f", and of {user}" for user in users)
            what = f"{mount}config/{connection}: sessions of users that are gone{also} ended"
            yield Step(what, partial(end_sessions, self._api, mount, connection, users))

    def _connections(self) -> list[tuple[str, str]]:
        return [(mount, name) for mount in self._scope.databases for name in keys_at(self._api, f"{mount}config")]

    def _static_users(self, mount: str, connection: str) -> list[str]:
        """Those whose password was rotated in this database."""
        found = [self._api.read(static)["data"] for static in self._scope.statics if static.startswith(mount)]
        return [str(about["username"]) for about in found if about["db_name"] == connection]

    # ── What came of it ──────────────────────────────────────────────────────────────────────────────────────────────

    def _verify(self) -> None:
        """Look again: whatever is there was not revoked, whatever Vault said."""
        tell("verify")
        try:
            left = self._search.find()
        except VaultError as error:
            self._fails("what is left was not seen", error)
            return
        self._show(left)
        for freeze in self._scope.freezes:
            self._is_shut(freeze)
        names = [token.name for token in left.tokens] + [f"lease {lease}" for lease in left.leases]
        names += [f"a secret_id of {role}" for role, _ in left.secret_ids]
        self.failed += [f"{name}: still there" for name in names]

    def _is_shut(self, freeze: Freeze) -> None:
        try:
            if not freeze.is_shut(self._api):
                raise RequestRejected("Vault took it, and has not done it")
        except VaultError as error:
            self._fails(f"verified: {freeze.what}", error)

    def _report(self, by_hand: list[str]) -> None:
        tell("report")
        if self._dry:
            tell("    a dry run: nothing was changed")
        else:
            tell(f"    {self.done} steps done, {len(self.failed)} failed or left")
        for words in self.failed:
            tell(f"  ✗ {words}")
        for path in by_hand:
            tell(f"  ! to be changed where it comes from: {path}")
        if self._scope.holds is not nobody:
            tell(f"  ! {ON_BATCH_TOKENS}")


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def lift(api: hvac.Client, scope: Scope) -> int:
    """Let in again who was locked out. What was revoked, destroyed or rotated stays so."""
    status = OK
    for freeze in scope.freezes:
        try:
            freeze.lift(api)
            tell(f"  ✓ lifted: {freeze.what}")
        except VaultError as error:
            tell(f"  ✗ not lifted: {freeze.what}: {error}")
            status = REFUSED
    return status


def options() -> argparse.Namespace:
    parser = CommandLine(
        prog=PROGRAM,
        example=f"scripts/{PROGRAM} --dry-run entity my-vault-app",
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--dry-run", action="store_true", help="show what would be done; do this first")
    mode.add_argument("--go", action="store_true", help="do it")
    mode.add_argument("--lift", action="store_true", help="when it is over: let in again who was locked out")
    parser.add_argument("--rotate-root", action="store_true", help="also the password of Vault's own database user")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("name", nargs="?", default="")
    found = parser.parse_args()
    if bool(found.name) != (found.kind != "all"):
        parser.error("all takes no name" if found.name else f"{found.kind}: the name is missing")
    return found


def main() -> int:
    chosen = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    api = administrator()
    try:
        scope = scope_of(api, chosen.kind, chosen.name.strip("/"))
    except SecretNotFound as error:
        raise ConfigurationError([str(error)]) from None
    if chosen.lift:
        return lift(api, scope)
    tell(f"{PROGRAM}: {scope.title}, at {now()}")
    run = BreakGlass(api, scope, rotates_root=chosen.rotate_root, dry=chosen.dry_run)
    run.run()
    tell(f"    {what_next(chosen, scope, run.failed)}")
    tell(f"{PROGRAM}: ended at {now()}")
    return REFUSED if run.failed else OK


def what_next(chosen: argparse.Namespace, scope: Scope, failed: list[str]) -> str:
    again = f"{PROGRAM} {{}} {chosen.kind} {chosen.name}".rstrip()
    if chosen.dry_run:
        return f"next: {again.format('--go')}"
    if failed:
        return f"next: mend what is said above, then once more {again.format('--go')}"
    return f"when it is over: {again.format('--lift')}" if scope.freezes else "nothing is frozen that would be lifted"


if __name__ == "__main__":
    try:
        sys.exit(ending(main, PROGRAM))
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; run it again, and it finds what is left", file=sys.stderr)
        sys.exit(130)
