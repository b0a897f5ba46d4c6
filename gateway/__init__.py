"""The secrets gateway: a JWT in, a secret out, and nobody's Vault token in between.

`VaultManager` is its asyncio side, usable without HTTP; `gateway/api` is HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .manager import VaultManager

__all__ = ["VaultManager"]


def __getattr__(name: str) -> Any:
    """Import it when it is asked for: `python -m gateway` is to have its signals in order before it imports much."""
    if name != "VaultManager":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .manager import VaultManager

    return VaultManager
