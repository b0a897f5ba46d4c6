"""What gunicorn is told with `-c recipes/gunicorn_hooks.py`: that a worker, once it ends, is left to end in peace.

A worker ends as Python programs do, so that `atexit` closes its client, which revokes the token. But Ctrl+C comes to it
twice: from the terminal, as to every process in it, and then as SIGQUIT from the master. The second signal would end
the worker in the middle of the revocation, and leave its token and its database user to their TTL.
"""

from __future__ import annotations

import signal


def worker_exit(_server: object, _worker: object) -> None:
    """Called in the worker. One that takes longer than --graceful-timeout is killed all the same."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
