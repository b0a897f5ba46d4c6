"""Who makes new keys. A provider is a file with a class: make, test, retire. That file and a line here are all of it.

A key has a label, which is no secret, and by which it is known before it is made: so whoever finds a rotation half
done knows which key to look for. A provider has room for two keys at once, or who has the old one fails meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

Values = Mapping[str, str]
"""The properties of a secret in Vault."""
PROVIDERS = {"postgres": "catalogue.providers.postgres:PostgresProvider"}


class ProviderError(Exception):
    """The provider did not do it. Never with a value in its words."""


class Provider(Protocol):
    """Makes keys, tries them, and takes them back."""

    def label(self, values: Values) -> str:
        """Which key these values are."""

    def next(self, label: str) -> str:
        """The label of the key that is to follow that one."""

    def make(self, label: str) -> dict[str, str]:
        """The values of a key with this label. Whatever had it before is no good any more. Raises: ProviderError."""

    def test(self, values: Values) -> None:
        """Raises: ProviderError, if these values do not let in."""

    def retire(self, label: str) -> None:
        """Make the key useless; one that is not there is. Raises: ProviderError."""


def provider(name: str) -> Provider:
    """The provider of this name, which reads its settings from the environment. Raises: ProviderError."""
    if name not in PROVIDERS:
        raise ProviderError(f"there is no provider {name or '(none)'}; there are {', '.join(sorted(PROVIDERS))}")
    module, _, kind = PROVIDERS[name].partition(":")
    found: Provider = getattr(import_module(module), kind)()
    return found
