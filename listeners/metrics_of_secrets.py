"""What is held of secrets, in figures for Prometheus: how many, how old, how long they last.

They are told by the names that config.ini has. So `team/*` is one name, however many secrets are below it, and whoever
writes there makes no new series. Of a secret its facts are kept and no value (P1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vaultkit.events import TurnTaken
from vaultkit.lifetime import Clock, Moment
from vaultkit.secret import Secret
from vaultkit.settings import is_prefix

OTHER = "other"
MOST_NAMES = 200
"""So many secrets of an engine have figures of their own; the others share those of `other`."""


class Facts(NamedTuple):
    """Of a secret, without its values: they shall not live longer here than in the client's cache."""

    seen: Moment
    """When a turn last held it, not stale."""
    stale: bool
    version: int | None
    expires: Moment | None


class EngineFigures:
    """The facts of what one engine holds. Its worker's thread writes, a scrape reads `held`."""

    def __init__(self, names: Sequence[str], clock: Clock) -> None:
        self.clock = clock
        self.held: Mapping[str, Facts] = {}
        """As of the last turn, by the secret's own name."""
        self._read: dict[str, Facts] = {}
        self._names = frozenset(names[:MOST_NAMES])
        self._prefixes = sorted((name for name in self._names if is_prefix(name)), key=len, reverse=True)

    def read(self, secret: Secret) -> None:
        self._read[secret.name] = self._facts(secret)

    def end_turn(self, turn: TurnTaken) -> None:
        """What was neither read nor kept is not held any more."""
        read, self._read = self._read, {}
        self.held = read | {secret.name: self._facts(secret) for secret in turn.kept}

    def _facts(self, secret: Secret) -> Facts:
        before, seen = self.held.get(secret.name), Moment.now(self.clock)
        if secret.stale and before is not None:
            seen = before.seen
        return Facts(seen, secret.stale, secret.version, secret.expires)

    def by_label(self) -> dict[str, list[Facts]]:
        """What is held, by the names of config.ini."""
        grouped: dict[str, list[Facts]] = {}
        for name, facts in self.held.items():
            grouped.setdefault(self._label(name), []).append(facts)
        return grouped

    def _label(self, name: str) -> str:
        """The name as config.ini has it: its own, or that of the prefix that it is below."""
        if name in self._names:
            return name
        return next((prefix for prefix in self._prefixes if name.startswith(prefix[:-1])), OTHER)


class SecretsCollector(Collector):
    """The figures of what is held, reckoned when they are asked for."""

    def __init__(self, engines: Mapping[str, EngineFigures]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        family = partial(GaugeMetricFamily, labels=["engine", "name"])
        held = family("vault_app_secrets", "How many secrets are held under this name.")
        stale = family("vault_app_secrets_stale", "How many of them serve on while Vault gives no answer.")
        age = family("vault_app_secret_age_seconds", "Since a turn last held it, not stale; of several the most.")
        ttl = family("vault_app_secret_ttl_seconds", "Until its lease or password ends; of several the least.")
        version = family("vault_app_secret_version", "The version of a KV secret that has a name of its own.")
        for engine, figures in list(self._engines.items()):
            for name, facts in figures.by_label().items():
                labels = [engine, name]
                held.add_metric(labels, len(facts))
                stale.add_metric(labels, sum(each.stale for each in facts))
                age.add_metric(labels, max(0.0, *(each.seen.age(figures.clock) for each in facts)))
                if ends := [each.expires.left(figures.clock) for each in facts if each.expires is not None]:
                    ttl.add_metric(labels, min(ends))
                if len(facts) == 1 and name != OTHER and not is_prefix(name) and facts[0].version is not None:
                    version.add_metric(labels, facts[0].version)
        yield from (held, stale, age, ttl, version)
