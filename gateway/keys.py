"""The identity provider's keys, fetched in the background and looked up without waiting.

    keys = KeySet(settings.identity)
    await keys.start()
    keys.find(kid) or await keys.wanted(kid)
    await keys.close()

Anybody can send a JWT that names a key which nobody knows. So a key that is missing is asked for only once in a while,
whether that fetch succeeds or fails, and all who want one wait for the same fetch, and not for long. While the provider
is away, the keys that are there serve on for a time. A key that it withdraws is gone with the next fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import jwt

from vaultkit.lifetime import LONG_AGO, Clock, Moment
from vaultkit.shield import log_unexpected

from .key_source import Jwk, KeysNotFetched, KeySource, key_of
from .settings import IdentitySettings
from .threads import in_thread

PATIENCE_SECONDS = 1.0
"""So long a caller whose key is not known waits for a fetch."""
START_SECONDS = 5.0
"""So long the start waits for the first one."""

log = logging.getLogger(__name__)


class KeySet:
    """The keys of one provider; it belongs to one event loop."""

    def __init__(
        self,
        settings: IdentitySettings,
        *,
        clock: Clock = time,
        fetched: Callable[[str], object] = lambda outcome: None,
    ) -> None:
        """`fetched` hears how each fetch ended: "ok" or "failed"."""
        self.generation = 0
        """Counts the changes of the set."""
        self.fetches = 0
        self.failures = 0
        self._settings = settings
        self._source = KeySource(settings)
        self._tell = fetched
        self._clock = clock
        self._jwks: Mapping[str, Jwk] = {}
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = LONG_AGO
        self._tried = LONG_AGO
        self._fetching: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch them, and go on doing so. A provider that does not answer now may do so later."""
        await asyncio.wait({self._fetch()}, timeout=START_SECONDS)
        self._keeper = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        """Fetch no more. A thread that waits for the provider ends by itself, and keeps nobody."""
        tasks = [task for task in (self._keeper, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether there is a key, of a set that is not too old."""
        return bool(self._keys) and self._fetched.age(self._clock) <= self._settings.keys_max_stale

    def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of this name, at once; the same object as long as the key is the same."""
        return self._keys.get(kid) if self.ready else None

    async def wanted(self, kid: str) -> jwt.PyJWK | None:
        """The key of this name, which may only now have come: fetched if it is time, and waited for a moment."""
        if self._fetching is not None or self._tried.age(self._clock) >= self._settings.keys_cooldown:
            await asyncio.wait({self._fetch()}, timeout=PATIENCE_SECONDS)
        return self.find(kid)

    def _fetch(self) -> asyncio.Task[None]:
        """The fetch that is under way, or a new one."""
        if self._fetching is None:
            self._tried = Moment.now(self._clock)
            self._fetching = asyncio.create_task(self._fetch_now())
        return self._fetching

    async def _keep_fresh(self) -> None:
        while True:
            left = self._interval() - self._tried.age(self._clock)
            if left > 0:
                await asyncio.sleep(left)  # and look again: a caller may have wanted a fetch meanwhile
            else:
                await asyncio.wait({self._fetch()})

    def _interval(self) -> float:
        has_failed = self._fetched != self._tried
        usual = self._settings.keys_refresh
        return min(self._settings.keys_cooldown, usual) if has_failed else usual

    async def _fetch_now(self) -> None:
        self.fetches += 1
        try:
            self._take(await in_thread(self._source.fetch))
            self._tell("ok")
        except KeysNotFetched as error:
            self._failed()
            log.warning("the keys of %s could not be fetched: %s", self._settings.issuer, error)
        except Exception as error:  # noqa: BLE001  # or the keys would grow old without a word
            self._failed()
            log_unexpected("the keys of the identity provider", error)
        finally:
            self._fetching = None

    def _failed(self) -> None:
        self.failures += 1
        self._tell("failed")

    def _take(self, jwks: Mapping[str, Jwk]) -> None:
        self._fetched = self._tried
        if jwks == self._jwks:
            return
        unchanged = {kid: self._keys[kid] for kid in jwks if jwks[kid] == self._jwks.get(kid)}
        made = {kid: unchanged.get(kid) or key_of(jwk, self._settings.algorithms) for kid, jwk in jwks.items()}
        self._jwks, self._keys = jwks, {kid: key for kid, key in made.items() if key is not None}
        self.generation += 1
        log.info("%s has %d keys, of which %d are new", self._settings.issuer, len(made), len(made) - len(unchanged))
        if not made:
            log.warning("%s has no key that can be used here, so no token is accepted", self._settings.issuer)
