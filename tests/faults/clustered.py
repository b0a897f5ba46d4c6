"""A cluster of three nodes loses the active one, while an application and a database pool work on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

from devserver.openbao import HOST
from devserver.proxy import Proxy
from recipes.vault_pool import VaultPool
from tests.backends import until
from tests.faults.nodes import UNDECIDED, Node, balanced, cluster
from tests.faults.tenant import Database, Tenant
from tests.faults.trial import Pace, Trial, Watchers

POOL_SIZE = 4
NAME = "active node of a cluster killed"
HOW = "kill -9; a balancer follows whichever of three nodes is active"
SAYS = "Serves what is cached; the pool loses no query. Recovery counts from the election."


@contextmanager
def querying(pool: VaultPool, failures: list[str]) -> Iterator[None]:
    """Threads that use the pool without pause."""
    ended = threading.Event()

    def query() -> None:
        while not ended.is_set():
            try:
                with pool.connection() as connection:
                    connection.execute("SELECT current_user")
            except Exception as error:  # noqa: BLE001 — whatever it is, it is counted
                failures.append(f"a query failed: {type(error).__name__}")

    threads = [threading.Thread(target=query, daemon=True) for _ in range(POOL_SIZE)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def moved_in(node: Node, database: Database, pace: Pace) -> Tenant:
    """A tenant; another one, if the cluster chose a leader meanwhile, for then the first is half there."""
    names, tenants = (f"clustered-{number}" for number in count(1)), list[Tenant]()

    def has_moved_in() -> bool:
        tenant = Tenant(next(names), node.root, database, own_mounts=True, lease=pace.lease)
        with suppress(*UNDECIDED):
            tenants.append(tenant.move_in())
        return bool(tenants)

    until(has_moved_in, "a tenant of the cluster")
    return tenants[0]


def lose_the_active_node(
    folder: Path, database: Database, pace: Pace, watchers: Watchers, stack: ExitStack
) -> tuple[Trial, float, int, list[str]]:
    """Return the application, how long after the election all was well, its requests until then, and complaints."""
    nodes = stack.enter_context(cluster(folder))
    proxy = stack.enter_context(Proxy((HOST, nodes[0].port)).running())
    elected = threading.Event()

    def use(node: Node) -> None:
        proxy.server = (HOST, node.port)
        proxy.cut()
        if node is not nodes[0]:
            elected.set()

    tenant = moved_in(nodes[0], database, pace)
    trial = Trial(tenant, proxy, pace, watchers)
    stack.callback(trial.stop)
    trial.start()
    credentials = partial(trial.app.client.get_database_dynamic_secret, tenant.name)
    where = " ".join(f"{key}={value}" for key, value in database.connection.items())
    pool = stack.enter_context(VaultPool(trial.app.client, credentials, where, min_size=POOL_SIZE))
    complaints: list[str] = []
    with querying(pool, complaints):
        stack.enter_context(balanced(nodes, use))
        began = time.monotonic()
        nodes[0].kill()
        if not elected.wait(60):
            raise TimeoutError("no node was elected")
        at = time.monotonic()
        tenant.root = next(node for node in nodes if proxy.server == (HOST, node.port)).root
        value = tenant.write_secret()
        trial.wait_until(lambda: trial.is_well(value), 60, "it did not become well again")
        recovery = time.monotonic() - at
        time.sleep(pace.refresh)
    return trial, recovery, trial.requests(began, at), complaints[:3]
