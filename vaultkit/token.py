"""The life of a token: the login, its renewal, a request with it, and the end.

    no token  ─ login ─────────────▶ alive      a new generation (T8)
              ─ no answer ─────────▶ no token   again, with back-off (T7)
              ─ refused ───────────▶ the end    asked again by nobody for a minute, then ever more rarely (T7)

    alive     ─ 4/5 of its TTL ────▶ renewal    where that gains anything (T3),
                                   ▶ login      where it does not: batch tokens, max TTL is near (T4, T5)
              ─ its TTL is over ───▶ no token   lost
              ─ a 403 ─────────────▶ alive      a missing permission, if lookup-self says that the token is good (T9),
                                   ▶ no token   lost, if it says that it is not: a login, and one retry

    renewal   ─ granted ───────────▶ alive
              ─ no answer ─────────▶ alive      again, with back-off, while it lives (T6)
              ─ refused ───────────▶ login      at once (T7)

    any       ─ close ─────────────▶ revoked    and its leases with it, in at most 2 s (X1)

A login that gets no answer leaves the token that there is. A TTL counts from before the request that it was granted to,
on two clocks (T1). The lock is held to change the state, never during a request. T1 and the like are in docs/RULES.md.
"""

from __future__ import annotations

import copy
import math
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .announcer import Announcer
from .auth.grant import Token, TokenInfo, granted, revoke
from .auth.login import Login, rest
from .errors import ClientClosed, LoginRefused, NoAnswer, PermissionDenied, Refused, VaultError
from .events import LoggedIn, LoginFailed, RenewalFailed, TokenLeft, TokenLost, TokenRenewed, TokenRevoked
from .lifetime import LONG_AGO, Clock, Moment, backoff
from .settings import A_DAY, a_number, setting
from .shield import without_frames
from .single_flight import SingleFlight
from .transport.answers import Answer, expect

if TYPE_CHECKING:
    import hvac

LOOKS_PER_TTL = 10
SHORTEST_LOOK_SECONDS = 0.1
SHORTEST_TIMEOUT_SECONDS = 0.1
RUN_OUT = "its TTL has run out"


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """[token]: how the token is kept alive. Seconds; `renew_jitter` is a share of the TTL."""

    check_interval: float = setting(a_number(0.1, A_DAY), 10.0)
    renew_jitter: float = setting(a_number(0, 0.5), 0.0)
    backoff_max: float = setting(a_number(1, A_DAY), 30.0)


class TokenKeeper:
    """Has the token of one client, for any number of threads.

    `connect` makes an hvac client; `changed` is called, under the lock, with the token's generation and its end.
    """

    def __init__(
        self,
        login: Login,
        connect: Callable[..., hvac.Client],
        settings: TokenSettings,
        *,
        timeout: float,
        clock: Clock,
        announcer: Announcer,
        changed: Callable[[int, Moment], None],
    ) -> None:
        self._login = login
        self._connect = connect
        self._settings = settings
        self._timeout = timeout
        self._clock = clock
        self._announcer = announcer
        self._changed = changed
        self._closed = False
        self.start_anew()

    def start_anew(self) -> None:
        """No token, and locks of its own: at first, and in the child of a fork (T10)."""
        self._lock = threading.Lock()  # held to change token and generation, never during a request
        self._token: Token | None = None
        self._draining: Token | None = None
        """The token before: not used any more, and left to expire (T8)."""
        self._generation = 0
        self._login.lost()
        self._logging_in = SingleFlight(self._clock)
        self._guess = SingleFlight(self._clock)
        """A login to find out whether a 403 was for a dead token, where lookup-self does not tell (T9)."""
        self._lookup_in_doubt = False

    @property
    def logged_in(self) -> bool:
        return self._token is not None

    def info(self) -> TokenInfo:
        """What is known of the token; logs in if there is none."""
        token = self._valid_token()
        return TokenInfo(token.generation, token.expires.left(self._clock), token.renewable, token.policies)

    # ── A request with a valid token ─────────────────────────────────────────────────────────────────────────────────

    def ask(self, request: Callable[[hvac.Client], Any], *, for_lease_of: float = 0.0) -> Answer:
        """Make a request, perhaps for a lease of so many seconds, which must not die with its token (D2).

        A 403 may mean a dead token or a missing permission, so Vault is asked once which of them it is. Only a dead
        token leads to a login and a second try (T9).
        """
        token = self._valid_token(for_lease_of)
        try:
            return self._answer(token, request)
        except PermissionDenied as denied:
            if not self._looks_dead(token, denied):
                raise
        self._lose(token, "Vault does not accept it any more")
        token = self.log_in(instead_of=token)
        try:
            return self._answer(token, request)
        except PermissionDenied as denied:
            if self._looks_dead(token, denied):  # a new one does so where no policy allows lookup-self
                rest(self._guess, denied)
                self._lookup_in_doubt = True
            raise

    @without_frames
    def _answer(self, token: Token, request: Callable[[hvac.Client], Any]) -> Answer:
        asked = Moment.now(self._clock)
        body = request(token.api)
        if self._lookup_in_doubt:
            self._settle_doubt(token)
        return Answer(body, asked, token.generation)

    def _looks_dead(self, token: Token, denied: PermissionDenied) -> bool:
        """Whether this 403 is a reason to log in: lookup-self is refused, too, and a login was not in vain lately."""
        if self._guess.pause() > 0:
            return False
        denied.token_is_good = self._is_alive(token)
        return not denied.token_is_good

    def _settle_doubt(self, token: Token) -> None:
        """The token has just proved good: if it may look itself up now, then that can be relied on again (T9)."""
        self._lookup_in_doubt = False
        with suppress(VaultError):
            if self._is_alive(token):
                self._guess.succeeded()

    def _valid_token(self, for_lease_of: float = 0.0) -> Token:
        """The token, or that of a new login if it has run out, or would before the lease that is asked for (D2)."""
        if self._closed:
            raise ClientClosed("this VaultClient is closed")
        token = self._token
        if token is None or token.expires.has_come(self._clock):
            self._lose(token, RUN_OUT)
            return self.log_in(instead_of=token)
        if not token.is_good_for(for_lease_of, self._clock):
            with suppress(NoAnswer):  # a lease that ends with its token is better than none
                return self.log_in(instead_of=token)
        return token

    @without_frames
    def _is_alive(self, token: Token) -> bool:
        try:
            token.api.auth.token.lookup_self()
        except PermissionDenied:
            return False
        return True

    # ── Renewal ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def keep_alive(self) -> None:
        """Do what the token needs now: nothing, a renewal, or a login (T3 to T7).

        What gets no answer is announced and tried again at a later call. Raises: LoginRefused, which is final.
        """
        token = self._token
        if token is None or token.expires.has_come(self._clock):
            self._lose(token, RUN_OUT)
            self._try_login(instead_of=token)
        elif token.next_step.has_come(self._clock):
            self._prolong(token)

    def seconds_to_next_look(self) -> float:
        """How long until `keep_alive` is to be called: 10 looks in a short life, and one when a step is due (T2)."""
        token, pause = self._token, max(self._logging_in.pause(), self._login.pause())
        if token is None:
            look, due = self._settings.check_interval, pause
        else:
            look = min(self._settings.check_interval, token.granted / LOOKS_PER_TTL)
            due = max(token.next_step.left(self._clock), pause)
        return max(SHORTEST_LOOK_SECONDS, min(look, due))

    def _prolong(self, token: Token) -> None:
        """At 4/5 of the token's life: renew it if that is of use, else log in (T3 to T5)."""
        if not token.can_be_prolonged or self._login.is_outdated():
            self._try_login(instead_of=token)
            return
        try:
            self.renew(token)
        except Refused:
            self._replace_refused(token)
        except VaultError as error:
            self._renew_later(token, error)

    @without_frames
    def renew(self, token: Token | None = None) -> None:
        """Renew the token. Raises: PermissionDenied or RequestRejected when Vault does not renew it."""
        token = token or self._valid_token()
        asked = Moment.now(self._clock)
        increment = None if math.isinf(token.full) else f"{token.full:.0f}s"
        api = self._connect(token=token.api.token, timeout=self._timeout_beside(token))
        auth = expect(api.auth.token.renew_self(increment=increment), "auth", dict)
        early, ours = self._early(), token.ours
        renewed = granted(token.api, token.generation, asked, auth, full=token.full, early=early, ours=ours)
        if self._put(token, renewed):
            self._announcer.post(TokenRenewed(renewed.granted, last=not renewed.can_be_prolonged))

    def _timeout_beside(self, token: Token | None) -> float:
        """A request that hangs must leave time for another one before the token ends (T6)."""
        left = math.inf if token is None else token.expires.left(self._clock)
        return min(self._timeout, max(SHORTEST_TIMEOUT_SECONDS, left / 2))

    def _replace_refused(self, token: Token) -> None:
        """A renewal was refused: log in at once (T7). If the token is dead, so is what it issued."""
        try:
            if not self._is_alive(token):
                self._lose(token, "Vault refused to renew it")
            self.log_in(instead_of=token)
        except LoginRefused:
            raise
        except VaultError as error:
            self._renew_later(token, error)

    def _renew_later(self, token: Token, error: VaultError) -> None:
        """A renewal got no answer: the token lives on, and so does what it issued (T6).

        However long the back-off has grown, there is another try in what is left of the token's life.
        """
        failures = token.failures + 1
        pause = backoff(failures, self._settings.backoff_max, error.retry_after)
        pause = min(pause, token.expires.left(self._clock) / 2)
        later = replace(token, failures=failures, next_step=Moment.now(self._clock).after(pause))
        if self._put(token, later):
            self._announcer.post(RenewalFailed(copy.copy(error), token.expires.left(self._clock), pause))

    # ── Login ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _try_login(self, instead_of: Token | None) -> None:
        """Log in; what gets no answer was announced, and is tried again when its back-off is over (T7)."""
        try:
            self.log_in(instead_of)
        except VaultError as error:
            if isinstance(error, LoginRefused):
                raise

    def log_in_anew(self) -> None:
        """A new token generation, whatever the token. Raises: LoginRefused, or another error of `errors`."""
        self.log_in(instead_of=self._token)

    @without_frames
    def log_in(self, instead_of: Token | None) -> Token:
        """A new token generation, or the one that another thread got meanwhile. One login at a time (C1)."""
        with self._logging_in.lock:
            token = self._token
            if token is not None and (instead_of is None or token.generation > instead_of.generation):
                return token
            self._logging_in.raise_if_resting()
            try:
                token = self._request_token()
            except VaultError as error:
                self._note_failure(error)
                raise
            self._logging_in.succeeded()
        return token

    def _request_token(self) -> Token:
        api, auth, asked = self._login.request(self._timeout_beside(self._token))
        ours = self._login.token_is_ours
        token = granted(api, self._generation + 1, asked, auth, early=self._early(), ours=ours)
        self._adopt(token)
        return token

    def _early(self) -> float:
        """By which share of the TTL this replica renews before the others (T3)."""
        return self._settings.renew_jitter * random.random()

    def _note_failure(self, error: VaultError) -> None:
        """What got no answer is tried again when its back-off is over; a refusal rests for everybody (T7)."""
        if not isinstance(error, (LoginRefused, ClientClosed)):
            again = self._logging_in.failed(error, self._settings.backoff_max)
            self._announcer.post(LoginFailed(copy.copy(error), again.left(self._clock)))

    # ── Changes of state ─────────────────────────────────────────────────────────────────────────────────────────────

    def _adopt(self, token: Token) -> None:
        """A new generation: leases of the one before are due for replacement (T8). Its token is left to expire."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._generation = token.generation
                self._guess.end_pause()
                self._draining, self._token = self._token, token
                self._changed(token.generation, token.expires)
        if closed:
            self._revoke(token)
            raise ClientClosed("the client was closed while it logged in")
        self._announcer.post(LoggedIn(token.generation, token.granted))

    def _put(self, token: Token, renewed: Token) -> bool:
        """Put the token as renewed in the place of the token; False if a login or another renewal was faster."""
        with self._lock:
            if self._token is not token:
                return False
            self._token = renewed
            self._changed(renewed.generation, renewed.expires)
            return True

    def _lose(self, token: Token | None, reason: str) -> None:
        """The token is dead, and the leases with it."""
        with self._lock:
            if token is None or self._token is None or self._token.generation != token.generation:
                return
            if self._token is not token and reason == RUN_OUT:
                return  # somebody has renewed it meanwhile
            self._token = None
            self._changed(token.generation, LONG_AGO)
        self._login.lost()
        self._announcer.post(TokenLost(reason))

    # ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Revoke the token, and its leases with it, and forget who we are; in at most 2 s."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            token, draining = self._token, self._draining
            self._token = self._draining = None
        self._login.forget()
        if alive := [each for each in (token, draining) if each and not each.expires.has_come(self._clock)]:
            self._revoke(*alive)

    def _revoke(self, *tokens: Token) -> None:
        """Those that are ours; what was handed to us lives on."""
        ttl = tokens[0].expires.left(self._clock)
        if ours := [token for token in tokens if token.ours]:
            self._announcer.post(TokenRevoked(copy.copy(revoke(*ours)), ttl))
        else:
            self._announcer.post(TokenLeft(ttl))
