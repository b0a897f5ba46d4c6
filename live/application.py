"""python -m live.application: the application as `vault_app.py` runs it, with one more listener, which feeds the page.

The page's process starts this one, and hands over the pipe in LIVE_FEED.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue

from config_loader import VaultConfig
from listeners.command_line import configure_logging, import_login_check, report
from listeners.console import Console
from listeners.signals import SignalHandler
from live.feed import SNAPSHOT_SECONDS, Feed, PoolFacts
from live.outbox import Outbox
from live.repeating import repeated
from vault_app import MISCONFIGURED, Ending, Endings, VaultApplication
from vault_client import VaultClient
from vaultkit.announcer import Announcer
from vaultkit.errors import ConfigurationError
from vaultkit.events import Listener

FEED_VARIABLE = "LIVE_FEED"
"""The environment variable with the number of the pipe's descriptor."""

Beside = Callable[[VaultClient, VaultConfig], AbstractContextManager[PoolFacts]]
"""Runs something beside the application, such as a database pool, and tells how that stands."""


@contextmanager
def nothing_beside(vault: VaultClient, config: VaultConfig) -> Iterator[PoolFacts]:
    """The application alone."""
    yield dict


def main(beside: Beside = nothing_beside) -> int:
    configure_logging("warning")
    try:
        config = VaultConfig.load()
        check = import_login_check() if config.database_dynamic.check_login else None
    except ConfigurationError as error:
        report(error)
        return MISCONFIGURED
    console = Console.on_stdout(config, colour=True, in_place=True)
    listeners: list[Listener] = [console]
    if check is not None:
        listeners.append(check(Announcer([console])))
    return console.end(run(config, console, listeners, beside))


def run(config: VaultConfig, console: Console, listeners: list[Listener], beside: Beside) -> int:
    """Run until a signal comes or the application ends by itself; return its exit status."""
    endings: Endings = SimpleQueue()
    console.screen.on_closed = lambda reason: endings.put(Ending(reason))
    signals = SignalHandler(lambda name: endings.put(Ending(f"received {name}")))
    console.banner()
    outbox = Outbox(int(os.environ.pop(FEED_VARIABLE)))
    feed = Feed(config, outbox.put)
    application = VaultApplication(config, listeners=[*listeners, feed], endings=endings)
    with beside(application.client, config) as pool:
        feed.follow(application.client, pool)
        with telling(feed):
            status = application.run()
    outbox.close()
    signals.ignore()
    return status


@contextmanager
def telling(feed: Feed) -> Iterator[None]:
    """A thread that tells, every half second, how all stands."""
    with repeated("live-feed", feed.tell, every=SNAPSHOT_SECONDS, end=SNAPSHOT_SECONDS) as worker:
        feed.hurry = worker.wake
        yield


if __name__ == "__main__":
    sys.exit(main())
