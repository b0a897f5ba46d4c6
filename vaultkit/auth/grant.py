"""What a login or a renewal grants: a token, for so long; and how it is given back."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ..errors import UnexpectedResponse, VaultError, VaultTimeout
from ..lifetime import Clock, Moment
from ..transport.answers import expect

if TYPE_CHECKING:
    import hvac

RENEW_AT_SHARE_OF_TTL = 4 / 5
LEAST_SHARE_GRANTED = 9 / 10
"""A renewal that grants less of the TTL than this was cut short by max TTL (T4)."""
REVOKE_SECONDS = 2.0


@dataclass(frozen=True)
class TokenInfo:
    """What is known of the token without asking Vault; the token itself is not in it."""

    generation: int
    """1 for the first login, one more for each that follows (T8)."""
    ttl: float
    """Seconds left; `inf` for a token that does not expire."""
    renewable: bool
    policies: tuple[str, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Token:
    """A token as of its login or last renewal. Its value is nowhere but in `api`, which sends it."""

    api: hvac.Client
    generation: int
    asked: Moment
    """The moment *before* the request left that granted the TTL (T1)."""
    granted: float
    """The TTL in seconds; `inf` if the token does not expire."""
    full: float
    """The TTL that a login grants, with which a renewal's is compared (T4)."""
    renewable: bool
    policies: tuple[str, ...]
    next_step: Moment
    """When to renew it, or, if that is no use, to log in anew."""
    failures: int = 0
    """Renewals in a row that got no answer."""
    ours: bool = True
    """Whether it is ours to revoke; one that was handed to us is not."""

    @property
    def expires(self) -> Moment:
        return self.asked.after(self.granted)

    @property
    def can_be_prolonged(self) -> bool:
        """Whether a renewal would gain anything. `renewable` stays true at max TTL: only the grant shrinks (T4)."""
        return self.renewable and self.granted >= self.full * LEAST_SHARE_GRANTED

    def is_good_for(self, lease: float, clock: Clock) -> bool:
        """Whether a lease of so many seconds may be issued under it: it outlives it, or a new one hardly would (D2)."""
        if self.can_be_prolonged:
            return True
        left = self.expires.left(clock)
        return left >= lease or left >= self.full * RENEW_AT_SHARE_OF_TTL


def granted(
    api: hvac.Client,
    generation: int,
    asked: Moment,
    auth: dict[str, Any],
    *,
    full: float | None = None,
    early: float = 0.0,
    ours: bool = True,
) -> Token:
    """The token that a login or a renewal (with the `full` TTL asked for) granted. Raises: UnexpectedResponse."""
    ttl: float = expect(auth, "lease_duration", int)
    if full is None or math.isinf(full):
        ttl = full = ttl or math.inf  # 0 stands for a token that does not expire
    return Token(
        api=api,
        generation=generation,
        asked=asked,
        granted=ttl,
        full=full,
        renewable=expect(auth, "renewable", bool),
        policies=tuple(str(policy) for policy in expect(auth, "policies", list)),
        next_step=asked.after(ttl * (RENEW_AT_SHARE_OF_TTL - early)),
        ours=ours,
    )


def usable_as_token(value: str, otherwise: str) -> str:
    """Refuse what cannot be an HTTP header: requests would quote it in its error (P1). Raises: UnexpectedResponse."""
    if not (value and value.isascii() and value.isprintable()) or " " in value:
        raise UnexpectedResponse(otherwise)
    return value


def revoke(*tokens: Token) -> VaultError | None:
    """Revoke tokens, waiting no longer than REVOKE_SECONDS, whatever the network does (X1). Returns what went wrong."""
    outcome: SimpleQueue[VaultError | None] = SimpleQueue()

    def ask() -> None:
        errors = [_revoke_one(token) for token in tokens]
        outcome.put(next((error for error in errors if error is not None), None))

    threading.Thread(target=ask, name="revoke-token", daemon=True).start()
    try:
        return outcome.get(timeout=REVOKE_SECONDS)
    except Empty:
        return VaultTimeout(f"Vault did not answer within {REVOKE_SECONDS:g} s")


def _revoke_one(token: Token) -> VaultError | None:
    try:
        token.api.auth.token.revoke_self()
    except VaultError as error:
        return error
    return None
