"""OpenBao with storage: a server that can be sealed, killed and started again, alone or in a cluster of three."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import hvac
import requests

from devserver.openbao import HOST, bao_folder, free_port
from devserver.process import Process
from tests.backends import until

HEALTH_TIMEOUT_SECONDS = 0.5
BALANCE_SECONDS = 0.1


class Node:
    """One server with raft storage in a folder of its own."""

    def __init__(self, name: str, folder: Path, *, leader: Node | None = None) -> None:
        self.name = name
        self.port = free_port(0)
        self.cluster_port = free_port(0)
        self._folder = folder / name
        self._leader = leader
        self._process: Process | None = None
        self.key = ""
        self.root_token = ""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def root(self) -> hvac.Client:
        return hvac.Client(url=self.url, token=self.root_token)

    def start(self) -> None:
        """Start it; the first time with empty storage, which is initialised, or gets the leader's data."""
        data = self._folder / "data"
        is_new = not data.exists()
        data.mkdir(parents=True, exist_ok=True)
        config = self._folder / "openbao.hcl"
        config.write_text(self._configuration(data))
        self._process = Process(
            f"OpenBao {self.name}",
            [bao_folder() / "bao", "server", f"-config={config}"],
            log=self._folder / "openbao.log",
            env={"HOME": str(self._folder)},
        )
        until(lambda: self.health() is not None, self.name)
        if is_new and self._leader is None:
            answer = hvac.Client(url=self.url).sys.initialize(1, 1)
            self.key, self.root_token = answer["keys"][0], answer["root_token"]
        elif self._leader is not None:
            self.key, self.root_token = self._leader.key, self._leader.root_token
        self.unseal()

    def _configuration(self, data: Path) -> str:
        join = f'  retry_join {{ leader_api_addr = "{self._leader.url}" }}\n' if self._leader else ""
        return (
            f'storage "raft" {{\n  path = "{data}"\n  node_id = "{self.name}"\n  performance_multiplier = 1\n{join}}}\n'
            f'listener "tcp" {{\n  address = "{HOST}:{self.port}"\n  cluster_address = "{HOST}:{self.cluster_port}"\n'
            f'  tls_disable = true\n}}\napi_addr = "{self.url}"\ncluster_addr = "https://{HOST}:{self.cluster_port}"\n'
        )

    def unseal(self) -> None:
        """Hand in the key until the node is unsealed: one that joins needs a moment to find its leader."""

        def is_open() -> bool:
            with suppress(requests.RequestException, hvac.exceptions.VaultError):
                hvac.Client(url=self.url).sys.submit_unseal_key(self.key)
            health = self.health()
            return health is not None and not health["sealed"] and (self._leader is not None or not health["standby"])

        until(is_open, self.name)

    def seal(self) -> None:
        self.root.sys.seal()

    def kill(self) -> None:
        """As kill -9 does, or the power."""
        if self._process is not None:
            self._process.kill()

    def forget(self) -> None:
        """Lose all data, and the key with them."""
        shutil.rmtree(self._folder / "data")

    def health(self) -> dict[str, Any] | None:
        """What it says of itself; None without an answer."""
        params = dict.fromkeys(("standbycode", "sealedcode", "uninitcode"), "200")
        try:
            url = f"{self.url}/v1/sys/health"
            answer = requests.get(url, params=params, timeout=HEALTH_TIMEOUT_SECONDS).json()
        except (requests.RequestException, ValueError):
            return None
        return dict(answer)

    @property
    def is_active(self) -> bool:
        health = self.health()
        return health is not None and health["initialized"] and not health["sealed"] and not health["standby"]


@contextmanager
def single_node(folder: Path) -> Iterator[Node]:
    """A server with an AppRole method, and nothing else."""
    node = Node("single", folder)
    try:
        node.start()
        node.root.sys.enable_auth_method("approle")
        yield node
    finally:
        node.kill()


@contextmanager
def cluster(folder: Path) -> Iterator[list[Node]]:
    """Three servers with one state; the first one begins as the active one."""
    first = Node("one", folder)
    nodes = [first, Node("two", folder, leader=first), Node("three", folder, leader=first)]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
            node.start()
            if node is first:
                # A follower becomes a voter after this time; without voters there is no election.
                settings = {"server_stabilization_time": "1s"}
                first.root.adapter.post("/v1/sys/storage/raft/autopilot/configuration", json=settings)
        until(lambda: voters(first) == len(nodes), "the cluster")
        first.root.sys.enable_auth_method("approle")
        yield nodes


def voters(node: Node) -> int:
    servers = node.root.adapter.get("/v1/sys/storage/raft/configuration")["data"]["config"]["servers"]
    return sum(server["voter"] for server in servers)


@contextmanager
def balanced(nodes: list[Node], use: Callable[[Node], object]) -> Iterator[None]:
    """Calls `use` with whichever node says that it is the active one, whenever that has changed."""
    ended = threading.Event()

    def balance() -> None:
        used: Node | None = None
        while not ended.wait(BALANCE_SECONDS):
            active = next((node for node in nodes if node.is_active), None)
            if active is not None and active is not used:
                used = active
                use(active)

    thread = threading.Thread(target=balance)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
