"""The commands that need Vault: rotate, noted, overdue, drift. As whom to log in say config.ini and the environment."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from catalogue import drift
from catalogue.cluster import ClusterError, cluster
from catalogue.entries import Catalogue, Place, Stored
from catalogue.kv import Ask, Kv
from catalogue.overdue import dues, samples
from catalogue.providers import PROVIDERS, ProviderError, provider
from catalogue.rendered import Sample, exposed
from catalogue.rotation import Patience, RotationError, Rotator
from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.errors import ConfigurationError, VaultError

OK, FAILED, MISCONFIGURED = 0, 1, 2


@contextmanager
def vault() -> Iterator[Ask]:
    with VaultClient(VaultConfig.load()) as client:
        yield client.ask


def rotate(catalogue: Catalogue, options: argparse.Namespace) -> int:
    """One secret, or whatever is late and has a provider here. One that fails does not keep the others."""
    with vault() as ask:
        kv = Kv(ask, catalogue.vault.kv)
        paths = [options.path] if options.path else late_ones(kv, options.environment)
        failed = []
        for number, path in enumerate(paths, start=1):
            if not rotated(catalogue, kv, path, options, f"{number} of {len(paths)}, {path}"):
                failed.append(path)
    print(f"{len(paths) - len(failed)} of {len(paths)} rotated")
    return FAILED if failed else OK


def late_ones(kv: Kv, environment: str) -> list[str]:
    found = dues(kv.known_below(environment), time.time())
    return [each.path for each in found if each.is_late and each.provider in PROVIDERS]


def rotated(catalogue: Catalogue, kv: Kv, path: str, options: argparse.Namespace, which: str) -> bool:
    place, entry = named(catalogue, path)
    grace = entry.refresh if options.grace is None else options.grace
    patience = Patience(grace=grace, wait=options.wait, hold=options.hold)
    try:
        makes = provider(options.provider or entry.provider)
        Rotator(kv, cluster(), makes, place, entry, patience, on_step=lambda step: tell(which, step)).rotate()
    except (RotationError, ProviderError, ClusterError, VaultError) as error:
        print(f"catalogue: {path}: {error}", file=sys.stderr)
        return False
    return True


NEXT = {
    "begun": "making a new key",
    "recorded": "waiting until all have it",
    "seen": "all have it; the old key stays good for the grace period",
    "waited": "retiring the old key",
}
"""After which steps something is told, for it may take long, and what then begins."""


def tell(which: str, step: str) -> None:
    if step in NEXT:
        print(f"catalogue: {which}: {NEXT[step]}", file=sys.stderr, flush=True)


def named(catalogue: Catalogue, path: str) -> tuple[Place, Stored]:
    """The entry that is at this path of the KV mount. Raises: ConfigurationError."""
    for place in catalogue.places:
        for entry in place.stored:
            if place.key_of(entry) == path:
                return place, entry
    raise ConfigurationError([f"{path} is of no entry of {catalogue.file}; expected ENVIRONMENT/SERVICE/PATH"])


def noted(catalogue: Catalogue, options: argparse.Namespace) -> int:
    """That people have replaced what no provider can."""
    place, entry = named(catalogue, options.path)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with vault() as ask:
        Kv(ask, catalogue.vault.kv).note(place.key_of(entry), {"rotated_at": now})
    print(f"{options.path}: rotated_at {now}")
    return OK


def overdue(catalogue: Catalogue, options: argparse.Namespace) -> int:
    with vault() as ask:
        found = dues(Kv(ask, catalogue.vault.kv).known_below(options.environment), time.time())
    shown = found if options.all else [each for each in found if each.is_late]
    for each in shown:
        print(f"{each.path}  {each.owner}  {each.text}")
    into_file(options.metrics, samples(found))
    return FAILED if any(each.is_late for each in found) else OK


def compare(catalogue: Catalogue, options: argparse.Namespace) -> int:
    with vault() as ask:
        found = drift.report(catalogue, options.environment, ask, cluster())
    for each in found.drifts:
        print(each)
    into_file(options.metrics, found.samples(time.time()))
    return FAILED if found.drifts else OK


def into_file(path: Path | None, found: Iterable[Sample]) -> None:
    """By a rename, so that no half of it is ever read."""
    if path is None:
        return
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(exposed(found), encoding="utf-8")
    half.replace(path)
