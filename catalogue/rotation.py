"""Replaces a provider's key: made, written, waited for, and only then the old one is taken back.

Each step is written down before it is done, so that a crash anywhere is resumed by whoever comes next. The journal and
the secret are written with check-and-set: of two who rotate, one goes on.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from catalogue.cluster import Cluster
from catalogue.entries import Place, Stored
from catalogue.journal import DONE, MAKING, RETIRING, WAITING, Journal, Rotation
from catalogue.kv import Kv, Overtaken
from catalogue.providers import Provider

POLL_SECONDS = 5.0
audit = logging.getLogger("catalogue.audit")


class RotationError(Exception):
    """The rotation does not go on. Nothing was retired; run it again when the reason is gone."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds."""

    grace: float
    """That the old key stays good after all have the new version: pods must read it, and it may be seen early."""
    wait: float = 900.0
    """For all to have it; then it is left as it is, to be gone on with."""
    hold: float = 120.0
    """Without a word from the process that is at it, before another takes over."""
    poll: float = POLL_SECONDS


class Rotator:
    """Rotates one secret. Raises, besides RotationError: ProviderError, ClusterError, and the errors of `vaultkit`."""

    def __init__(
        self, kv: Kv, cluster: Cluster, provider: Provider, place: Place, entry: Stored, patience: Patience,
        *, on_step: Callable[[str], None] = lambda step: None,
    ) -> None:  # fmt: skip
        self._kv, self._cluster, self._provider, self._patience = kv, cluster, provider, patience
        self._place, self._path = place, place.key_of(entry)
        self._entry, self._on_step = entry, on_step
        self._journal, self._holder = Journal(kv), secrets.token_hex(8)

    def rotate(self) -> Rotation:
        """Begin, or go on with what was begun, to its end."""
        try:
            rotation = self._begin()
            for state, step in ((MAKING, self._make), (WAITING, self._wait), (RETIRING, self._retire)):
                if rotation.state == state:
                    rotation = step(rotation)
        except Overtaken as error:
            raise RotationError(str(error)) from None
        return rotation

    def _record(self, rotation: Rotation, **changes: Any) -> Rotation:
        until = time.time() + self._patience.hold
        return self._journal.write(self._path, replace(rotation, holder=self._holder, until=until, **changes))

    def _begin(self) -> Rotation:
        known, version = self._journal.read(self._path), self._kv.read(self._path)
        if known is None or known.state == DONE:
            old = self._provider.label(version.values)
            known = Rotation(
                state=MAKING, holder="", until=0.0, label=self._provider.next(old), old=old, from_version=version.number
            )
        elif known.until > time.time():
            raise RotationError(f"{self._path} is being rotated by another process; it may be gone on with in "
                                f"{known.until - time.time():.0f} s")  # fmt: skip
        rotation = self._record(known)
        self._on_step("begun")
        return rotation

    def _make(self, rotation: Rotation) -> Rotation:
        """Whether the last one came as far as writing tells the secret itself: it has the label."""
        version = self._kv.read(self._path)
        if self._provider.label(version.values) != rotation.label:
            if version.number != rotation.from_version:
                self._give_up(rotation)
            made = self._provider.make(rotation.label)
            self._on_step("made")
            self._provider.test(made)
            rotation = self._record(rotation)  # who was overtaken while it made a key must not write it
            number = self._kv.write(self._path, {**version.values, **made}, over=rotation.from_version)
            self._on_step("written")
        else:
            number = version.number
        rotation = self._record(rotation, state=WAITING, version=number)
        self._on_step("recorded")
        return rotation

    def _give_up(self, rotation: Rotation) -> None:
        """Somebody has written the secret by hand: what was made for it is of no use, and what they wrote stays."""
        self._provider.retire(rotation.label)
        self._record(rotation, state=DONE)
        self._tell(rotation, "given up")
        raise RotationError(f"{self._path} was written by somebody else meanwhile; the key that was made is retired")

    def _wait(self, rotation: Rotation) -> Rotation:
        """Until every Secret shows the version, and for the grace period from then on."""
        end, pause = time.monotonic() + self._patience.wait, threading.Event()
        while not rotation.seen_at:
            behind = self._behind(rotation.version)
            if not behind:
                rotation = self._record(rotation, seen_at=time.time())
                self._on_step("seen")
                break
            if time.monotonic() > end:
                raise RotationError(f"{self._path}: {', '.join(behind)} did not show version {rotation.version} yet")
            pause.wait(self._patience.poll)
            rotation = self._record(rotation)
        while (left := rotation.seen_at + self._patience.grace - time.time()) > 0:
            pause.wait(min(left, self._patience.hold / 4 or left))
            rotation = self._record(rotation)
        rotation = self._record(rotation, state=RETIRING)
        self._on_step("waited")
        return rotation

    def _behind(self, version: int) -> list[str]:
        """The Secrets made of this key that do not have it."""
        namespace = self._place.namespace
        users = {self._entry.name, *self._cluster.users_of(namespace, self._path)}
        shown = {each.name: each.version for each in self._cluster.secrets(namespace)}
        return sorted(f"{namespace}/{name}" for name in users if shown.get(name, 0) < version)

    def _retire(self, rotation: Rotation) -> Rotation:
        """Not before what is in Vault now was seen to let in, and is not the old one again."""
        values = self._kv.read(self._path).values
        if self._provider.label(values) == rotation.old:
            raise RotationError(f"{self._path} has the old key again; nothing is retired")
        self._provider.test(values)
        self._provider.retire(rotation.old)
        self._on_step("retired")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._kv.note(self._path, {"rotated_at": now})
        self._on_step("noted")
        rotation = self._record(rotation, state=DONE)
        self._tell(rotation, "done")
        return rotation

    def _tell(self, rotation: Rotation, outcome: str) -> None:
        """One line for each rotation. Labels are no secrets."""
        about = {"event": "rotation", "path": self._path, "outcome": outcome, "provider": self._entry.provider}
        about |= {"old": rotation.old, "new": rotation.label, "by": rotation.holder}
        audit.warning(json.dumps({**about, "from_version": rotation.from_version, "version": rotation.version}))
