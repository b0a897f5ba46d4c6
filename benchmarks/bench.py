"""What every section works with: the two servers, how much is to be measured, and waiting that can be given up.

A signal raises nothing where it strikes: it is noted, as in `devserver`, and `check` raises at the next point where all
that was started can be stopped in order. So Ctrl+C leaves no process and no folder behind.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import hvac

from config_loader import VaultConfig
from devserver import DevServer
from listeners.progress import Progress

POLL_SECONDS = 0.001
PATIENCE_SECONDS = 60.0
TOLD_SECONDS = 3.0
"""What takes longer is told of."""
ENTITY = "my-vault-app"
KV, DATABASE = f"{ENTITY}-kv", f"{ENTITY}-database"
KV_PATH, DYNAMIC_ROLE, STATIC_ROLE = "database", "db-demo-dynamic", "db-demo-static"
DEMO = VaultConfig.load(environ={"VAULT_SECRET_ID": "not needed"})
"""The settings of config.ini, which are the demo's."""

PROGRESS = Progress("benchmarks")
"""For somebody who waits twenty minutes."""
tell = PROGRESS.tell

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """The servers, prepared for the demo's application; `quick` asks for tiny counts, to see that all works."""

    server: DevServer
    quick: bool
    check: Callable[[], None]
    """Raises: Interrupted of `devserver`, if a signal came."""

    def choose(self, full: T, quick: T) -> T:
        return quick if self.quick else full

    def prepare(self, **lifetimes: str) -> None:
        """Run setup-vault.sh with these of its variables, and with its defaults for the others."""
        self.server.secret_id = self.server.setup(**lifetimes)

    @property
    def root(self) -> hvac.Client:
        return hvac.Client(url=self.server.openbao.url, token=self.server.openbao.root_token)

    def new_folder(self, name: str) -> Path:
        """An empty folder, which goes away with the servers."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.server.folder))

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait, looking every millisecond. Raises: TimeoutError, which tells what did not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def wait(self, seconds: float) -> None:
        """Let time pass, in which a signal is noticed."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            if seconds > TOLD_SECONDS:
                PROGRESS.count(f"{left:.0f} of {seconds:.0f} s to go")
            time.sleep(min(left, 0.1))


@contextmanager
def alongside(*actions: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run each action in a thread of its own, until the event is set; what one of them raises is raised at the end."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(actions)) as pool:
        running = [pool.submit(action, stop) for action in actions]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()
