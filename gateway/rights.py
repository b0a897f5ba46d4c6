"""Who may read what, by Vault's own word of at most half a minute ago: values are shared, the right to them is not.

The right is proven by reading the values as the caller. Their metadata alone would not do: a policy may grant these to
somebody to whom it does not grant the values. It costs nothing more, for what is read so is what the cache then holds.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import OrderedDict

from vaultkit.errors import SecretNotFound, VaultError
from vaultkit.lifetime import Clock, Moment

from .cache import Reading
from .kv import Ask, Secrets, bare
from .places import Place
from .threads import retrieve

PROVEN_SECONDS = 30.0
MOST_RIGHTS = 10_000

Right = tuple[str, Place]
"""The SHA-256 of a JWT, and what may be read with it."""
Answer = Reading | SecretNotFound | VaultError


class Rights:
    """The rights that were proven lately, for one event loop."""

    def __init__(self, seconds: float = PROVEN_SECONDS, most: int = MOST_RIGHTS, *, clock: Clock = time) -> None:
        self._seconds, self._most = min(seconds, PROVEN_SECONDS), most
        self._clock = clock
        self._until: OrderedDict[Right, Moment] = OrderedDict()
        self._asking: dict[Right, asyncio.Task[Answer]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def known(self, digest: str, place: Place) -> bool:
        """Whether the right to read was proven lately. Never waits."""
        until = self._until.get((digest, place))
        return until is not None and not until.has_come(self._clock)

    @bare
    async def prove(self, digest: str, place: Place, ask: Ask, secrets: Secrets) -> Reading | None:
        """Return if the caller may read this secret: before a cached value, an ETag or a stale value is given.

        What Vault was asked for this is returned; None if it need not be asked. Raises: PermissionDenied if it says no,
        CallerRefused, SecretNotFound, NoAnswer if it says nothing: then there is no right.
        """
        if self.known(digest, place):
            self._until.move_to_end((digest, place))
            return None
        right = digest, place
        task = self._asking.get(right)
        if task is None:
            task = self._asking[right] = asyncio.ensure_future(self._ask(right, ask, secrets))
            task.add_done_callback(retrieve)
        await asyncio.wait({task})
        answer = task.result()
        if isinstance(answer, VaultError):
            raise copy.copy(answer)
        return answer

    @bare
    async def read(self, digest: str, place: Place, ask: Ask, secrets: Secrets, *, min_version: int = 0) -> Reading:
        """The current version for a caller whose right to it is proven. Raises: as `prove`."""
        proof = await self.prove(digest, place, ask, secrets)
        return proof or await secrets.read(place, ask=ask, min_version=min_version)

    async def _ask(self, right: Right, ask: Ask, secrets: Secrets) -> Answer:
        asked = Moment.now(self._clock)
        self._until.pop(right, None)
        try:
            answer: Answer = await secrets.read(right[1], ask=ask, fresh=True)
        except SecretNotFound as error:  # which only they are told who may read there
            answer = error
        except VaultError as error:
            return error
        finally:
            del self._asking[right]
        self._until[right] = asked.after(self._seconds)
        while len(self._until) > self._most:
            self._until.popitem(last=False)
        return answer
