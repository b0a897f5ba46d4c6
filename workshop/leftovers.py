"""Finds the programs that a lab, or a crash, left running: by the folder into which their output goes.

Neither a list of pids, which a crash leaves wrong, nor the names of commands, which other programs have as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

OUTPUTS = ("1", "2")
PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.05


def stop_all_writing_below(folder: Path, *, but: Collection[int] = ()) -> int:
    """End every program, `but` these, whose output goes into a file below the folder; return how many there were.

    Politely, so that an application revokes its token; after PATIENCE_SECONDS for good.
    """
    found = set(writing_below(folder)) - set(but)
    send(signal.SIGTERM, found)
    if not within(PATIENCE_SECONDS, lambda: not found & set(writing_below(folder))):
        send(signal.SIGKILL, found & set(writing_below(folder)))
    return len(found)


def writing_below(folder: Path) -> list[int]:
    """The pids of the programs whose output goes into a file below the folder; not this one."""
    found = by_proc(folder.resolve()) if Path("/proc/self/fd").exists() else by_lsof(folder)
    return [pid for pid in found if pid != os.getpid()]


def by_proc(folder: Path) -> Iterable[int]:
    """Linux: what a program's outputs are is a link in /proc. Other people's programs are theirs to read."""
    for process in Path("/proc").glob("[0-9]*"):
        for output in OUTPUTS:
            with suppress(OSError):
                if os.readlink(process / "fd" / output).startswith(f"{folder}/"):
                    yield int(process.name)
                    break


def by_lsof(folder: Path) -> list[int]:
    """macOS and the BSDs, which have no such /proc."""
    listed = subprocess.run(["lsof", "-t", "+D", str(folder)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for the condition; whether it came within these seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
