"""The client: logs in, keeps its token alive, and serves secrets from caches that are right.

    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        vault.get_kv_secret("database").data["api_key"]

It is made of a login method (`vaultkit/auth`), the keeper of its token (`vaultkit/token.py`), secret engines
(`vaultkit/engines`) and an HTTP session (`vaultkit/transport`). T10 and the like are rules: docs/RULES.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

import hvac
import requests

from config_loader import VaultConfig
from vaultkit.announcer import Announcer
from vaultkit.auth.grant import TokenInfo
from vaultkit.auth.login import Login
from vaultkit.engines import ALL_ENGINES, SecretEngine
from vaultkit.events import Health, Listener
from vaultkit.fork import start_anew_in_children
from vaultkit.lifetime import Clock, Moment
from vaultkit.secret import Secret
from vaultkit.shield import log_error, without_frames
from vaultkit.token import TokenKeeper
from vaultkit.transport.adapter import VaultAdapter
from vaultkit.transport.connection import connection_of
from vaultkit.transport.health import health_of
from vaultkit.transport.session import new_session
from vaultkit.worker import Worker


class VaultClient:
    """Secrets from Vault or OpenBao, for any number of threads.

    It logs in by itself when it first needs a token. `keep_alive` has a thread renew it; without that the token runs
    out, and the next request logs in anew. A process that forks may use it on both sides: in the child it starts anew,
    with connections and a token of its own (T10).

    `listeners` are called with the events of `vaultkit.events`, in one of the threads that use the client, with no lock
    of the client held. Events of different threads may overtake each other. `session` makes the HTTP sessions, one for
    each process.
    """

    def __init__(
        self,
        config: VaultConfig,
        *,
        clock: Clock = time,
        session: Callable[[], requests.Session] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._announcer = Announcer(listeners)
        self._new_session = session or partial(new_session, connection_of(config.vault), config.http)
        self._new_api = partial(
            hvac.Client,
            url=config.vault.url,
            namespace=config.vault.namespace or None,
            timeout=config.http.timeout,
            adapter=VaultAdapter,
        )
        self._token = TokenKeeper(
            Login(config.login_method(), self._connect, server=config.vault.where, clock=clock),
            self._connect,
            config.token,
            timeout=config.http.timeout,
            clock=clock,
            announcer=self._announcer,
            changed=self._token_changed,
        )
        self.engines: dict[str, SecretEngine[Any]] = {
            section: engine(
                getattr(config, section),
                self._token.ask,
                entity=config.vault.entity,
                clock=clock,
                announcer=self._announcer,
                backoff_max=config.token.backoff_max,
            )
            for section, engine in ALL_ENGINES.items()
        }
        self._kv = self.engines["kv_secret"]
        self._dynamic, self._static = self.engines["database_dynamic"], self.engines["database_static"]
        self._closed = self._keeps_alive = False
        self._set_up()
        self._connect()  # at once, for what is wrong with the environment to be told here
        start_anew_in_children(self)

    @classmethod
    def of(cls, *, url: str, token: str, namespace: str = "") -> VaultClient:
        """A client with a token that was handed to us; the rest as config.ini says. Raises: ConfigurationError."""
        return cls(VaultConfig.with_token(url, token, namespace))

    def _set_up(self) -> None:
        """What is of this process alone."""
        self._lock = threading.Lock()  # held to start the keeper
        self._session: requests.Session | None = None
        self._keeper: Worker | None = None
        self._keeper_stop = threading.Event()
        self._reported = ""

    def start_anew(self) -> None:
        """In the child of a fork: no token, no secrets, and connections and locks of its own (T10)."""
        self._set_up()
        self._announcer.start_anew()
        self._token.start_anew()
        for engine in self.engines.values():
            engine.start_anew()

    def _connect(self, token: str = "", **options: Any) -> hvac.Client:
        if self._session is None:
            self._session = self._new_session()
        return self._new_api(token=token, session=self._session, **options)

    def _token_changed(self, generation: int, ends: Moment) -> None:
        for engine in self.engines.values():
            engine.token_changed(generation, ends)
        self._reported = ""
        self._start_keeper()

    # ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get_kv_secret(self, path: str) -> Secret:
        """The current version of a KV v2 secret. Raises: an error of `vaultkit.errors`, as all that follow do."""
        return self._kv.get(path)

    def get_secret(self, path: str) -> Secret:
        """The current version of a KV v2 secret in any mount, by its path in Vault's API, such as secret/data/db."""
        return self.engines["kv_path"].get(path)

    def get_kv_secrets(self, prefix: str) -> dict[str, Secret]:
        """All KV v2 secrets below a prefix such as `team/*`, by path."""
        return self._kv.get_below(prefix)

    def get_database_dynamic_secret(self, role: str) -> Secret:
        """A username and password that Vault made for us, with at least a moment of their lease left."""
        return self._dynamic.get(role)

    def get_database_static_secret(self, role: str) -> Secret:
        """The current password of a database user that Vault rotates."""
        return self._static.get(role)

    def get_certificate(self, role: str) -> Secret:
        """A certificate that Vault signed for a key of our own, both in its `data`; at 2/3 of its life another (P2)."""
        return self.engines["pki"].get(role)

    def get_instead_of(self, refused: Secret) -> Secret:
        """What to use instead of a secret that was refused where it was used, as by a database.

        Static passwords rotate, and leases are revoked, behind our back: Vault is asked anew, however many threads were
        refused, and not again within the engine's `refusal_seconds`. The answer may be the same secret again.
        """
        return self.engines[refused.engine].get_instead_of(refused)

    def peek(self, name: str, engine: str = "kv_secret") -> Secret | None:
        """A secret if it is cached and fresh, else None. Never asks Vault nor waits: an event loop may call it."""
        return self.engines[engine].peek(name)

    # ── The token, and whatever else one asks of Vault ───────────────────────────────────────────────────────────────

    def ask(self, request: Callable[[hvac.Client], Any]) -> Any:
        """Make any request with a valid token, such as `lambda api: api.secrets.transit.encrypt_data("key", text)`.

        Returns what it returns. It is repeated only after a login, where a 403 was for a dead token (T9).
        """
        with self._announcer.delivering():
            return self._token.ask(request).body

    @property
    def logged_in(self) -> bool:
        """Whether there is a token, as far as is known without asking Vault."""
        return self._token.logged_in

    def get_token_info(self) -> TokenInfo:
        """What is known of the token; logs in if there is none."""
        with self._announcer.delivering():
            return self._token.info()

    def login(self) -> TokenInfo:
        """Log in anew, whatever the token. Raises: LoginRefused, VaultUnavailable, or another of `vaultkit.errors`."""
        with self._announcer.delivering():
            self._token.log_in_anew()
        return self.get_token_info()

    def renew_token(self) -> TokenInfo:
        """Renew the token now. Raises: PermissionDenied or RequestRejected when Vault does not renew it."""
        with self._announcer.delivering():
            self._token.renew()
        return self.get_token_info()

    @without_frames
    def health_check(self) -> Health:
        """How the server is, whatever state it is in. Needs no token. Raises: VaultUnavailable, UnexpectedResponse."""
        return health_of(self._connect())

    # ── Keeping the token alive ──────────────────────────────────────────────────────────────────────────────────────

    def keep_alive(self) -> None:
        """Have a thread renew the token until `close`; in the child of a fork, from its first login on.

        A login that is refused is logged, and tried again rarely. (The application has a thread of its own, and ends.)
        """
        self._keeps_alive = not self._closed
        self._start_keeper()

    def keep_token_alive(self) -> None:
        """Do what the token needs now: nothing, a renewal, or a login (T3 to T7); for who has a thread of their own.

        What gets no answer is announced and tried again at a later call. Raises: LoginRefused, which is final.
        """
        with self._announcer.delivering():
            self._token.keep_alive()

    def seconds_to_next_look(self) -> float:
        """How long until `keep_token_alive` is to be called (T2)."""
        return self._token.seconds_to_next_look()

    def _start_keeper(self) -> None:
        with self._lock:
            if not self._keeps_alive or self._keeper is not None:
                return
            keeper = Worker(
                "token-keeper",
                self.keep_token_alive,
                interval=self.seconds_to_next_look,
                stop=self._keeper_stop,
                on_error=self._report,
            )
            keeper.start()
            self._keeper = keeper

    def _report(self, error: Exception) -> None:
        """Log an error of the keeper, once for as long as it stays the same."""
        if str(error) != self._reported:
            self._reported = str(error)
            log_error("token-keeper", error)

    # ── Listening, and the end ───────────────────────────────────────────────────────────────────────────────────────

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have a listener hear all that happens from now on; call what is returned to have it left alone again."""
        return self._announcer.listen(listener)

    def close(self) -> None:
        """Revoke the token, and its leases with it, and forget every secret. Takes at most 2 s; safe to call again.

        Afterwards neither the token nor role_id, secret_id or any cached value can be reached from this object. More
        Python cannot promise: strings are immutable and cannot be overwritten, so their bytes stay in memory until it
        is used again, and what a caller still holds (a `Secret`, the `VaultConfig`, the environment) is the caller's.
        """
        self._closed, self._keeps_alive = True, False
        self._keeper_stop.set()
        if self._keeper is not None:
            self._keeper.wake()
        for engine in self.engines.values():
            engine.clear()
        self._token.close()
        if self._session is not None:
            self._session.close()
        self._announcer.deliver()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VaultClient does not travel to another process: make one there")

    def __enter__(self) -> VaultClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
