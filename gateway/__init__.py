"""The secrets gateway: a JWT in, a secret out, and nobody's Vault token in between.

`VaultManager` is its asyncio side, usable without HTTP; `gateway/api` is HTTP.
"""

from .manager import VaultManager

__all__ = ["VaultManager"]
