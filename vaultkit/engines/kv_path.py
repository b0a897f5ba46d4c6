"""KV v2 wherever it is mounted, by the path of Vault's API: secret/data/db. Cached by version, as all KV is."""

from __future__ import annotations

from dataclasses import replace

from ..errors import SecretNotFound
from ..transport.answers import printable
from .kv import KvEngine, KvSettings

DATA = "/data/"
"""Stands between the mount and the path; the first one, should it come twice."""


class KvPathEngine(KvEngine):
    """Secrets of any mount. It has no section in config.ini, and so no thread: it answers who asks."""

    section = "kv_path"
    title, short_title = "KV path", "KV path"

    @staticmethod
    def settings_like(settings: KvSettings) -> KvSettings:
        """The intervals of [kv_secret]; its mount and paths are its own."""
        return replace(settings, enabled=False, mount="v1", path=())

    def place_of(self, name: str) -> tuple[str, str]:
        mount, found, path = name.partition(DATA)
        if not (mount and found and path):
            raise SecretNotFound(f'"{printable(name)}" is no path of a KV v2 secret: expected MOUNT/data/PATH')
        return mount, path
