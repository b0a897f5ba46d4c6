"""KV v2 secrets by their place, for an event loop: read through the cache, written past it, history and lists.

Who asks Vault is said by `ask`, a function that makes a request with somebody's token, as `VaultClient.ask` does: so
several clients, and callers who come with tokens of their own, share one cache.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import hvac

from vaultkit.errors import VaultError
from vaultkit.lifetime import Clock
from vaultkit.shield import without_frames

from . import store
from .cache import Reading, SecretCache
from .places import Place
from .store import Found, Page, VersionInfo, Written
from .threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

Ask = Callable[[Callable[[hvac.Client], Any]], Any]
"""Makes a request with a token, in the thread that calls it."""
MOST_NAMES = 1000
"""On one page of a list."""


def bare(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a VaultError leave a coroutine without the frames below, whose variables hold values and tokens (P1)."""

    @wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except VaultError as error:
            without = error.with_traceback(None)
        without.__context__ = None
        del args, kwargs
        raise without

    return guarded


class Secrets:
    """The secrets that one client may ask for, or whoever else asks."""

    def __init__(self, ask: Ask, cache: SecretCache, threads: Threads, *, clock: Clock = time) -> None:
        self._ask = ask
        self._cache = cache
        self._threads = threads
        self._clock = clock

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def peek(self, place: Place, min_version: int = 0) -> Reading | None:
        """The secret if it is cached, and fresh or known to be stale; else None. Never waits, takes no lock."""
        return self._cache.peek(place, min_version)

    @bare
    async def read(
        self,
        place: Place,
        *,
        ask: Ask | None = None,
        version: int | None = None,
        min_version: int = 0,
        fresh: bool = False,
    ) -> Reading:
        """The current version, from the cache where that is right; or another `version`, never from the cache.

        What is older than `min_version` is asked for anew: for who has just written through another gateway. With
        `fresh` the values are asked for now, as whoever asks. The cache is shared: who is given what stands in it must
        have the right to it (`gateway.callers`). Raises: an error of `vaultkit.errors`, as all that follow do.
        """
        if version is None:
            return await self._cache.get(place, partial(self._fetch, ask), min_version=min_version, fresh=fresh)
        found = await self._run(lambda api: store.read(api, place, version), ask)
        return Reading(found.data, found.version, found.created, 0.0, False, "bypass")

    async def _fetch(self, ask: Ask | None, place: Place, known: Found | None) -> Found:
        return await self._run(lambda api: store.refreshed(api, place, known, self._clock), ask)

    # ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @bare
    async def write(
        self,
        place: Place,
        data: Mapping[str, Any],
        *,
        ask: Ask | None = None,
        cas: int | None = None,
        match: str | None = None,
        create_only: bool = False,
    ) -> Written:
        """A new version, on one condition at most: the last version's number, the current one's ETag, or no secret.

        Raises: VersionConflict, PreconditionNeeded. After NoAnswer nobody knows whether it was written: read it anew.
        """
        if match is not None:
            return await self._change(
                place, lambda api: store.write_matching(api, place, data, match, self._clock), ask
            )
        if create_only:
            return await self._change(place, lambda api: store.create(api, place, data, self._clock), ask)
        return await self._change(place, lambda api: store.write(api, place, data, cas), ask)

    @bare
    async def delete(self, place: Place, *, match: str | None = None, ask: Ask | None = None) -> None:
        """Delete the current version; older ones stay, and can be rolled back to. Of what is not there: nothing.

        With `match`, only if that is its ETag. Raises: VersionConflict.
        """
        if match is not None:
            await self._change(place, lambda api: store.delete_matching(api, place, match, self._clock), ask)
        else:
            await self._change(place, lambda api: store.delete(api, place), ask)

    @bare
    async def roll_back(
        self,
        place: Place,
        version: int,
        *,
        ask: Ask | None = None,
        reader: Ask | None = None,
        cas: int | None = None,
        match: str | None = None,
    ) -> Written:
        """Write the values of an old version as a new one.

        They are read by `reader` (the client), and never shown: so whoever may write need not be one who may read. What
        was written since this began is not written over. Raises: SecretDeleted for a version that is gone,
        SecretNotFound for one that never was, VersionConflict.
        """
        old: Found = await self._run(lambda api: store.read(api, place, version), reader)
        if cas is None and match is None:
            cas = (await self._run(lambda api: store.facts(api, place, self._clock), reader)).last
        return await self.write(place, old.data, ask=ask, cas=cas, match=match)

    # ── History and lists ────────────────────────────────────────────────────────────────────────────────────────────

    @bare
    async def history(self, place: Place, *, ask: Ask | None = None) -> list[VersionInfo]:
        """All versions that Vault still knows of, the oldest first."""
        found: store.Facts = await self._run(lambda api: store.facts(api, place, self._clock), ask)
        return found.versions

    @bare
    async def names(self, place: Place, *, after: str = "", limit: int = 100, ask: Ask | None = None) -> Page:
        """A page of the names below a place, in order; never from the cache."""
        most = max(1, min(limit, MOST_NAMES))
        page: Page = await self._run(lambda api: store.names_below(api, place, after, most), ask)
        return page

    # ── One question ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, request: Callable[[hvac.Client], T], ask: Ask | None) -> T:
        result: T = await self._threads.run(partial(without_frames(ask or self._ask), request))
        return result

    async def _change(self, place: Place, request: Callable[[hvac.Client], T], ask: Ask | None) -> T:
        """A request that may change the secret: whatever comes of it, and whenever, what was read before is over."""
        call = partial(without_frames(ask or self._ask), request)
        result: T = await self._threads.run(call, ended=lambda: self._cache.forget(place))
        return result
