"""act_as = caller: Vault is asked with the caller's own JWT, so its policies and its audit log know the person.

On OpenBao the JWT goes along with each request, which is run under the caller's policies and leaves no token (inline
authentication, with a CEL role). On Vault, which has no such thing, the caller is logged in to a role of their tenant
and of the right that is needed, for a batch token that is kept for a minute at most. Neither reads policies from the
caller's entity: what another login of the same person has left there would count as well.
https://openbao.org/docs/rfcs/inline-auth
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import hvac

from vaultkit.auth.grant import usable_as_token
from vaultkit.errors import LoginRefused, RequestRejected
from vaultkit.lifetime import Clock, Moment
from vaultkit.transport.adapter import VaultAdapter
from vaultkit.transport.answers import expect
from vaultkit.transport.connection import ConnectionSettings, HttpSettings, connection_of
from vaultkit.transport.session import new_session

from .kv import Ask

LONGEST_LOGIN_SECONDS = 60.0
"""A batch token cannot be revoked, and knows nothing of the `exp` of the JWT that it was given for."""
MOST_LOGINS = 10_000
BAD_JWT = "error validating token"
LOGIN_REFUSED = (BAD_JWT, "error validating claims", "error executing cel program", 'role "')
"""How Vault's texts begin when it is a login that was refused. The status is 400, as for much else."""


class CallerRefused(LoginRefused):
    """Vault does not let this caller in."""

    def __init__(self, said: str, jwt_is_bad: bool) -> None:
        super().__init__(said, jwt_is_bad)
        self.said, self.jwt_is_bad = said, jwt_is_bad
        """Whether it is the JWT that is not accepted (401), or the caller who has no access (403)."""

    def __str__(self) -> str:
        return self.said


class CallersAdapter(VaultAdapter):
    """Sends the headers of an inline login along with each request."""

    login: Mapping[str, str] = {}

    def request(
        self, method: str, url: str, headers: Any = None, raise_exception: bool = True, **kwargs: Any
    ) -> dict[str, Any]:
        return super().request(method, url, {**(headers or {}), **self.login}, raise_exception, **kwargs)


class Callers:
    """Asks Vault as callers, for any number of threads.

    `mode` says how: inline, with the CEL role `role` at `mount`; or batch, with the role that each request names.
    """

    def __init__(
        self,
        connection: ConnectionSettings,
        http: HttpSettings | None = None,
        *,
        mode: Literal["inline", "batch"] = "inline",
        mount: str = "gateway-jwt",
        role: str = "gateway",
        clock: Clock = time,
    ) -> None:
        bounds = http or HttpSettings()
        self._namespace = connection.namespace
        self._session = new_session(connection_of(connection), bounds)
        # An empty token, or hvac would look for one in the environment and in the home directory.
        self._api = partial(
            hvac.Client,
            url=connection.url,
            token="",
            namespace=connection.namespace or None,
            timeout=bounds.timeout,
            session=self._session,
            adapter=CallersAdapter,
        )
        self._mode, self._mount, self._role = mode, mount, role
        self._clock = clock
        self._lock = threading.Lock()  # held to change the tokens, never during a request
        self._tokens: OrderedDict[tuple[str, str], tuple[str, Moment]] = OrderedDict()

    def __len__(self) -> int:
        """How many tokens are held."""
        return len(self._tokens)

    def ask_as(self, jwt: str, digest: str, expires: float, batch_role: str) -> Ask:
        """Who asks, for `Secrets`: the caller with this JWT, of which `digest` is the SHA-256, until it `expires`.

        Seconds since the epoch. `batch_role` is for a batch login alone: which it may be is a matter of tenant and
        right, since a role grants the same to all whom it takes. What is returned raises CallerRefused beside the
        errors of the request.
        """

        def ask(request: Callable[[hvac.Client], Any]) -> Any:
            if expires <= self._clock.time():
                raise CallerRefused("the caller's JWT has expired", jwt_is_bad=True)
            try:
                return request(self._as_caller(jwt, digest, expires, batch_role))
            except RequestRejected as error:
                if refusal := login_refusal(error):
                    raise refusal from None
                raise

        return ask

    def close(self) -> None:
        """Forget the tokens. They cannot be revoked, and end by themselves within a minute or so."""
        with self._lock:
            self._tokens.clear()
        self._session.close()

    def _as_caller(self, jwt: str, digest: str, expires: float, batch_role: str) -> hvac.Client:
        api = self._api()
        if self._mode == "inline":
            api.adapter.login = self._inline_login(jwt)
        else:
            api.token = self._token(jwt, digest, expires, batch_role)
        return api

    # ── OpenBao: inline ──────────────────────────────────────────────────────────────────────────────────────────────

    def _inline_login(self, jwt: str) -> dict[str, str]:
        return {
            "X-Vault-Inline-Auth-Path": f"auth/{self._mount}/cel/login",
            "X-Vault-Inline-Auth-Namespace": self._namespace,  # where the login is, not the secret
            "X-Vault-Inline-Auth-Parameter-role": parameter("role", self._role),
            "X-Vault-Inline-Auth-Parameter-jwt": parameter("jwt", jwt),
        }

    # ── Vault: a batch token ─────────────────────────────────────────────────────────────────────────────────────────

    def _token(self, jwt: str, digest: str, expires: float, role: str) -> str:
        """The token of this caller. Threads that need the first one at the same time log in each for themselves."""
        with self._lock:
            token, until = self._tokens.get((digest, role), ("", Moment.now(self._clock)))
            if not until.has_come(self._clock):
                self._tokens.move_to_end((digest, role))
                return token
        token, until = self._log_in(jwt, expires, role)
        with self._lock:
            self._tokens[digest, role] = token, until
            self._tokens.move_to_end((digest, role))
            while len(self._tokens) > MOST_LOGINS:
                self._tokens.popitem(last=False)
        return token

    def _log_in(self, jwt: str, expires: float, role: str) -> tuple[str, Moment]:
        asked = Moment.now(self._clock)
        body = {"role": role, "jwt": jwt}
        auth = expect(self._api().adapter.post(f"/v1/auth/{self._mount}/login", json=body), "auth", dict)
        token = usable_as_token(expect(auth, "client_token", str), "the login gave no usable token")
        lease = expect(auth, "lease_duration", int)
        return token, asked.after(min(LONGEST_LOGIN_SECONDS, lease, expires - asked.wall))


def parameter(key: str, value: str) -> str:
    """A parameter of an inline login, as its header has it."""
    text = json.dumps({"key": key, "value": value})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def login_refusal(error: RequestRejected) -> CallerRefused | None:
    """What a refused login is to its caller, in words of our own; None if it was the request that was refused."""
    said = str(error)
    if not any(f"status 400: {words}" in said for words in LOGIN_REFUSED):
        return None
    if f"status 400: {BAD_JWT}" in said:
        return CallerRefused("Vault does not accept the caller's JWT", jwt_is_bad=True)
    return CallerRefused("Vault gives this caller no access", jwt_is_bad=False)
