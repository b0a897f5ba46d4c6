"""OpenBao with storage, alone or in a cluster of three."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hvac
import requests

from devserver.stored import StoredOpenBao
from tests.backends import until

BALANCE_SECONDS = 0.1
UNDECIDED = (hvac.exceptions.VaultError, requests.RequestException)
"""What a cluster raises that has no leader for a moment."""


class Node(StoredOpenBao):
    """One server with raft storage in a folder of its own, which may join the cluster of a leader."""

    def __init__(self, name: str, folder: Path, *, leader: Node | None = None) -> None:
        own = folder / name
        own.mkdir()
        super().__init__(own, lambda: None, port=0)
        self.name = name
        self._leader = leader

    def start(self) -> None:
        """Start it, and wait for it; the first time with empty storage, which is initialised, or gets the leader's."""
        if self._leader is not None:
            self.key, self.root_token = self._leader.key, self._leader.root_token
        super().start()
        self.wait()

    def forget(self) -> None:
        """Lose all data, and the key with them."""
        shutil.rmtree(self.data)
        self.key = ""

    @property
    def is_active(self) -> bool:
        health = self.health()
        return health is not None and health["initialized"] and super()._is_open(health)

    def _is_open(self, health: Mapping[str, Any]) -> bool:
        return super()._is_open(health) if self._leader is None else not health["sealed"]

    def _audit(self) -> str:
        return ""  # a file for each node is not to be had: its name is the cluster's

    def _storage(self) -> str:
        join = f'retry_join {{ leader_api_addr = "{self._leader.url}" }}\n' if self._leader else ""
        return super()._storage() + join


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
                first.root.sys.enable_auth_method("approle")
        until(lambda: voters(first) == len(nodes), "the cluster")
        yield nodes


def voters(node: Node) -> int:
    """0 between two leaders, of which there is a new one when a machine has stood still for half a second."""
    try:
        servers = node.root.adapter.get("/v1/sys/storage/raft/configuration")["data"]["config"]["servers"]
    except UNDECIDED:
        return 0
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
