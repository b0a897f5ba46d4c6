"""Certificates: the key is made here and never leaves, Vault signs; replaced at 2/3 of their own life (P2).

https://developer.hashicorp.com/vault/api-docs/secret/pki. The package cryptography is needed for this alone.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, NoAnswer, Refused, VaultError
from ..lifetime import Moment
from ..secret import Secret
from ..settings import A_DAY, a_boolean, a_mount, a_name, a_number, setting, several
from ..single_flight import SingleFlight
from ..transport.answers import expect
from ..transport.limits import answers_up_to
from .cache import Cached, SecretEngine
from .database import leased, role_must_exist

if TYPE_CHECKING:
    from ..certificates import KeyPair

LIFE_SHARE = 2 / 3
LIMIT = "[pki] max_response_size"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PkiSettings:
    """[pki]: certificates that Vault signs for us. Seconds, and bytes."""

    enabled: bool = setting(a_boolean, False)
    mount: str = setting(a_mount, "")
    role: tuple[str, ...] = setting(several(a_name), ("pki-demo",))
    common_name: str = setting(a_name, "localhost")
    alt_names: tuple[str, ...] = setting(lambda value: several(a_name)(value) if value else (), ())
    ttl: int = setting(a_number(0, 10_000 * A_DAY, int), 0)
    refresh_interval: float = setting(a_number(0.1, A_DAY), 10.0)
    max_response_size: int = setting(a_number(256, 2**30, int), 65_536)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here roles."""
        return self.role


class PkiEngine(SecretEngine[PkiSettings]):
    """Certificates. `data` holds certificate, ca_chain and private_key, which are PEM, and serial_number.

    What Vault refuses to replace serves to its end; what it has replaced is revoked, as long as a policy allows that.
    """

    section = mount_suffix = "pki"
    title, short_title, icon = "PKI", "certificate", "📜"
    feature = "PKI Secret Engine (certificates, replaced at 2/3 of their life)"

    def start_anew(self) -> None:
        super().start_anew()
        self._replaced: deque[str] = deque()  # serial numbers, to be revoked
        self._may_revoke = True

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        names, key = (self.settings.common_name, *self.settings.alt_names), new_key_pair()
        request, ttl = key.signing_request(names), {"ttl": f"{self.settings.ttl}s"}
        with role_must_exist(self.mount, name), answers_up_to(self.settings.max_response_size, LIMIT):
            answer = self._ask(
                lambda api: api.secrets.pki.sign_certificate(name, request, names[0], ttl, mount_point=self.mount)
            )
        data, now = expect(answer.body, "data", dict), Moment.now(self._clock)
        values = {each: expect(data, each, str) for each in ("serial_number", "certificate")}
        chain = expect(data, "ca_chain", list) if "ca_chain" in data else []  # none where a root signs
        values |= {"ca_chain": "\n".join(map(str, chain)), "private_key": key.pem}
        with leased({"lease_id": values["serial_number"]}):  # D3: what was issued in vain is so rarely
            left = key.end_of(values["certificate"], now.wall) - now.wall
        secret = self.secret(name, values, expires=now.after(left))
        return self.cached(secret, answer, due=now.after(left * LIFE_SHARE), until=now.after(left))

    def _fall_back(self, name: str, flight: SingleFlight, error: VaultError) -> Secret:
        if isinstance(error, Refused) and self._usable(name) is not None:
            error = NoAnswer(str(error))
        return super()._fall_back(name, flight, error)

    def _store(self, name: str, flight: SingleFlight, new: Cached) -> Secret:
        old = self._usable(name)
        secret = super()._store(name, flight, new)
        if old is not None and self._may_revoke:
            self._replaced.append(old.secret.data["serial_number"])
        return secret

    def _refresh(self, name: str) -> Secret:
        secret = super()._refresh(name)  # by now all who listen have the new one, so that none serves the old
        while self._replaced:
            with suppress(IndexError):  # another thread was faster
                self._revoke(self._replaced.popleft())
        return secret

    def _revoke(self, serial: str) -> None:
        try:
            self._ask(lambda api: api.secrets.pki.revoke_certificate(serial, mount_point=self.mount))
        except VaultError as error:
            self._may_revoke = not isinstance(error, Refused)
            log.warning("the certificate %s was replaced, and is not revoked: %s", serial, error)

    @staticmethod
    def words_of_change(previous: Secret, secret: Secret) -> str:
        return "certificate replaced"


def new_key_pair() -> KeyPair:
    """Raises: ConfigurationError, where cryptography is not installed."""
    try:
        from ..certificates import KeyPair  # not at the top: all else goes without it
    except ImportError as error:
        raise ConfigurationError(["[pki]: cryptography is missing; pip install 'cryptography>=42,<51'"]) from error
    return KeyPair()
