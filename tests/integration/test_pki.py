"""The PKI engine on the real server: what setup/pki prepares, what is signed there, and a TLS server that follows."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hvac
import pytest
import requests

from devserver.setup import SCRIPT, without_vault
from recipes.tls_server import CertificateFollower, file_of, server_context
from tests.backends import Backend
from tests.e2e.test_readme import snippet
from tests.integration.conftest import Events, eventually
from vault_client import VaultClient
from vaultkit.errors import RequestRejected, ResponseTooLarge, SecretNotFound
from vaultkit.events import SecretChanged
from vaultkit.lifetime import LONG_AGO

MOUNT, ROOT_MOUNT = "my-vault-app-pki", "my-vault-app-pki-root"
ROLE = "pki-demo"
Done = subprocess.CompletedProcess[str]

# A fake, for an end at a chosen moment: `bao`, but for one command.
BAO_THAT_FAILS = """#!/usr/bin/env bash
case "$*" in *intermediate/set-signed*) echo no more; exit 2 ;; esac
exec {bao} "$@"
"""


def setup(backend: Backend, *rooms: str, **variables: str) -> Done:
    environment = {**without_vault(os.environ), **backend.administration, **variables}
    return subprocess.run(
        ["bash", str(SCRIPT), *rooms], env=environment, capture_output=True, text=True, start_new_session=True,
        check=False,
    )  # fmt: skip


def prepared(root: hvac.Client) -> list[object]:
    """What the room has made, as the server tells it, short of ids and times."""
    pki, group = root.secrets.pki, root.secrets.identity.read_group_by_name("my-vault-app-pki")["data"]
    return [
        [len(pki.list_issuers(mount_point=mount)["data"]["keys"]) for mount in (MOUNT, ROOT_MOUNT)],
        [len(root.list(f"{mount}/keys")["data"]["keys"]) for mount in (MOUNT, ROOT_MOUNT)],
        pki.read_role("pki-demo", mount_point=MOUNT)["data"],
        root.sys.read_policy("my-vault-app-pki")["data"]["rules"],
        (group["policies"], len(group["member_entity_ids"])),
    ]


@pytest.fixture(scope="module")
def failed(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A first run, which fails with a key made and no certificate for it."""
    path, fake = backend.administration["PATH"], tmp_path_factory.mktemp("fake") / "bao"
    fake.write_text(BAO_THAT_FAILS.format(bao=shutil.which("bao", path=path)))
    fake.chmod(0o755)
    return setup(backend, "pki", PATH=f"{fake.parent}:{path}")


@pytest.fixture(scope="module")
def room(backend: Backend, failed: Done) -> Iterator[Backend]:
    """The server with the room prepared, by a second run."""
    backend.setup(SETUP_ROOMS="pki")
    yield backend
    for mount in (MOUNT, ROOT_MOUNT):
        backend.root.sys.disable_secrets_engine(mount)


class TestSetup:
    def test_failure_names_its_line(self, failed: Done) -> None:
        """That of the room, where it failed there."""
        assert failed.returncode != 0
        assert "pki: line" in failed.stderr
        assert 'quietly write "$pki/intermediate/set-signed"' in failed.stderr

    def test_room_is_prepared_once(self, room: Backend, root: hvac.Client) -> None:
        """Half, whole, whole again, and without it, as for a new secret_id: one issuer and one key for each mount."""
        before = prepared(root)
        assert before[:2] == [[1, 1], [1, 1]]
        assert setup(room, "pki").returncode == 0
        room.setup()
        assert prepared(root) == before

    @pytest.mark.parametrize("name", ["nonsense", "../pki", "", "pki pki"])
    def test_unknown_room_is_refused(self, backend: Backend, name: str) -> None:
        """With what there is, and before anything is asked of the server."""
        done = setup(backend, name)
        assert (done.returncode, f'found "{name}", expected a room of setup/: ' in done.stderr) == (2, True)
        assert "pki" in done.stderr.partition("setup/: ")[2]
        assert "Preparing" not in done.stderr

    def test_help_names_the_rooms(self, backend: Backend) -> None:
        """With what each makes."""
        assert "\n  pki: a CA for" in setup(backend, "--help").stdout


PkiClient = Callable[..., VaultClient]


@pytest.fixture
def make_pki_client(room: Backend, make_client: PkiClient) -> PkiClient:
    return make_client


class TestEngine:
    def test_p2_answer_has_a_limit_of_its_own(self, make_pki_client: PkiClient) -> None:
        """Not that of [http], and where it is too small, that is said with its name."""
        assert make_pki_client(HTTP_MAX_RESPONSE_SIZE="1500").get_certificate(ROLE).data["ca_chain"]
        with pytest.raises(ResponseTooLarge, match=r"raise \[pki\] max_response_size"):
            make_pki_client(PKI_MAX_RESPONSE_SIZE="256").get_certificate(ROLE)

    def test_p2_replaced_one_is_on_the_list(self, make_pki_client: PkiClient, root: hvac.Client) -> None:
        """The policy of setup/pki allows to revoke it."""
        client = make_pki_client()
        serial, cache = client.get_certificate(ROLE).data["serial_number"], client.engines["pki"]._cache
        cache[ROLE] = replace(cache[ROLE], due=LONG_AGO)  # which would take 40 min
        assert client.get_certificate(ROLE).data["serial_number"] != serial
        assert root.read(f"{MOUNT}/cert/{serial}")["data"]["revocation_time"] > 0

    def test_server_says_what_it_refuses(self, make_pki_client: PkiClient) -> None:
        """A role that is not there, and a name that the role does not allow."""
        with pytest.raises(SecretNotFound, match=f'no role "nonsense" at {MOUNT}'):
            make_pki_client().get_certificate("nonsense")
        with pytest.raises(RequestRejected, match=r"shop\.test not allowed by this role"):
            make_pki_client(PKI_COMMON_NAME="shop.test").get_certificate(ROLE)


# ── recipes/tls_server.py ────────────────────────────────────────────────────────────────────────────────────────────


class Handler(BaseHTTPRequestHandler):
    """Keeps connections alive."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[str]:
    """An HTTPS server; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Visitor:
    """Makes one request after the other, each on a new connection or all on the first."""

    def __init__(self, url: str, ca: Path, *, keeps_alive: bool) -> None:
        self.answered, self.failures = 0, list[Exception]()
        self._url, self._ca, self._keeps_alive = url, str(ca), keeps_alive
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._visit)

    def __enter__(self) -> Visitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _visit(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self._stop.wait(0.02):
                headers = {} if self._keeps_alive else {"Connection": "close"}
                try:
                    session.get(self._url, headers=headers, verify=self._ca, timeout=20).raise_for_status()
                    self.answered += 1
                except (requests.RequestException, OSError) as error:
                    self.failures.append(error)


def test_p2_tls_server_fails_no_request(
    make_pki_client: PkiClient, root: hvac.Client, events: Events, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Certificates of 9 s over 2 rotations, with --full of 5 s over 6: to new connections, and to one that is kept."""
    ttl, rotations = ("5", 6) if pytestconfig.getoption("--full") else ("9", 2)
    ca = tmp_path / "ca.pem"
    ca.write_text(root.secrets.pki.read_ca_certificate(mount_point=ROOT_MOUNT))
    client = make_pki_client(PKI_TTL=ttl)
    with (
        server_context(client, ROLE) as context,
        serving(context) as url,
        Visitor(url, ca, keeps_alive=True) as kept,
        Visitor(url, ca, keeps_alive=False) as new,
    ):
        eventually(lambda: len(events.of(SecretChanged)) > rotations)
    assert (kept.failures, new.failures) == ([], [])
    assert min(kept.answered, new.answered) > 10 * rotations


def test_p2_tls_server_keeps_what_it_has(make_pki_client: PkiClient) -> None:
    """A key that is not that of the certificate replaces nothing; nor does an event that comes late."""
    client = make_pki_client()
    follower = CertificateFollower(client, ROLE, lambda context: None)
    secret, newest = client.get_certificate(ROLE), follower._newest
    other = client.get_instead_of(secret)
    mixed = {**other.data, "private_key": secret.data["private_key"]}
    with pytest.raises(ssl.SSLError):
        follower.hear(SecretChanged(replace(other, data=mixed), secret))
    follower.hear(SecretChanged(secret, None))
    assert follower._newest is newest
    follower.hear(SecretChanged(other, secret))
    assert follower._newest is not newest


def test_page_serves_with_a_certificate(room: Backend, tmp_path: Path) -> None:
    """The program that recipes/README.md invites to copy."""
    program = tmp_path / "program.py"
    program.write_text(snippet("recipes/README.md", 1), encoding="utf-8")
    environment = {**without_vault(os.environ), **room.application, "PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("serving at https://localhost:")


@pytest.mark.parametrize("in_memory", [True, False])
def test_key_file_is_gone_at_once(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    """It has no name, or one for us alone for as long as ssl reads it."""
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with file_of("PEM") as path:
        assert Path(path).read_text() == "PEM"
        assert in_memory or Path(path).stat().st_mode & 0o077 == 0
    assert not Path(path).exists()
