"""The ledger: who was issued what. One KV v2 secret for each service, on the server that issues the tokens.

It is written with check-and-set alone, so that of any number of issuers one wins, and the others look again. Vault's
own storage is all the distribution there is. It holds accessors, never tokens, and no history (`max_versions=1`).

An account that is empty stays: KV has no delete with check-and-set, and a plain one would take along what another
issuer has just written.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import hvac

from issuer.errors import LedgerBusy
from issuer.issues import Issues, from_json, to_json
from vaultkit.errors import RequestRejected, SecretDeleted, SecretNotFound
from vaultkit.transport.answers import expect
from vaultkit.transport.limits import answers_up_to

Ask = Callable[[Callable[[hvac.Client], Any]], Any]
"""A client's `ask`."""
MISMATCH = "check-and-set parameter did not match"
LARGEST_ACCOUNT_BYTES = 131_072
MOST_TRIES = 20
LONGEST_PAUSE_SECONDS = 0.2


class Account(NamedTuple):
    """What the ledger holds of one service, and the version that this was."""

    version: int
    issues: Issues


class Ledger:
    """The accounts, by the name of a service."""

    def __init__(self, ask: Ask, mount: str) -> None:
        self._ask = ask
        self._mount = mount

    def names(self) -> list[str]:
        """Of every service that ever had an account."""
        try:
            answer = self._ask(lambda api: api.secrets.kv.v2.list_secrets("", mount_point=self._mount))
        except SecretNotFound:
            return []
        return sorted(str(name) for name in expect(expect(answer, "data", dict), "keys", list))

    def read(self, name: str) -> Account:
        """Raises: an error of `vaultkit.errors`; an account that is not there is empty."""
        try:
            with answers_up_to(LARGEST_ACCOUNT_BYTES, "LARGEST_ACCOUNT_BYTES in issuer/ledger.py"):
                answer = self._ask(
                    lambda api: api.secrets.kv.v2.read_secret_version(
                        name, mount_point=self._mount, raise_on_deleted_version=True
                    )
                )
        except SecretDeleted:
            return Account(self._version_of_deleted(name), ())
        except SecretNotFound:
            return Account(0, ())
        body = expect(answer, "data", dict)
        return Account(expect(expect(body, "metadata", dict), "version", int), from_json(expect(body, "data", dict)))

    def change(self, name: str, change: Callable[[Issues], Issues], known: Account | None = None) -> Account:
        """Change an account. `known` is how it was a moment ago, which saves a request where it still is so.

        `change` is asked again each time that another was faster, and may raise to give up. Also where our own request
        was repeated on its way, and the first had come through: so it must find nothing left to do then.
        """
        for _ in range(MOST_TRIES):
            account = known or self.read(name)
            issues = change(account.issues)
            if issues == account.issues:
                return account
            try:
                return Account(self._write(name, issues, account.version), issues)
            except RequestRejected as error:
                if MISMATCH not in str(error):
                    raise
            known = None
            threading.Event().wait(random.uniform(0, LONGEST_PAUSE_SECONDS))
        raise LedgerBusy(f"the account {name} was changed by others {MOST_TRIES} times while it was to be changed")

    def _write(self, name: str, issues: Issues, version: int) -> int:
        answer = self._ask(
            lambda api: api.secrets.kv.v2.create_or_update_secret(
                name, to_json(issues), cas=version, mount_point=self._mount
            )
        )
        return expect(expect(answer, "data", dict), "version", int)

    def _version_of_deleted(self, name: str) -> int:
        """Somebody has deleted it by hand; check-and-set goes on counting."""
        answer = self._ask(lambda api: api.secrets.kv.v2.read_secret_metadata(name, mount_point=self._mount))
        return expect(expect(answer, "data", dict), "current_version", int)
