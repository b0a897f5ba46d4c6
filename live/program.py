"""The application as a process of its own, whose feed is read here; it is started again when it ends, if wanted so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from live.application import FEED_VARIABLE
from live.board import Board

PROJECT = Path(__file__).parent.parent
END_SECONDS = 4.0
"""How long the application may take to end when it is told to (X1); then it is killed."""
LAST_WORDS_SECONDS = 1.0

Environment = Callable[[], Mapping[str, str]]


class Program:
    """Runs `command` with what `environment` says at each start.

    `start_again_after` is how many seconds after its end it is started again; None: never, and `ended` is called with
    its exit status. What `environment` raises as an OSError has the start tried again.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Environment,
        board: Board,
        *,
        start_again_after: float | None = None,
        ended: Callable[[int], object] = lambda status: None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._board = board
        self._pause = start_again_after
        self._ended = ended
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._keeper = threading.Thread(target=self._keep, name="live-program", daemon=True)

    def start(self) -> None:
        """Start it, and a thread that watches over it."""
        self._keeper.start()

    def kill(self) -> None:
        """As kill -9 does; it is started again, if that was wanted."""
        self._killed = True
        self._send(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it by a signal, and wait for that; after END_SECONDS it is killed."""
        self._stop.set()
        self._send(number)
        self._keeper.join(END_SECONDS)
        self._send(signal.SIGKILL)
        self._keeper.join(LAST_WORDS_SECONDS)

    def _send(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            process.send_signal(number)  # to nobody, if it has ended meanwhile

    def _keep(self) -> None:
        while not self._stop.is_set():
            status = self._run()
            if self._pause is None:
                self._ended(status)
                return
            self._stop.wait(self._pause)

    def _run(self) -> int:
        """From the start to the end; its exit status, or FAILED where it could not be started."""
        self._killed = False
        reading, writing = os.pipe()
        with open(reading, "rb") as feed:
            try:
                # A session of its own: the Ctrl+C of a terminal comes from us alone, so that it comes once.
                self._process = process = subprocess.Popen(
                    self._command,
                    env={**self._environment(), FEED_VARIABLE: str(writing), "PYTHONPATH": python_path()},
                    pass_fds=[writing],
                    start_new_session=True,
                )
            except OSError as error:
                self._board.happened("ApplicationEnded", f"The application does not start: {error}", level="warning")
                return 1
            finally:
                os.close(writing)
            self._board.started(process.pid)
            if self._stop.is_set():
                process.send_signal(signal.SIGINT)
            read_feed(feed, self._board)
        status = process.wait()
        self._board.ended(status, meant=self._stop.is_set() or self._killed)
        return 128 - status if status < 0 else status


def read_feed(feed: BinaryIO, board: Board) -> None:
    """Tell the board every message, to the end of the pipe."""
    for line in feed:
        try:
            board.heard(json.loads(line))
        except ValueError:  # cut off, by a kill
            continue


def python_path() -> str:
    """By which the application is found from whatever folder."""
    return os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
