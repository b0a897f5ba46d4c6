"""A login, whatever the method: its answer, its refusals, and who must not try again for a while (T7)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import LoginRefused, LoginUnavailable, PermissionDenied, Refused, VaultError
from ..fork import start_anew_in_children
from ..lifetime import Clock, Moment
from ..single_flight import SingleFlight
from ..transport.answers import expect, warnings_of
from .grant import usable_as_token
from .method import LoginMethod

if TYPE_CHECKING:
    import hvac

FIRST_PAUSE_SECONDS = 120.0
"""After a refusal; chance takes up to a half of it: a minute at least."""
LONGEST_PAUSE_SECONDS = 3600.0

LOGINS: dict[str, SingleFlight] = {}
"""What all clients of this process share of a login: servers lock a role after a few refusals, for everybody.

By a fingerprint of the server and the credentials, so that others are tried at once."""


class LoginLocks:
    """In the child of a fork, a refusal is still known, and no login is under way (T10)."""

    def start_anew(self) -> None:
        for flight in LOGINS.values():
            flight.lock = threading.Lock()


_locks = LoginLocks()
start_anew_in_children(_locks)


class Login:
    """Logs in to one server with one method."""

    def __init__(
        self, method: LoginMethod[Any], connect: Callable[..., hvac.Client], *, server: str, clock: Clock
    ) -> None:
        self._method = method
        self._connect = connect
        self._server = server
        self._clock = clock
        self._refused_since: Moment | None = None
        """Where refusals may be an outage: since when."""

    @property
    def token_is_ours(self) -> bool:
        return self._method.token_is_ours

    def request(self, timeout: float) -> tuple[hvac.Client, dict[str, Any], Moment]:
        """An API client with a new token, what was granted, and when it was asked for (T1).

        No request of the login takes longer than `timeout` seconds.
        Raises: LoginRefused, at once while a refusal rests; an error of `errors`.
        """
        who = self._who
        flight = LOGINS.setdefault(who, SingleFlight(self._clock))
        with flight.lock:  # one after the other: what the first is refused, the others do not try
            flight.raise_if_resting()
            LOGINS[who] = flight  # whoever was faster has dropped it
            try:
                return self._request(timeout)
            except LoginRefused as refusal:
                rest(flight, refusal)
                raise
            finally:
                if not flight.pause():
                    LOGINS.pop(who, None)  # a refusal alone is remembered

    def pause(self) -> float:
        """Seconds for which what was refused rests; 0 if nothing was, or if what the method reads is not there."""
        try:
            flight = LOGINS.get(self._who)
        except VaultError:
            return 0.0
        return 0.0 if flight is None else flight.pause()

    def is_outdated(self) -> bool:
        """Whether what the token was got with has been replaced, so that only a login is of use, and no renewal."""
        with suppress(VaultError):
            return self._method.is_outdated()
        return False

    def lost(self) -> None:
        """The token is not used any more, or belongs to the process that we were forked from."""
        self._method.lost()

    def forget(self) -> None:
        self._method.forget()

    def _request(self, timeout: float) -> tuple[hvac.Client, dict[str, Any], Moment]:
        asked = Moment.now(self._clock)
        try:
            answer = self._method.log_in(self._connect(timeout=timeout))
        except Refused as refusal:
            raise self._refused(refusal) from refusal.with_traceback(None)
        self._refused_since = None
        auth = expect(answer, "auth", dict)
        if auth.get("mfa_requirement"):
            raise LoginRefused(
                f"Vault at {self._server} wants a second factor (login MFA), which a program does not have:"
                f" exempt its login from the enforcement{warnings_of(answer)}"
            )
        token = usable_as_token(expect(auth, "client_token", str), "the login was answered without a usable token")
        return self._connect(token=token), auth, asked

    def _refused(self, refusal: Refused) -> VaultError:
        """What a refusal means: the end, or, where it may be an outage, another try, for as long as that is borne."""
        said = refusal.said if isinstance(refusal, PermissionDenied) else refusal
        words = "; ".join([f"Vault at {self._server} refused the login: {said}", *self._method.hints(refusal)])
        if self._method.is_final(refusal):
            return LoginRefused(words)
        since = self._refused_since = self._refused_since or Moment.now(self._clock)
        if since.age(self._clock) >= self._method.patience:
            return LoginRefused(f"{words}; it does so for {since.age(self._clock):.0f} s")
        return LoginUnavailable(words)

    @property
    def _who(self) -> str:
        return f"{self._server} {self._method.fingerprint()}"


def rest(flight: SingleFlight, error: VaultError) -> None:
    """Let nobody ask again for a minute, and then ever more rarely."""
    flight.failed(error, LONGEST_PAUSE_SECONDS, first_pause=FIRST_PAUSE_SECONDS)
