"""Taking back: what is half done, what is over, and what shall no longer be.

In three steps, of which each may be the last before the power fails: condemn, so that whoever is making it gives up and
whoever finds it goes on; revoke on the server; forget. All three may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from issuer.issues import (
    CONDEMNED,
    DELIVERED,
    INTENDED,
    ISSUED,
    Issue,
    Issues,
    Service,
    condemned,
    only_condemned,
    prolonged,
    without,
)
from issuer.ledger import Account, Ledger
from issuer.tokens import Tokens
from vaultkit.errors import VaultError
from vaultkit.lifetime import Clock


class Clearing:
    """Clears accounts, and the server of what they speak of. `done` is told of each step."""

    def __init__(
        self, ledger: Ledger, tokens: Tokens, *, settle_after: float, clock: Clock, done: Callable[[str], object]
    ) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._settle_after = settle_after
        self._clock = clock
        self._done = done

    def end(self, service: Service, chosen: Callable[[Issue], bool], known: Account | None = None) -> int:
        """Condemn, revoke and forget those of a service's issues that are chosen; how many they were."""
        account = self._condemn(service, chosen, known)
        ended = only_condemned(account.issues)
        if ended:
            self._revoke(ended)
            self.forget(service, ended, account)
        return sum(map(chosen, ended))

    def _condemn(self, service: Service, chosen: Callable[[Issue], bool], known: Account | None) -> Account:
        """From now on, whoever is making one of these gives up, and whoever finds one revokes it."""
        account = self._ledger.change(service.name, lambda issues: condemned(issues, chosen), known)
        self._done("condemned")
        return account

    def _revoke(self, issues: Issues) -> None:
        """By accessor; where that never got into the ledger, the server is searched for the issue's id."""
        lost = {issue.id for issue in issues if not issue.accessor}
        for issue in issues:
            if issue.accessor:
                self._tokens.revoke(issue.accessor)
        if lost:
            for seen in self._tokens.all_alive():
                if seen.issue in lost:
                    self._tokens.revoke(seen.accessor)
        self._done("revoked")

    def forget(self, service: Service, ended: Issues, known: Account | None = None) -> None:
        """For when they are revoked, or never were."""
        ids = [issue.id for issue in ended]
        self._ledger.change(service.name, lambda issues: without(issues, ids), known)
        self._done("forgotten")

    def revoke_by_role(self, tenant: str, service: str) -> int:
        """Revoke what the server lists of the role, whatever the ledger says; how many there were."""
        count = 0
        for seen in self._tokens.all_alive():
            if belongs_to(seen.service, tenant, service):
                self._tokens.revoke(seen.accessor)
                count += 1
        return count

    # ── Keeping account ──────────────────────────────────────────────────────────────────────────────────────────────

    def services(self, tenant: str = "", service: str = "") -> list[Service]:
        """Those that have, or had, an account."""
        found = []
        for name in self._ledger.names():
            with suppress(VaultError):  # what no issuer has written
                found.append(Service.named(name))
        return [each for each in found if tenant in ("", each.tenant) and service in ("", each.service)]

    def recover(self) -> int:
        """Clear away what is half done or over, of all services; how many were revoked. After a crash, and in between.

        What the server must be searched for is searched for once.
        """
        accounts: dict[Service, Account] = {}
        for service in self.services():
            account = self._look_after(service, self._ledger.read(service.name))
            if any(map(self._is_half_done, account.issues)):
                accounts[service] = self._condemn(service, self._is_half_done, account)
        ended = {service: only_condemned(account.issues) for service, account in accounts.items()}
        self._revoke(tuple(issue for issues in ended.values() for issue in issues))
        for service, issues in ended.items():
            self.forget(service, issues, accounts[service])
        return sum(map(len, ended.values()))

    def settle(self, service: Service) -> Account:
        """Clear away what is half done or over, of one service; its account then."""
        account = self._look_after(service, self._ledger.read(service.name))
        if not any(map(self._is_half_done, account.issues)):
            return account
        self.end(service, self._is_half_done, account)
        return self._ledger.read(service.name)

    def _is_half_done(self, issue: Issue) -> bool:
        """Condemned, or left behind on the way: an issuer that is at it takes no longer than `settle_after`."""
        on_its_way = issue.state in (INTENDED, ISSUED)
        return issue.state == CONDEMNED or (on_its_way and self._clock.time() >= issue.asked + self._settle_after)

    def _look_after(self, service: Service, account: Account) -> Account:
        """Forget what is over, once the server says so as well: its holder may have renewed it."""
        now = self._clock.time()
        late = [issue for issue in account.issues if issue.state == DELIVERED and now >= issue.ends]
        if not late:
            return account
        seen = {issue.id: self._tokens.look_up(issue.accessor) for issue in late}
        over = [id for id, found in seen.items() if found is None]
        ends = {id: now + found.ttl for id, found in seen.items() if found is not None}

        def note(issues: Issues) -> Issues:
            return prolonged(without(issues, over), ends)

        return self._ledger.change(service.name, note, account)


def belongs_to(name: str, tenant: str, service: str) -> bool:
    """Whether the service of this name is one of the tenant, or of the service; of nothing, all are."""
    found_tenant, _, found_service = name.partition("-")
    return tenant in ("", found_tenant) and service in ("", found_service)
