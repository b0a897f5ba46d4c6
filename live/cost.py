"""python -m devserver -- python -m live.cost: what the page costs the application, in CPU time of its process.

The application runs in this process, with its feed and without, in turns, on the server that the environment names. The
CPU time is that of the process, after the first secrets are there: what it takes to start is not in it.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import mean

from config_loader import VaultConfig
from listeners.console import Console
from listeners.usage import CommandLine
from live.application import telling
from live.feed import Feed
from live.outbox import Outbox
from vault_app import VaultApplication
from vaultkit.events import Listener

SECONDS, TURNS = 30.0, 3
START_SECONDS = 3.0
MOST_SHARE = 0.01
"""Of one core."""
READER = (sys.executable, "-c", "import sys\nfor line in sys.stdin: pass")


def measured(seconds: float, *, fed: bool) -> float:
    """The share of one core that the application takes."""
    config = VaultConfig.load()
    console = Console(config, io.StringIO(), colour=False)
    with ExitStack() as stack:
        feed = Feed(config, stack.enter_context(outbox()).put)
        listeners: list[Listener] = [console, feed] if fed else [console]
        application = VaultApplication(config, listeners=listeners)
        if fed:
            feed.follow(application.client)
            stack.enter_context(telling(feed))
        thread = threading.Thread(target=application.run)
        thread.start()
        time.sleep(START_SECONDS)
        began, used = time.monotonic(), time.process_time()
        time.sleep(seconds)
        share = (time.process_time() - used) / (time.monotonic() - began)
        application.stop("it is measured")
        thread.join()
    console.screen.close()
    return share


@contextmanager
def outbox() -> Iterator[Outbox]:
    """One that is read, in another process."""
    with subprocess.Popen(READER, stdin=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        box = Outbox(os.dup(reader.stdin.fileno()))
        try:
            yield box
        finally:
            box.close()


def main() -> int:
    parser = CommandLine(
        example="TOKEN_PERIOD=20s DB_DYNAMIC_TTL=25s python -m devserver -- python -m live.cost --seconds 60",
        prog="python -m live.cost",
        description="Measures what the live page costs the application.",
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of each of the runs [%(default)g]")
    seconds = parser.parse_args().seconds
    shares: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(1, TURNS + 1):
        for fed in (False, True):
            print(f"live.cost: run {turn} of {TURNS}, {'with' if fed else 'without'} the feed …", file=sys.stderr)
            shares[fed].append(measured(seconds, fed=fed))
    without, with_feed = mean(shares[False]), mean(shares[True])
    print(f"without the feed {without:.2%} of a core, with it {with_feed:.2%}: it costs {with_feed - without:.2%}")
    return 0 if with_feed - without < MOST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
