"""VaultTokenIssuer: issues tokens in such a way that none can be used of which the ledger does not know.

    issuer = VaultTokenIssuer(client, IssuerSettings.load("my-vault-app"))
    delivery = issuer.issue(Service.of("shop", "web"), ttl=3600)
    hand_over(delivery.wrapping_token)

The order makes it safe to be killed at any point: the intent is written down; the token is made, wrapped, so that
nobody holds it; its accessor is written down; that it goes out is written down; and only then it does. What is found
half done later was in nobody's hands, and is revoked. Issuers may work side by side: each change of an account happens
once (check-and-set), and whoever finds that another has overtaken them revokes what they have made.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from issuer.clearing import Clearing
from issuer.errors import AlreadyIssued, NotIssued, NotTaken, Overtaken, RoleUnfit, TooManyKeys
from issuer.handover import Deliver, Delivery
from issuer.issues import (
    CONDEMNED,
    DELIVERED,
    INTENDED,
    ISSUED,
    Issue,
    Issues,
    Service,
    checked_key,
    find,
    in_force,
    prolonged,
    successor_of,
    with_issue,
    without,
)
from issuer.ledger import Account, Ledger
from issuer.settings import IssuerSettings
from issuer.tokens import Tokens, Wrapped
from vault_client import VaultClient
from vaultkit.errors import Refused, VaultError
from vaultkit.lifetime import Clock
from vaultkit.shield import without_frames

STEPS = ("intended", "created", "recorded", "delivered", "condemned", "revoked", "forgotten")
"""Each is done when it is told of: between any two the program may end."""
MOST_KEYS = 100
LOOK_SECONDS = 0.2


class VaultTokenIssuer:
    """Issues, renews, rotates and revokes the tokens of services. For any number of threads, processes and machines.

    The client's token needs what setup/issuer grants. `on_step` is told of each of STEPS when it is done. All methods
    raise errors of `vaultkit.errors`: after one that is no answer, what was begun is cleared away by `settle` later.
    """

    def __init__(
        self,
        client: VaultClient,
        settings: IssuerSettings,
        *,
        clock: Clock = time,
        on_step: Callable[[str], object] = lambda step: None,
    ) -> None:
        self.settings = settings
        self.ledger = Ledger(client.ask, settings.ledger)
        self.tokens = Tokens(client.ask, settings.role)
        self._clearing = Clearing(
            self.ledger, self.tokens, settle_after=settings.settle_after, clock=clock, done=on_step
        )
        self._clock = clock
        self._done = on_step

    # ── Issuing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @without_frames
    def issue(
        self,
        service: Service,
        policies: Sequence[str] = (),
        ttl: float = 0.0,
        *,
        key: str = "main",
        replace: bool = False,
    ) -> Delivery:
        """A new token for a service, wrapped: an orphan of the role, with these policies (or the settings'), for `ttl`
        seconds.

        Of one `key` there is one token: a second request raises AlreadyIssued, or, to `replace` it, revokes the first
        and then issues. Raises: RoleUnfit, where the role does not allow it.
        """
        new = self._intent(checked_key(key), policies or self.settings.policies, ttl or self.settings.ttl)
        account = self.settle(service)
        if replace and self._clearing.end(service, lambda issue: issue.key == key, account):
            account = self.ledger.read(service.name)
        return self._carry_out(service, new, lambda issues: refuse_second(service, issues, new), account)

    def _intent(self, key: str, policies: Sequence[str], ttl: float, replaces: str = "") -> Issue:
        most = self.tokens.max_ttl()
        if ttl > most:  # the server would cut it short, and not say so of what is wrapped
            raise RoleUnfit(f"found a TTL of {ttl:g} s; the token role {self.tokens.role} allows {most:g} s")
        now = self._clock.time()
        return Issue(
            id=secrets.token_hex(8),
            key=key,
            state=INTENDED,
            policies=tuple(policies),
            ttl=ttl,
            asked=now,
            ends=now + ttl,
            replaces=replaces,
        )

    def _carry_out(self, service: Service, new: Issue, check: Callable[[Issues], None], known: Account) -> Delivery:
        """From the intent to what may go out. `check` raises, where the account does not allow it."""

        def intend(issues: Issues) -> Issues:
            check(without(issues, [new.id]))
            return with_issue(issues, new)

        account = self.ledger.change(service.name, intend, known)
        self._done("intended")
        wrapped = self._create(service, new)
        self._done("created")
        issued = replace(new, state=ISSUED, accessor=wrapped.accessor)
        account = self._advance(service, issued, account)
        self._done("recorded")
        delivered = replace(issued, state=DELIVERED)
        self._advance(service, delivered, account)
        self._done("delivered")
        return Delivery(service, delivered, wrapped.wrapping_token, self.settings.wrap_ttl, wrapped.creation_path)

    def _create(self, service: Service, new: Issue) -> Wrapped:
        try:
            return self.tokens.create(service, new, self.settings.wrap_ttl)
        except Refused:  # there is none; after no answer there may be one, for `settle` to find
            self._clearing.forget(service, (new,))
            raise

    def _advance(self, service: Service, issue: Issue, known: Account) -> Account:
        """Write down how far it is. Raises: Overtaken, if it was condemned meanwhile, and revoked now."""

        def advance(issues: Issues) -> Issues:
            found = find(issues, issue.id)
            if found is None or found.state == CONDEMNED:
                raise Overtaken(f"{service.name}: another issuer has taken {issue.id} back while it was made here")
            return with_issue(issues, issue)

        try:
            return self.ledger.change(service.name, advance, known)
        except Overtaken:
            self.tokens.revoke(issue.accessor)
            raise

    # ── Renewing and rotating ────────────────────────────────────────────────────────────────────────────────────────

    def renew(self, service: Service, key: str = "main") -> Issue:
        """Renew a token by its TTL, as far as the role's max TTL allows; what is known of it then."""
        issue = self._in_force(service, self.ledger.read(service.name), key)
        now = self._clock.time()
        ends = now + self.tokens.renew(issue.accessor, issue.ttl)
        self.ledger.change(service.name, lambda issues: prolonged(issues, {issue.id: ends}))
        return replace(issue, ends=ends)

    @without_frames
    def rotate(self, service: Service, deliver: Deliver, key: str = "main") -> Issue:
        """Have another token take the place of a service's; what is known of the new one.

        It is delivered, and only when its holder has unwrapped and renewed it, the old one is revoked. Raises:
        NotTaken, if that does not come about while it can be unwrapped: then the new one is revoked, the old one stays.
        """
        deliver(self.begin_rotation(service, key))
        while (taken := self.finish_rotation(service, key)) is None:
            threading.Event().wait(LOOK_SECONDS)
        return taken

    @without_frames
    def begin_rotation(self, service: Service, key: str = "main", known: Account | None = None) -> Delivery:
        """The token that is to take the place of a service's, wrapped. Raises: AlreadyIssued, while another waits.

        `known` is its account as it was settled a moment ago, which saves a request; so it is below.
        """
        account = known or self.settle(service)
        old = self._in_force(service, account, key)
        before = successor_of(account.issues, old)
        if before is not None and self._is_too_late(before):
            with suppress(NotTaken):
                self.finish_rotation(service, key, account)
            account = self.ledger.read(service.name)
            old = self._in_force(service, account, key)
        new = self._intent(key, old.policies, old.ttl, replaces=old.id)
        return self._carry_out(service, new, lambda issues: refuse_second_successor(service, issues, old), account)

    def finish_rotation(self, service: Service, key: str = "main", known: Account | None = None) -> Issue | None:
        """The new token, if its holder has taken it: the old one is revoked then. None: not yet. Raises: NotTaken."""
        account = known or self.ledger.read(service.name)
        old = self._in_force(service, account, key)
        new = successor_of(account.issues, old)
        if new is None:
            return old  # another issuer was faster
        seen = self.tokens.look_up(new.accessor) if new.state == DELIVERED else None
        if seen is not None and seen.used:
            self._clearing.end(service, lambda issue: issue.id == old.id, account)
            return new
        if not self._is_too_late(new):
            return None
        self._clearing.end(service, lambda issue: issue.id == new.id, account)
        raise NotTaken(
            f"{service.name}: nobody has unwrapped and renewed the new token {new.id} within"
            f" {self.settings.wrap_ttl:g} s, so it was revoked; {old.id} stays"
        )

    def _is_too_late(self, issue: Issue) -> bool:
        """Whether nobody can unwrap it any more."""
        return self._clock.time() >= issue.asked + self.settings.wrap_ttl

    def _in_force(self, service: Service, account: Account, key: str) -> Issue:
        issue = in_force(account.issues, key)
        if issue is None:
            raise NotIssued(f"{service.name}: the ledger knows of no token under the key {key}")
        return issue

    # ── Taking back ──────────────────────────────────────────────────────────────────────────────────────────────────

    def revoke(self, service: Service, key: str = "main") -> int:
        """Revoke a service's token, also one that takes its place just now. How many there were."""
        return self._clearing.end(service, lambda issue: issue.key == key)

    def revoke_all(self, tenant: str = "", service: str = "", *, by_role: bool = False) -> int:
        """Revoke every token of a service, of a tenant, or of all; how many there were.

        `by_role` goes by the server's own list of tokens, too: for when the ledger is lost. It takes a request for each
        token on the server.
        """
        count, failed = 0, None
        for each in self.services(tenant, service):
            try:
                count += self._clearing.end(each, lambda issue: True)
            except VaultError as error:  # the others are to be revoked all the same
                failed = error
        if by_role:
            count += self._clearing.revoke_by_role(tenant, service)
        elif failed is not None:
            raise failed
        return count

    # ── Keeping account ──────────────────────────────────────────────────────────────────────────────────────────────

    def services(self, tenant: str = "", service: str = "") -> list[Service]:
        """Those of the ledger that have an account, or had one: of a service, of a tenant, or all."""
        return self._clearing.services(tenant, service)

    def issued(self, tenant: str = "", service: str = "") -> Iterator[tuple[Service, Issue]]:
        """What the ledger knows, of a service, of a tenant, or of all."""
        for each in self.services(tenant, service):
            for issue in self.ledger.read(each.name).issues:
                yield each, issue

    def settle(self, service: Service) -> Account:
        """Clear away what is half done or over, of one service; its account then."""
        return self._clearing.settle(service)

    def recover(self) -> int:
        """Clear away what is half done or over, of all services; how many were revoked. For after a crash."""
        return self._clearing.recover()


def refuse_second(service: Service, issues: Issues, new: Issue) -> None:
    """Raises: AlreadyIssued, with what is known of the first; TooManyKeys."""
    if len(issues) >= MOST_KEYS:
        raise TooManyKeys(f"{service.name} has {len(issues)} tokens, and more are not kept account of; revoke some")
    first = next((issue for issue in issues if issue.key == new.key), None)
    if first is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(first.asked))
        raise AlreadyIssued(
            f"{service.name}: there is a token under the key {first.key}: {first.id}, {first.state}, of {at} UTC, with"
            f" {', '.join(first.policies)} for {first.ttl:g} s; --replace revokes it first, --key makes one beside it"
        )


def refuse_second_successor(service: Service, issues: Issues, old: Issue) -> None:
    """Raises: AlreadyIssued, if another issuer rotates the same token, or Overtaken, if it is gone."""
    if find(issues, old.id) is None:
        raise Overtaken(f"{service.name}: the token {old.id} was revoked while it was to be rotated")
    if (new := successor_of(issues, old)) is not None:
        raise AlreadyIssued(f"{service.name}: another issuer rotates {old.id} already: {new.id} takes its place")
