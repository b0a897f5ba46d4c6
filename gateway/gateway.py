"""The gateway without its HTTP: who is calling, whether they may, and the secret they may have.

gateway = Gateway(settings, config, registry)
await gateway.start()
caller = await gateway.caller_of(headers)
gateway.demand(caller, "read", "app")           # the gateway's own roles …
await gateway.read(caller, "app")               # … and Vault's policies: of the tenant's AppRole, or of the caller
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry

from config_loader import VaultConfig
from vaultkit.auth.grant import TokenInfo
from vaultkit.errors import SecretDeleted, SecretNotFound

from .audit import AuditTrail, Deed
from .cache import Reading, SecretCache
from .callers import Callers
from .identity import (
    Caller,
    GroupsOverage,
    IdentityError,
    KeysUnavailable,
    NoToken,
    TenantUnknown,
    TokenRefused,
    Verifier,
)
from .keys import KeySet
from .kv import MOST_NAMES, Ask, bare
from .problems import Problem
from .rights import Rights
from .roles import Roles
from .settings import GatewaySettings
from .store import Page, VersionInfo, Written
from .telemetry import GatewayMetrics
from .tenants import ServedTenant, serve_tenants
from .threads import Threads
from .tokens import Description

VERSION = "0.1.0"
REMEMBERED_DECISIONS = 10_000


class Gateway:
    """All that requests are answered with; it belongs to one event loop, and to one process."""

    def __init__(
        self, settings: GatewaySettings, config: VaultConfig, registry: CollectorRegistry, routes: Sequence[str] = ()
    ) -> None:
        """Raises: ConfigurationError."""
        self.settings = settings
        self.metrics = GatewayMetrics(
            registry, version=VERSION, routes=routes, tenants=settings.gateway.tenants, auth_outcomes=AUTH_OUTCOMES
        )
        self._roles = Roles.load(Path(settings.gateway.roles))
        self._held: WeakKeyDictionary[Caller, frozenset[str]] = WeakKeyDictionary()
        # A decision is a function of roles, verb and path alone, so it may be remembered for as long as we run.
        self._allows = lru_cache(REMEMBERED_DECISIONS)(self._roles.allows)
        self._keys = KeySet(settings.identity, fetched=self.metrics.jwks_refresh)
        self._verifier = Verifier(settings.identity, self._keys, settings.gateway.tenants)
        self._cache = SecretCache(settings.cache)
        self._threads = Threads(settings.limits.vault_requests, settings.limits.vault_queue)
        self._rights = Rights()
        self._callers = callers_of(settings, config)
        self._tenants = serve_tenants(settings.gateway, config, self._cache, self._threads)
        self._audit = audit_of(settings, self.metrics)
        self.listens = False
        """Whether the API's listener is there. (That of the metrics comes first.)"""
        self.metrics.watch_cache(lambda: len(self._cache))
        for tenant in self._tenants.values():
            if isinstance(tenant, ServedTenant):
                life = tenant.token_life
                self.metrics.watch_token(tenant.name, lambda life=life: life.seconds_left)  # type: ignore[misc]

    async def start(self) -> None:
        """Fetch the keys and log in; what does not succeed now is tried again."""
        await asyncio.gather(self._keys.start(), *(tenant.start() for tenant in self._tenants.values()))

    async def close(self) -> None:
        """Revoke every token, and forget every secret."""
        self._threads.close()
        self._cache.clear()
        await asyncio.gather(self._keys.close(), *(tenant.close() for tenant in self._tenants.values()))
        if self._callers is not None:
            self._callers.close()
        if self._audit is not None:
            self._audit.close()

    def ready(self) -> dict[str, bool | str]:
        """Whether it is of use: for /readyz, in whatever thread.

        Not whether Vault answers just now: what is cached serves on without it, and all replicas would be unready at
        once. A tenant's token that has run out, which is what becomes of a long outage, does count.
        """
        tokens = {f"token of {tenant.name}": tenant.is_ready or "there is none" for tenant in self._tenants.values()}
        keys = self._keys.ready or "there are none"
        return {"the API": self.listens or "it does not listen yet", "keys of the identity provider": keys, **tokens}

    # ── Who ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def caller_at_hand(self, authorization: Sequence[bytes]) -> Caller | None:
        """The caller, if their token was verified a moment ago. Never waits."""
        caller = self._verifier.peek(authorization)
        if caller is not None:
            self.metrics.auth("ok")
        return caller

    async def caller_of(self, authorization: Sequence[bytes]) -> Caller:
        """The caller. Raises: an IdentityError."""
        try:
            caller = await self._verifier.verify(authorization)
        except IdentityError as error:
            self.metrics.auth(outcome_of(error))
            raise
        self.metrics.auth("ok")
        return caller

    # ── May ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def may(self, caller: Caller, verb: str, path: str) -> bool:
        """What the gateway's own roles say; Vault's policies have a say of their own."""
        allowed = self._allows(self._roles_of(caller), verb, path)
        self.metrics.authz("allow" if allowed else "deny", "rbac")
        return allowed

    def _roles_of(self, caller: Caller) -> frozenset[str]:
        held = self._held.get(caller)
        if held is None:
            held = self._held[caller] = self._roles.of(caller.claims, caller.tenant)
        return held

    def demand(self, caller: Caller, verb: str, path: str) -> None:
        """Raises: Problem, before Vault or the cache is asked: so nobody learns what there is."""
        if not self.may(caller, verb, path):
            raise Problem("forbidden")

    def note(self, deed: Deed) -> None:
        """Write it down. Raises: Problem, if that cannot be done: what is not written down is not done."""
        if self._audit is not None and not self._audit.write(deed):
            raise Problem("audit-unavailable")

    # ── The secret ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_at_hand(self, caller: Caller, path: str, min_version: int = 0) -> Reading | None:
        """The secret, if it is cached and the caller's right to it is known. Never waits."""
        tenant = self._tenants[caller.tenant]
        place = tenant.place_of(path)
        if self._callers is not None and not self._rights.known(caller.digest, place):
            return None
        return tenant.secrets.peek(place, min_version)

    async def read(self, caller: Caller, path: str, min_version: int = 0) -> Reading:
        """The current version. Raises: Problem, or an error of `vaultkit.errors`, as all that follow do."""
        tenant = self._tenants[caller.tenant]
        place, ask = tenant.place_of(path), self._ask_of(caller, "read")
        if ask is None:
            reading = await tenant.secrets.read(place, min_version=min_version)
        else:
            reading = await self._rights.read(caller.digest, place, ask, tenant.secrets, min_version=min_version)
        if reading.version < min_version:
            raise Problem("version-not-reached")
        return reading

    async def read_version(self, caller: Caller, path: str, version: int) -> Reading:
        """An older one."""
        tenant = self._tenants[caller.tenant]
        try:
            return await tenant.secrets.read(tenant.place_of(path), version=version, ask=self._ask_of(caller, "read"))
        except SecretNotFound as error:
            raise no_such_version(error) from None

    @bare  # or its frame would show the values
    async def write(
        self, caller: Caller, path: str, data: Mapping[str, Any], match: str | None, create_only: bool
    ) -> Written:
        """A new version; on the condition that the current one has this ETag, or that there is none."""
        tenant = self._tenants[caller.tenant]
        return await tenant.secrets.write(
            tenant.place_of(path), data, match=match, create_only=create_only, ask=self._ask_of(caller, "write")
        )

    async def delete(self, caller: Caller, path: str, match: str | None) -> None:
        """Delete the current version; older ones stay."""
        tenant = self._tenants[caller.tenant]
        await tenant.secrets.delete(tenant.place_of(path), match=match, ask=self._ask_of(caller, "write"))

    async def roll_back(self, caller: Caller, path: str, version: int, match: str | None) -> Written:
        """Write an old version's values anew, which the caller need not be allowed to read."""
        tenant, ask = self._tenants[caller.tenant], self._ask_of(caller, "write")
        try:
            return await tenant.secrets.roll_back(tenant.place_of(path), version, match=match, ask=ask, reader=ask)
        except SecretNotFound as error:
            raise no_such_version(error) from None

    async def history(self, caller: Caller, path: str) -> list[VersionInfo]:
        """All versions, without values."""
        tenant = self._tenants[caller.tenant]
        return await tenant.secrets.history(tenant.place_of(path), ask=self._ask_of(caller, "read"))

    async def names(self, caller: Caller, prefix: str, after: str, limit: int) -> Page:
        """A page of the names below a prefix that the caller may see; of the others not even `next` tells."""
        tenant, ask = self._tenants[caller.tenant], self._ask_of(caller, "read")
        place, roles = tenant.place_of(prefix), self._roles.of(caller.claims, caller.tenant)
        below = f"{prefix}/" if prefix else ""
        seen: list[str] = []
        page = await tenant.secrets.names(place, after=after, limit=limit + 1, ask=ask)
        while True:
            seen += [name for name in page.names if self._allows(roles, "list", below + name.rstrip("/"))]
            if len(seen) > limit or not page.next:
                return Page(seen[:limit], seen[limit - 1] if len(seen) > limit else "")
            page = await tenant.secrets.names(place, after=page.next, limit=MOST_NAMES, ask=ask)

    async def renew_token(self, caller: Caller) -> TokenInfo:
        """Renew the token by which the secrets of the caller's tenant are read."""
        return await self._tenants[caller.tenant].renew_token()

    def _ask_of(self, caller: Caller, right: Literal["read", "write"]) -> Ask | None:
        """Who asks Vault; None: the tenant's own client."""
        if self._callers is None:
            return None
        return self._callers.ask_as(caller.token, caller.digest, caller.expires, f"{caller.tenant}-{right}")


def callers_of(settings: GatewaySettings, config: VaultConfig) -> Callers | None:
    gateway = settings.gateway
    if gateway.act_as == "service":
        return None
    mode: Literal["inline", "batch"] = "inline" if gateway.caller_login == "inline" else "batch"
    return Callers(config.vault, config.http, mode=mode, mount=gateway.caller_mount, role=gateway.caller_role)


def audit_of(settings: GatewaySettings, metrics: GatewayMetrics) -> AuditTrail | None:
    file = settings.gateway.audit_file
    return AuditTrail(Path(file), on_failure=metrics.audit_failure) if file else None


def no_such_version(error: SecretNotFound) -> Exception:
    """It was deleted, which is known of it; or it never was."""
    return error if isinstance(error, SecretDeleted) else Problem("version-not-found")


# ── What metrics call it ─────────────────────────────────────────────────────────────────────────────────────────────

OUTCOME_OF: dict[type[IdentityError], str] = {
    NoToken: "missing",
    TenantUnknown: "tenant unknown",
    GroupsOverage: "groups overage",
    KeysUnavailable: "keys unavailable",
}
AUTH_OUTCOMES = ("ok", *OUTCOME_OF.values(), *get_args(Description))


def outcome_of(error: IdentityError) -> str:
    return error.description if isinstance(error, TokenRefused) else OUTCOME_OF.get(type(error), "other")
