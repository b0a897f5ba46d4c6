"""Where a secret is: namespace, mount and path, each by itself, for none of them to reach into another."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from vaultkit.engines.kv_path import DATA
from vaultkit.errors import SecretNotFound
from vaultkit.settings import is_path
from vaultkit.transport.answers import printable


class Place(NamedTuple):
    """The place of a KV v2 secret, and its key in the cache."""

    namespace: str
    """Empty: the root namespace. It is sent as it stands here, whatever namespace the client has logged in to."""
    mount: str
    path: str

    @classmethod
    def of(cls, text: str, namespace: str = "") -> Place:
        """The place that Vault's API calls secret/data/myapp. Raises: SecretNotFound, if that is no such path."""
        mount, found, path = text.partition(DATA)
        if not (mount and found and path):
            raise SecretNotFound(f'"{printable(text)}" is no path of a KV v2 secret: expected MOUNT/data/PATH')
        return cls(namespace, mount, path)

    @classmethod
    def of_prefix(cls, text: str, namespace: str = "") -> Place:
        """Where to list: secret/data/team, or secret/data for all of a mount. Raises: SecretNotFound."""
        mount, found, path = f"{text.rstrip('/')}/".partition(DATA)
        if not (mount and found):
            raise SecretNotFound(f'"{printable(text)}" is no prefix of KV v2 secrets: expected MOUNT/data/PREFIX')
        return cls(namespace, mount, path.rstrip("/"))

    def below(self, path: str) -> Place:
        """A place whose path begins with this one's."""
        return self._replace(path="/".join(part for part in (self.path, path) if part))

    def url(self, kind: str) -> str:
        """The path of a request for its `data` or `metadata`. Raises: SecretNotFound, for what would lead elsewhere.

        requests and urllib3 collapse dot segments, so `acme/../globex` would be another tenant's by the time that
        Vault sees it. Names come here in one canonical form already; this is the second lock.
        """
        complete = self.mount and (self.path or kind == "metadata")  # what is below the mount itself can be listed
        if not (complete and all(leads_nowhere_else(part) for part in self)):
            raise SecretNotFound(f"{printable(self.path)} is no path of a secret")
        return f"/v1/{quote(self.mount)}/{kind}/{quote(self.path)}".rstrip("/")

    def __str__(self) -> str:
        return printable("/".join(part for part in self if part))


def leads_nowhere_else(name: str) -> bool:
    """Whether a name stays where it is put; an empty one does."""
    return name == "" or (name.isprintable() and is_path(name))
