"""Rotation before expiry: a worker that looks after every account, and has each token replaced at 4/5 of its life.

It keeps of each service when to look at it again, and nothing else. Several may run: of a rotation one of them has the
intent, and the others see that it is under way.
"""

from __future__ import annotations

import logging
import math
import time

from issuer.errors import AlreadyIssued
from issuer.handover import Deliver
from issuer.issuer import VaultTokenIssuer
from issuer.issues import DELIVERED, Issue, Issues, Service, find, successor_of
from issuer.ledger import Account
from vaultkit.errors import VaultError
from vaultkit.lifetime import Clock

log = logging.getLogger("issuer")


class Watch:
    """Looks after all services. `turn` is to be called every `interval` seconds, from one thread."""

    def __init__(self, issuer: VaultTokenIssuer, deliver: Deliver, *, clock: Clock = time) -> None:
        self._issuer = issuer
        self._deliver = deliver
        self._clock = clock
        self._next: dict[Service, float] = {}
        """When to look at each again, by the monotonic clock."""

    def turn(self) -> None:
        """Do what is due; one service's error is none of the others'. Raises: VaultError, without a list of them."""
        services = self._issuer.services()
        self._next = {service: self._next.get(service, 0.0) for service in services}
        for service, at in self._next.items():
            if self._clock.monotonic() >= at:
                pause = self._look(service)
                self._next[service] = self._clock.monotonic() + pause

    def _look(self, service: Service) -> float:
        """Look after one; after how many seconds to do so again."""
        try:
            account = self._issuer.settle(service)
        except VaultError as error:
            log.error("%s: %s", service.name, error)
            return self._issuer.settings.interval
        for issue in account.issues:
            self._tend(service, issue, account)
        return self._pause(account.issues)

    def _tend(self, service: Service, issue: Issue, account: Account) -> None:
        try:
            if issue.state == DELIVERED and not is_successor(issue, account.issues):
                self._rotate_if_due(service, issue, account)
        except AlreadyIssued as error:  # another issuer is at it
            log.info("%s", error)
        except (VaultError, OSError) as error:
            log.error("%s, key %s: %s", service.name, issue.key, error)

    def _rotate_if_due(self, service: Service, issue: Issue, account: Account) -> None:
        if successor_of(account.issues, issue) is not None:
            if self._issuer.finish_rotation(service, issue.key, account) is not None:
                log.info("%s: %s is revoked; the one that takes its place is in use", service.name, issue.id)
        elif self._clock.time() >= issue.due:
            delivery = self._issuer.begin_rotation(service, issue.key, account)
            self._deliver(delivery)
            log.info("%s: %s was delivered, to take the place of %s", service.name, delivery.issue.id, issue.id)

    def _pause(self, issues: Issues) -> float:
        """Until one is due; an interval while one is being rotated. Others issue as well: no longer than `rescan`."""
        settings = self._issuer.settings
        due = [0.0 if is_successor(issue, issues) else issue.due for issue in issues]
        until = min(due, default=math.inf) - self._clock.time()
        return max(settings.interval, min(settings.rescan, until))


def is_successor(issue: Issue, issues: Issues) -> bool:
    """Whether the one that it is to replace is still there."""
    return find(issues, issue.replaces) is not None
