"""The tenants: where the secrets of each are, and who asks Vault for them.

With act_as = service each tenant has an AppRole, and so a client, of its own: what one may read, no mistake of ours
gives to another. With act_as = caller nobody asks but the callers, and no token is held here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from config_loader import DEFAULT_PATH, SECTIONS, VaultConfig, read
from vault_client import VaultClient
from vaultkit.auth.grant import TokenInfo
from vaultkit.errors import ConfigurationError, PermissionDenied, RequestRejected, VaultError
from vaultkit.events import Event, LoggedIn, TokenLeft, TokenLost, TokenRenewed, TokenRevoked
from vaultkit.lifetime import LONG_AGO, Clock, Moment
from vaultkit.shield import log_error

from .cache import SecretCache
from .kv import Secrets
from .manager import VaultManager
from .places import Place
from .problems import Problem
from .settings import ServerSettings
from .threads import Threads

START_SECONDS = 5.0
"""So long the start waits for the first token."""
RENEWAL_SECONDS = 5.0
"""So long the answer to one request for a renewal does for all others."""

log = logging.getLogger(__name__)


def vault_config(environ: Mapping[str, str] | None = None) -> VaultConfig:
    """Where Vault is, as config.ini says; who logs in there is a tenant's matter. Raises: ConfigurationError."""
    found = read(DEFAULT_PATH, os.environ if environ is None else environ, to_log_in=False)
    settings = {section: found[section] for section in SECTIONS}
    return VaultConfig(**{**settings, "vault": replace(found["vault"], auth_method="approle")})


class TokenLife:
    """A listener that knows what is left of a client's token, without asking anybody."""

    def __init__(self, clock: Clock = time) -> None:
        self._clock = clock
        self._ends = LONG_AGO

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends.left(self._clock))

    def __call__(self, event: Event) -> None:
        if isinstance(event, (LoggedIn, TokenRenewed)):
            self._ends = Moment.now(self._clock).after(event.ttl)
        elif isinstance(event, (TokenLost, TokenRevoked, TokenLeft)):
            self._ends = LONG_AGO


class Tenant:
    """One tenant's secrets."""

    def __init__(self, name: str, place: Place, secrets: Secrets) -> None:
        self.name = name
        self._place = place
        self.secrets = secrets

    def place_of(self, path: str) -> Place:
        """Where the secret is that the tenant's own callers call by this path; nothing in it leads out again."""
        return self._place.below(path)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    @property
    def is_ready(self) -> bool:
        return True

    async def renew_token(self) -> TokenInfo:
        """Raises: Problem, where there is none to renew."""
        raise Problem("token-not-renewable", "the gateway holds no token: it asks Vault as its callers")


class ServedTenant(Tenant):
    """A tenant with a client of its own."""

    def __init__(self, name: str, place: Place, manager: VaultManager, clock: Clock = time) -> None:
        super().__init__(name, place, manager)
        self._manager = manager
        self._clock = clock
        self._renewal: asyncio.Task[TokenInfo] | None = None
        self._renewed = LONG_AGO
        self.token_life = TokenLife(clock)
        manager.client.listen(self.token_life)

    async def start(self) -> None:
        """Log in. What does not succeed soon is tried again, and /readyz says so; others are served meanwhile."""
        try:
            await asyncio.wait_for(self._manager.connect(), START_SECONDS)
        except asyncio.TimeoutError:
            log.warning("tenant %s: no token within %g s; it is served when there is one", self.name, START_SECONDS)
        except VaultError as error:
            log_error(f"tenant {self.name}", error)

    async def close(self) -> None:
        await self._manager.close()

    @property
    def is_ready(self) -> bool:
        return self.token_life.seconds_left > 0

    async def renew_token(self) -> TokenInfo:
        """Renew the tenant's token, once however many ask. Raises: Problem, if Vault does not renew it."""
        if self._renewal is None or self._renewed.age(self._clock) >= RENEWAL_SECONDS:
            self._renewed = Moment.now(self._clock)
            self._renewal = asyncio.ensure_future(self._manager.renew_token())
        await asyncio.wait({self._renewal})
        try:
            return self._renewal.result()
        except (PermissionDenied, RequestRejected):
            raise Problem("token-not-renewable") from None


def serve_tenants(
    settings: ServerSettings, config: VaultConfig, cache: SecretCache, threads: Threads
) -> dict[str, Tenant]:
    """All tenants, by name. Raises: ConfigurationError."""
    if settings.act_as == "caller":
        asked_by_callers = Secrets(nobody_asks, cache, threads)
        return {name: Tenant(name, settings.place_of(name), asked_by_callers) for name in settings.tenants}
    return {name: _served(name, settings, config, cache, threads) for name in settings.tenants}


def _served(
    name: str, settings: ServerSettings, config: VaultConfig, cache: SecretCache, threads: Threads
) -> ServedTenant:
    place = settings.place_of(name)
    login = replace(
        config.vault,
        namespace=place.namespace or config.vault.namespace,
        role_id=settings.role_id_of(name, config.vault.entity),
        secret_id="",
        secret_id_file=settings.secret_id_file_of(name, config.vault.entity),
        wrapped_secret_id="",
        wrapped_secret_id_file="",
    )
    client = VaultClient(replace(config, vault=login))
    return ServedTenant(name, place, VaultManager.of(client, place.namespace, cache=cache, threads=threads))


def nobody_asks(_: Any) -> NoReturn:
    raise ConfigurationError(["act_as = caller: Vault is asked as a caller alone"])
