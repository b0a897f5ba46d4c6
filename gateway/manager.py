"""Secrets for a program on an event loop, by the paths of Vault's API.

    async with VaultManager(addr="https://vault.example.com", token=token) as vault:
        secret, version = await vault.read_secret("secret/data/myapp")

It stands on a `VaultClient`, which keeps its token alive. What is cached comes at once; all else is asked for in
threads, bounded in number. What the HTTP side needs besides is in `kv.py`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.auth.grant import REVOKE_SECONDS, TokenInfo

from .cache import SecretCache
from .kv import Secrets, bare
from .places import Place
from .store import Page, VersionInfo
from .threads import Threads, in_thread, retrieve

CLOSE_SECONDS = REVOKE_SECONDS + 0.5
"""As long as a token that Vault does not take back may hold up the end."""


class VaultManager(Secrets):
    """Secrets from any KV v2 mount, for one event loop. It logs in by itself when it first needs a token.

    `async with` connects, and at its end closes the manager and its client. Several managers may share a cache and
    threads, which are then not closed with them.
    """

    def __init__(
        self,
        addr: str = "",
        token: str = "",
        namespace: str = "",
        *,
        client: VaultClient | None = None,
        cache: SecretCache | None = None,
        threads: Threads | None = None,
    ) -> None:
        """A manager with a token that was handed to us, or one that stands on a client; the rest as config.ini says.

        Raises: ConfigurationError.
        """
        self.client = client or VaultClient.of(url=addr, token=token, namespace=namespace)
        self._namespace = namespace
        self._owns_cache, self._owns_threads = cache is None, threads is None
        super().__init__(self.client.ask, SecretCache() if cache is None else cache, threads or Threads())

    @classmethod
    def of(
        cls,
        client: VaultClient,
        namespace: str = "",
        *,
        cache: SecretCache | None = None,
        threads: Threads | None = None,
    ) -> VaultManager:
        """A manager that stands on this client, for secrets in this namespace."""
        return cls(namespace=namespace, client=client, cache=cache, threads=threads)

    @classmethod
    def from_settings(
        cls, config: VaultConfig | None = None, *, cache: SecretCache | None = None, threads: Threads | None = None
    ) -> VaultManager:
        """A manager that logs in as config.ini and the environment say. Raises: ConfigurationError."""
        config = config or VaultConfig.load()
        return cls.of(VaultClient(config), config.vault.namespace, cache=cache, threads=threads)

    # ── The token ────────────────────────────────────────────────────────────────────────────────────────────────────

    @bare
    async def connect(self) -> TokenInfo:
        """Log in, and have a thread keep the token alive from now on, also where this first login fails."""
        self.client.keep_alive()
        return await self._threads.run(self.client.get_token_info)

    @bare
    async def renew_token(self) -> TokenInfo:
        """Renew the token now. Raises: PermissionDenied or RequestRejected when Vault does not renew it."""
        return await self._threads.run(self.client.renew_token)

    # ── Secrets, by the path that Vault's API gives them, such as secret/data/myapp ──────────────────────────────────

    async def read_secret(self, path: str) -> tuple[dict[str, Any], int]:
        """The values, which are the caller's own, and their version. Raises: an error of `vaultkit.errors`."""
        reading = await self.read(Place.of(path, self._namespace))
        return copy.deepcopy(dict(reading.data)), reading.version

    async def write_secret(self, path: str, data: Mapping[str, Any], cas: int | None = None) -> int:
        """Write a new version, and give its number; with `cas`, only if that is the last one's, or 0 and there is none.

        Raises: VersionConflict, PreconditionNeeded, or another error of `vaultkit.errors`.
        """
        return (await self.write(Place.of(path, self._namespace), data, cas=cas)).version

    async def delete_secret(self, path: str) -> None:
        """Delete the current version; older ones stay, and can be rolled back to."""
        await self.delete(Place.of(path, self._namespace))

    async def versions(self, path: str) -> Sequence[VersionInfo]:
        """All versions that Vault still knows of, the oldest first, without values."""
        return await self.history(Place.of(path, self._namespace))

    async def rollback(self, path: str, version: int, cas: int | None = None) -> int:
        """Write the values of an old version as a new one, and give its number."""
        return (await self.roll_back(Place.of(path, self._namespace), version, cas=cas)).version

    async def list(self, prefix: str, after: str = "", limit: int = 100) -> Page:
        """A page of the names below secret/data or secret/data/team; for the next one, `after` is its `next`."""
        return await self.names(Place.of_prefix(prefix, self._namespace), after=after, limit=limit)

    # ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def close(self) -> None:
        """Revoke the token if it is ours, and forget every secret; in at most CLOSE_SECONDS. Safe to call again."""
        if self._owns_threads:
            self._threads.close()
        if self._owns_cache:
            self._cache.clear()
        closing = asyncio.ensure_future(in_thread(self.client.close))
        closing.add_done_callback(retrieve)
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        closing.cancel()

    async def __aenter__(self) -> VaultManager:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
