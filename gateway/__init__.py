"""The secrets gateway: a JWT in, a secret out, and nobody's Vault token in between.

`VaultManager` is its asyncio side, usable without HTTP; `gateway/api` is HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .manager import VaultManager

__all__ = ["VaultManager"]


def __getattr__(name: str) -> Any:
    """Import it when it is asked for: so `python -m gateway` hears a Ctrl+C before it imports all that it needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .manager import VaultManager

    return VaultManager
