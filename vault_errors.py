"""What can go wrong between this program and Vault: one small tree, each class one sentence.

    VaultError
    ├── ConfigurationError      the settings are wrong
    ├── LoginRefused            Vault does not let us in
    ├── PermissionDenied        the token is good, its policies do not allow this
    ├── RequestRejected         Vault understood the request and turned it down
    ├── SecretNotFound          there is nothing at that path
    │   └── SecretDeleted       there was, and its current version is gone
    ├── VaultUnavailable        no answer now; the same request may succeed later
    │   ├── VaultUnreachable    no connection
    │   ├── VaultTimeout        no answer in time
    │   ├── VaultSealed         sealed, or not initialised
    │   ├── VaultStandby        a standby node that does not forward
    │   └── VaultOverloaded     too many requests
    ├── ResponseTooLarge        longer than [http] max_response_size or max_listing_size
    ├── UnexpectedResponse      whatever answered does not speak Vault's API
    └── ClientClosed            the client was used after close()

Texts name paths, settings and Vault's own error messages, never a secret, a token or a response body (P1).
"""

from __future__ import annotations

from collections.abc import Sequence


class VaultError(Exception):
    """The root: whatever this program knows how to report about Vault."""

    retry_after: float = 0.0
    """Seconds of peace that the server asked for."""


class ConfigurationError(VaultError):
    """The settings are wrong; `problems` lists everything that is, one line each (exit status 2)."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(list(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class LoginRefused(VaultError):
    """Vault refused the role_id and secret_id, and will refuse them again (exit status 1)."""


class PermissionDenied(VaultError):
    """The token is valid but no policy of it grants this capability on this path."""


class RequestRejected(VaultError):
    """Vault understood the request and turned it down (400, 405 and the like)."""


class SecretNotFound(VaultError):
    """No secret, role or mount stands at this path."""


class SecretDeleted(SecretNotFound):
    """The current version of this KV secret was deleted or destroyed."""


class VaultUnavailable(VaultError):
    """Vault gave no answer for now."""


class VaultUnreachable(VaultUnavailable):
    """No connection: name, address, port, TLS or network."""


class VaultTimeout(VaultUnavailable):
    """No complete answer within [http] timeout."""


class VaultSealed(VaultUnavailable):
    """The server runs but is sealed or not yet initialised: an operator must unseal it."""


class VaultStandby(VaultUnavailable):
    """The server is a standby node and did not forward the request to the active one."""


class VaultOverloaded(VaultUnavailable):
    """The server asks for fewer requests (429)."""


class ResponseTooLarge(VaultError):
    """The answer is longer than the settings of [http] allow and was not read further."""


class UnexpectedResponse(VaultError):
    """What answered is no Vault API: a proxy, a web page, a cut-off text."""


class ClientClosed(VaultError):
    """The client was closed; its token is revoked and its secrets are gone."""
