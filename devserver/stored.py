"""OpenBao with storage: it can be sealed and unsealed, and killed and started again with its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import hvac
import requests

from devserver.openbao import HOST, START_SECONDS, OpenBao, free_port

HEALTH_TIMEOUT_SECONDS = 0.5
REQUEST_TIMEOUT_SECONDS = 5.0
TOLD_WITH_200 = ("standbycode", "sealedcode", "uninitcode")


class StoredOpenBao(OpenBao):
    """One server with raft storage, which `wait` initialises the first time, and unseals each time."""

    def __init__(self, folder: Path, check: Callable[[], None], *, port: int) -> None:
        super().__init__(folder, check, port=port)
        self.key = ""
        """With which it is unsealed; there is one."""
        self.root_token = ""  # the server's to choose
        self.cluster_port = free_port(0)
        self.data = folder / "openbao-data"
        self._direct = requests.Session()
        self._direct.trust_env = False  # through no proxy: this is loopback

    @property
    def root(self) -> hvac.Client:
        """A client that may do everything."""
        return self._client(REQUEST_TIMEOUT_SECONDS)

    def _client(self, timeout: float) -> hvac.Client:
        return hvac.Client(url=self.url, token=self.root_token, timeout=timeout, session=self._direct)

    def start(self) -> None:
        self.data.mkdir(exist_ok=True)
        super().start()

    def wait(self) -> None:
        """Wait until it is initialised, unsealed and active. Raises: DevServerError."""
        self._wait_until(lambda: self.health() is not None)
        if not self.key:
            # Patiently: one that takes too long takes place all the same, and its key is lost.
            answer = self._client(START_SECONDS).sys.initialize(1, 1)
            self.key, self.root_token = answer["keys"][0], answer["root_token"]
        self.unseal()

    def unseal(self) -> None:
        """Hand in the key until it is unsealed and active. Raises: DevServerError."""
        self._wait_until(self._takes_the_key)

    def seal(self) -> None:
        """Raises: an error of hvac or requests."""
        self.root.sys.seal()

    def stop(self) -> None:
        super().stop()
        self._direct.close()

    def health(self) -> dict[str, Any] | None:
        """What it says of itself; None without an answer."""
        params = dict.fromkeys(TOLD_WITH_200, "200")
        url = f"{self.url}/v1/sys/health"
        try:
            return dict(self._direct.get(url, params=params, timeout=HEALTH_TIMEOUT_SECONDS).json())
        except (requests.RequestException, ValueError):
            return None

    def _takes_the_key(self) -> bool:
        with suppress(requests.RequestException, hvac.exceptions.VaultError):
            self.root.sys.submit_unseal_key(self.key)
        health = self.health()
        return health is not None and self._is_open(health)

    def _is_open(self, health: Mapping[str, Any]) -> bool:
        return not health["sealed"] and not health["standby"]

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        if self._process is not None:
            self._process.wait_until(ready, START_SECONDS, self._check)

    def _options(self) -> list[str]:
        return []

    def _configuration(self) -> str:
        return super()._configuration() + (
            f'storage "raft" {{\n{self._storage()}}}\n'
            f'listener "tcp" {{\n  address = "{HOST}:{self.port}"\n'
            f'  cluster_address = "{HOST}:{self.cluster_port}"\n  tls_disable = true\n}}\n'
            f'api_addr = "{self.url}"\ncluster_addr = "https://{HOST}:{self.cluster_port}"\nui = true\n'
        )

    def _storage(self) -> str:
        return f'  path = "{self.data}"\n  node_id = "{self._folder.name}"\n  performance_multiplier = 1\n'
