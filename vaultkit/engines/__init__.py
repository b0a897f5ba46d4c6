"""The secret engines, each a file: its settings, its caching strategy, its words."""

from typing import Any

from .cache import SecretEngine
from .database import DatabaseDynamicSettings, DatabaseStaticSettings, DynamicEngine, StaticEngine
from .kv import KvEngine, KvSettings
from .kv_path import KvPathEngine
from .kv_prefix import KvPrefixEngine
from .pki import PkiEngine

__all__ = [
    "ALL_ENGINES",
    "ENGINES",
    "DatabaseDynamicSettings",
    "DatabaseStaticSettings",
    "DynamicEngine",
    "KvEngine",
    "KvPathEngine",
    "KvSettings",
    "SecretEngine",
    "StaticEngine",
]

ENGINES: dict[str, type[SecretEngine[Any]]] = {
    engine.section: engine
    for engine in (
        KvEngine,
        KvPrefixEngine,  # takes the place of KvEngine; without this line KV goes on, and knows no prefixes
        DynamicEngine,
        StaticEngine,
        PkiEngine,
    )
}
"""Those of config.ini, each with a section and, in the application, a thread."""

ALL_ENGINES: dict[str, type[SecretEngine[Any]]] = {**ENGINES, KvPathEngine.section: KvPathEngine}
"""What a client has."""
