"""What can go wrong between this program and Vault: one small tree, each class one sentence.

    VaultError
    ├── ConfigurationError          the settings are wrong
    ├── NoAnswer                    what Vault holds is unknown; a cached value may serve
    │   ├── VaultUnavailable        no answer now; the same request may succeed later
    │   │   ├── VaultUnreachable    no connection
    │   │   ├── VaultTimeout        no answer in time
    │   │   ├── VaultSealed         sealed, or not initialised
    │   │   ├── VaultStandby        a standby node that does not forward
    │   │   ├── VaultOverloaded     too many requests
    │   │   └── LoginUnavailable    no login now: what vouches for us is away, or cannot be read
    │   ├── ResponseTooLarge        longer than [http] max_response_size or max_listing_size
    │   └── UnexpectedResponse      whatever answered does not speak Vault's API
    ├── Refused                     Vault has spoken; a cached value ends
    │   ├── LoginRefused            Vault does not let us in
    │   ├── PermissionDenied        403: for want of a policy, or of a token that is alive
    │   ├── RequestRejected         Vault understood the request and turned it down
    │   └── SecretNotFound          there is nothing at that path
    │       └── SecretDeleted       there was, and its current version is gone
    └── ClientClosed                the client was used after close()

Texts name paths, settings and Vault's own error messages, never a secret, a token or a response body (P1).
"""

from __future__ import annotations

from collections.abc import Sequence


class VaultError(Exception):
    """The root: whatever this program knows how to report about Vault."""

    retry_after: float = 0.0
    """Seconds of peace that the server asked for."""
    lease_id: str = ""
    """The lease of what was issued and cannot be used, for it to be given back (D3)."""


class ConfigurationError(VaultError):
    """The settings are wrong; `problems` lists everything that is, one line each (exit status 2)."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(list(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class NoAnswer(VaultError):
    """What Vault holds is not known: a cached value may serve on (K4)."""


class Refused(VaultError):
    """Vault's answer is no, and asking again will not change it: a cached value ends (K3)."""


class LoginRefused(Refused):
    """Vault refused the login, and will refuse it again (exit status 1)."""


class PermissionDenied(Refused):
    """Vault answered 403, for want of a policy (the text says so where it was checked) or of a token that lives."""

    def __init__(self, said: str, capability: str = "", path: str = "") -> None:
        super().__init__(said, capability, path)
        self.said, self.capability, self.path = said, capability, path
        self.token_is_good = False
        """Whether Vault was asked about the token (T9)."""

    def __str__(self) -> str:
        if not self.path:
            return self.said
        asked = f'"{self.capability}" on "{self.path}"'
        return f"{self.said}: no policy of this token grants {asked}" if self.token_is_good else f"{self.said}: {asked}"


class RequestRejected(Refused):
    """Vault understood the request and turned it down (400, 405 and the like)."""


class SecretNotFound(Refused):
    """No secret, role or mount stands at this path."""


class SecretDeleted(SecretNotFound):
    """The current version of this KV secret was deleted or destroyed."""


class VaultUnavailable(NoAnswer):
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


class LoginUnavailable(VaultUnavailable):
    """There is no login now, and there may be one later: a file, or whoever vouches for us, must come back."""


class ResponseTooLarge(NoAnswer):
    """The answer is longer than the settings of [http] allow and was not read further."""


class UnexpectedResponse(NoAnswer):
    """What answered is no Vault API: a proxy, a web page, a cut-off text."""


class ClientClosed(VaultError):
    """The client was closed; its token is revoked and its secrets are gone."""
