"""A program hears of the signal that ends it, whichever of its threads the system tells."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack

PROCESSES = 8
"""So many at once: the system often tells the right thread."""
PATIENCE_SECONDS = 60.0
PROGRAM = """
import threading
from queue import SimpleQueue
from listeners.signals import SignalHandler, next_of

told = SimpleQueue()
SignalHandler(told.put)
for _ in range(4):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
print(next_of(told), flush=True)
"""


def test_x1_signal_is_heard_after_a_stop() -> None:
    """Ctrl+Z, and then `kill %1`: the signal comes with the SIGCONT that wakes all threads."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", PROGRAM]
        programs = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(PROCESSES)
        ]
        for program in programs:
            stack.callback(program.kill)
            assert program.stdout
            assert program.stdout.readline() == "ready\n"
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
                program.send_signal(number)
        for program in programs:
            assert program.communicate(timeout=PATIENCE_SECONDS)[0] == "SIGTERM\n"
