"""The secrets gateway: a JWT in, a secret out. `VaultManager` is the asyncio side of it, usable without HTTP."""

from .manager import VaultManager

__all__ = ["VaultManager"]
