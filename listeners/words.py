"""How engines, secrets and lifetimes are spoken of. Each engine's class brings its own title, icon and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaultkit.engines import ENGINES, SecretEngine
from vaultkit.secret import Secret
from vaultkit.transport.answers import printable


@dataclass(frozen=True)
class UnknownEngine:
    """How an engine is spoken of that is not one of ENGINES."""

    title: str
    icon: str = "🔒"

    @property
    def short_title(self) -> str:
        return self.title

    @staticmethod
    def words_of_change(previous: Secret, secret: Secret) -> str:
        return "secret changed"


def engine_named(section: str) -> type[SecretEngine[Any]] | UnknownEngine:
    """The engine's class, which says how it is spoken of."""
    return ENGINES.get(section) or UnknownEngine(section)


def state(engine: str, secrets: Sequence[Secret]) -> str:
    """What is held of an engine: unchanged, or stale, or how long it is good for."""
    stale = sum(secret.stale for secret in secrets)
    title = engine_named(engine).short_title
    ttls = [secret.ttl for secret in secrets if secret.ttl is not None]
    if ttls:
        return f"{title} TTL {span(ttls)}{' (stale)' if stale else ''}"
    if len(secrets) == 1:
        return f"{title} secret {'stale' if stale else 'unchanged'} {facts(secrets[0])}"
    count = f"{len(secrets):,} secrets"
    return f"{title}: {stale:,} of {count} stale" if stale else f"{title}: {count} unchanged"


def span(ttls: Sequence[float]) -> str:
    """Of several the first and the last to end."""
    ends = dict.fromkeys([seconds(min(ttls)), seconds(max(ttls))])
    return " to ".join(ends)


def seconds(duration: float) -> str:
    """Whole seconds, as a TTL is read: 60s while the sixtieth second runs."""
    return "no end" if math.isinf(duration) else f"{math.ceil(duration)}s"


def facts(secret: Secret) -> str:
    return f"(version {secret.version})" if secret.ttl is None else f"(TTL: {seconds(secret.ttl)})"


def credentials(values: Mapping[str, Any]) -> str:
    """The values one a line, the username first; of what spans several, such as a key, the first alone."""
    ordered = sorted(values, key=lambda key: (key != "username", key))
    return "\n".join(f"  {key}: {printable(next(iter(str(values[key]).splitlines()), ''))}" for key in ordered)
