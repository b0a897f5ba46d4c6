"""The rule P2: a certificate for a key of our own, and how it is replaced."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config_loader import VaultConfig
from listeners.console import Console
from tests.fakes import ROLE_ID, SECRET_ID, FakeClock, FakeVault, Refusal
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vaultkit.errors import ConfigurationError, PermissionDenied, UnexpectedResponse, VaultError
from vaultkit.events import Event, SecretChanged, SecretRead, StaleServed

SIGN, REVOKE = "POST my-vault-app-pki/sign/pki-demo", "POST my-vault-app-pki/revoke"
ROLE = "pki-demo"
CERTIFICATE = {"certificate": "x", "serial_number": "1"}


class VaultWithCa(FakeVault):
    """It signs as Vault does: backdated by 30 s, for `life` seconds, for the key in the request unless for another."""

    life = 90
    key_of_another: Any = None

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.bodies: list[str] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.instead = {SIGN: self.sign, REVOKE: lambda: {}}

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        self.bodies.append(request.body.decode() if isinstance(request.body, bytes) else str(request.body))
        return super().send(request, *arguments, **options)

    def sign(self) -> Any:
        request = x509.load_pem_x509_csr(json.loads(self.bodies[-1])["csr"].encode())
        now = datetime.fromtimestamp(self.clock.time(), timezone.utc)
        serial = x509.random_serial_number()
        builder = x509.CertificateBuilder().subject_name(request.subject).serial_number(serial)
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]))
        builder = builder.public_key(self.key_of_another or request.public_key())
        builder = builder.not_valid_before(now - timedelta(seconds=30))
        builder = builder.not_valid_after(now + timedelta(seconds=self.life))
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        return {"data": {"certificate": pem, "ca_chain": ["CHAIN"], "serial_number": f"{serial:x}"}}


@pytest.fixture
def vault(clock: FakeClock) -> VaultWithCa:
    return VaultWithCa(clock)


class TestP2:
    def test_p2_replaced_at_two_thirds_of_its_life(
        self, client: VaultClient, vault: VaultWithCa, clock: FakeClock
    ) -> None:
        """Counted from now to notAfter, though it is backdated; and by the wall clock as well."""
        first = client.get_certificate(ROLE)
        assert first.ttl == 90
        clock.pass_time(59)
        assert client.get_certificate(ROLE) is first
        clock.pass_time(1)
        second = client.get_certificate(ROLE)
        assert (second.revision, second.ttl) == (first.revision + 1, 90)
        clock.set_wall_clock(by=61)
        assert client.get_certificate(ROLE).revision == second.revision + 1

    def test_p2_private_key_never_leaves(self, client: VaultClient, vault: VaultWithCa, clock: FakeClock) -> None:
        """A new one for each certificate, which is its own, and in no request; nor in a repr (P1)."""
        first = client.get_certificate(ROLE)
        clock.pass_time(60)
        second = client.get_certificate(ROLE)
        key = serialization.load_pem_private_key(second.data["private_key"].encode(), password=None)
        assert key.public_key() == x509.load_pem_x509_certificate(second.data["certificate"].encode()).public_key()
        assert first.data["private_key"] != second.data["private_key"]
        assert "PRIVATE KEY" not in "".join([*vault.bodies, repr(second), repr(client.engines["pki"]._cache)])

    @pytest.mark.parametrize("answer", [Refusal(403, "permission denied"), Refusal(400, "unknown role"), Refusal(503)])
    def test_p2_old_one_serves_until_the_new_is_there(
        self, client: VaultClient, vault: VaultWithCa, clock: FakeClock, events: list[Event], answer: Refusal
    ) -> None:
        """Be there no answer or a refusal: marked stale, to its last second, and no longer."""
        first = client.get_certificate(ROLE)
        vault.instead[SIGN] = raising(answer)
        clock.pass_time(89)
        stale = client.get_certificate(ROLE)
        assert (stale.data, stale.stale) == (first.data, True)
        assert isinstance(events[-1], StaleServed)
        clock.pass_time(1)
        with pytest.raises(VaultError):
            client.get_certificate(ROLE)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"life": 0}, "the certificate ends at"),
            ({"key_of_another": ec.generate_private_key(ec.SECP256R1()).public_key()}, "is for another key"),
        ],
    )
    def test_p2_unusable_one_is_rare(
        self, client: VaultClient, vault: VaultWithCa, clock: FakeClock, change: dict[str, Any], said: str
    ) -> None:
        """Ended, or not ours: an error, and another is asked for at the pace of what was issued in vain (D3)."""
        vars(vault).update(change)
        with pytest.raises(UnexpectedResponse, match=said):
            client.get_certificate(ROLE)
        clock.pass_time(59)
        with pytest.raises(UnexpectedResponse, match=said):
            client.get_certificate(ROLE)
        assert vault.count()[SIGN] == 1
        clock.pass_time(61)
        vars(vault).update(life=90, key_of_another=None)
        assert client.get_certificate(ROLE).ttl == 90

    @pytest.mark.parametrize(
        "data",
        [{}, {"certificate": "x"}, CERTIFICATE, {**CERTIFICATE, "ca_chain": 7}, {**CERTIFICATE, "ca_chain": [7]}, None],
    )
    def test_p2_nonsense_is_no_certificate(self, client: VaultClient, vault: VaultWithCa, data: object) -> None:
        """An error of ours, whatever is in its place."""
        vault.instead[SIGN] = lambda: {"data": data}
        with pytest.raises(UnexpectedResponse):
            client.get_certificate(ROLE)

    def test_p2_replaced_one_is_revoked(self, client: VaultClient, vault: VaultWithCa, clock: FakeClock) -> None:
        """Once, by its serial number, and not before all who listen have heard of the new one."""
        heard: list[int] = []
        client.listen(lambda event: heard.append(vault.count()[REVOKE]) if isinstance(event, SecretChanged) else None)
        first = client.get_certificate(ROLE)
        clock.pass_time(60)
        client.get_certificate(ROLE)
        assert heard == [0, 0]
        assert vault.count()[REVOKE] == 1
        assert json.loads(vault.bodies[-1]) == {"serial_number": first.data["serial_number"]}

    def test_p2_forbidden_revocation_is_told_once(
        self, client: VaultClient, vault: VaultWithCa, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No read fails for it, and it is not tried again."""
        vault.instead[REVOKE] = raising(Refusal(403, "permission denied"))
        for _ in range(4):
            assert not client.get_certificate(ROLE).stale
            clock.pass_time(60)
        assert vault.count()[REVOKE] == 1
        assert [record.levelno for record in caplog.records if "is not revoked" in record.message] == [logging.WARNING]

    def test_p2_first_refusal_is_an_error(self, client: VaultClient, vault: VaultWithCa) -> None:
        """Where there is none to serve."""
        vault.instead[SIGN] = raising(Refusal(403, "permission denied"))
        with pytest.raises(PermissionDenied):
            client.get_certificate(ROLE)


@pytest.mark.parametrize("variable", ["PKI_COMMON_NAME", "PKI_ALT_NAMES"])
def test_odd_name_is_a_wrong_setting(make_client: ClientFactory, vault: VaultWithCa, variable: str) -> None:
    """What cannot stand in a request; and Vault is not asked."""
    with pytest.raises(ConfigurationError, match="no certificate can be for"):
        make_client(**{variable: "ü" * 65}).get_certificate(ROLE)
    assert vault.count()[SIGN] == 0


def test_names_are_in_the_request(make_client: ClientFactory, vault: VaultWithCa) -> None:
    """Host names, those with a * and addresses, each once; and how long it shall live."""
    make_client(PKI_ALT_NAMES="localhost, *.shop.test, 127.0.0.1, ::1", PKI_TTL="60").get_certificate(ROLE)
    body = json.loads(vault.bodies[-1])
    request = x509.load_pem_x509_csr(body["csr"].encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "*.shop.test", "127.0.0.1", "::1"]
    assert body["ttl"] == "60s"


def test_cryptography_is_asked_for_late(client: VaultClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """All else works without it; who wants a certificate is told what to install."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "vaultkit.certificates", raising=False)
    client.get_kv_secret("database")
    with pytest.raises(ConfigurationError, match="pip install 'cryptography"):
        client.get_certificate(ROLE)


def test_console_shows_no_private_key(client: VaultClient, clock: FakeClock) -> None:
    """Not even with show_secrets: nobody reads a PEM, and what is on a screen stays in its history."""
    environ = {"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID, "CONSOLE_SHOW_SECRETS": "true"}
    stream = io.StringIO()
    console = Console(VaultConfig.load(environ=environ), stream, colour=False)
    secret = client.get_certificate(ROLE)
    console(SecretRead(secret))
    console(SecretChanged(secret, secret))
    console.end(0)
    shown = stream.getvalue()
    assert "📜 PKI Secret (TTL: 90s):\n  ca_chain: CHAIN\n  certificate: -----BEGIN CERTIFICATE-----\n" in shown
    assert secret.data["serial_number"] in shown
    assert "🔁 PKI certificate replaced" in shown
    assert secret.data["private_key"].splitlines()[1] not in shown
