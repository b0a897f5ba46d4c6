"""What is asked of a login method, whichever it is."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import ClientClosed, Refused
from ..transport.connection import ConnectionSettings

if TYPE_CHECKING:
    import hvac

SettingsT = TypeVar("SettingsT")


class LoginMethod(ABC, Generic[SettingsT]):
    """One way to get a token. What it reads from a file, it reads anew at each login.

    To add one: a file like `kubernetes.py`, with its settings and a class that has a section and a `log_in`; its line
    in METHODS. `settings_type` must have a default for everything, for what is not chosen is not asked for.
    """

    section: str
    """The section of config.ini with its settings."""
    settings_type: type[Any]
    token_is_ours = True
    """Whether we got the token by a login of ours, and so revoke it at the end."""

    def __init__(self, settings: SettingsT, connection: ConnectionSettings) -> None:
        self._settings: SettingsT | None = settings

    @classmethod
    def problems(cls, settings: Any, connection: Mapping[str, Any]) -> list[str]:
        """What is wrong with the settings, where this method is chosen; `connection` is what was set in [vault]."""
        return []

    @abstractmethod
    def log_in(self, api: hvac.Client) -> dict[str, Any]:
        """Vault's whole answer to a login. `api` is this login's own. Raises: an error of `errors`."""

    def is_final(self, refusal: Refused) -> bool:
        """Whether a refusal is for good, and not perhaps an outage behind Vault (T7)."""
        return True

    @property
    def patience(self) -> float:
        """For how many seconds refusals that are not for good are borne; `inf` for ever (T7)."""
        return math.inf

    def hints(self, refusal: Refused) -> list[str]:
        """What can be seen from here that may be the reason of a refusal (E1)."""
        return []

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells the credentials of now from others, and does not tell them; see `digest`."""

    def is_outdated(self) -> bool:
        """Whether a renewal would be refused, because what we logged in with is not what we have now."""
        return False

    def lost(self) -> None:
        """The token that came of the last login is not used any more."""

    def forget(self) -> None:
        """Keep no credentials any more."""
        self._settings = None

    @property
    def settings(self) -> SettingsT:
        if self._settings is None:
            raise ClientClosed("this VaultClient is closed")
        return self._settings


def digest(*parts: object) -> str:
    """A fingerprint of credentials, which does not tell them."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
