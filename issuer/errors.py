"""What can be wrong with a request to the issuer, beside `vaultkit.errors`: all of them are one of those."""

from __future__ import annotations

from vaultkit.errors import NoAnswer, Refused, SecretNotFound


class NoSuchService(Refused):
    """This can be no tenant, service or key."""


class RoleUnfit(Refused):
    """The token role is not one whose tokens the issuer answers for, or does not allow what was asked."""


class AlreadyIssued(Refused):
    """There is a token under this key; the text says what is known of it."""


class TooManyKeys(Refused):
    """One service has as many tokens as an account holds."""


class Overtaken(Refused):
    """Another issuer has taken back what was in the making here."""


class NotIssued(SecretNotFound):
    """There is no token under this key."""


class NotTaken(Refused):
    """The token that was to take another's place was not unwrapped and used in time, and the other one stays."""


class NotReceived(Refused):
    """What was handed over is no token that can be unwrapped: too late, used up, or forged."""


class LedgerBusy(NoAnswer):
    """Others changed the same account all the time."""
