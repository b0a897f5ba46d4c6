"""The standard streams where there are none, where nobody reads them, and where they take no more.

None at all (pythonw, services, `>&-`) is no error, and neither is a reader that left (`| head -1`); a full disk is one.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO

FAILED = 1


def open_missing() -> None:
    """Let what is written to a stream that is not there go nowhere; and no socket gets its descriptor."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def complain(text: str) -> None:
    """A word on stderr. Where that takes nothing, the exit status has to do."""
    with suppress(OSError):
        print(f"vault_app.py: {text}", file=sys.stderr, flush=True)


def cannot_write(error: OSError) -> str:
    return f"cannot write to stdout: {error.strerror or error}"


def settled(status: int) -> int:
    """Write what still waits in the buffers; the exit status, which is not 0 if stdout does not take it."""
    error = flushed(sys.stdout)
    if error is not None and not isinstance(error, ConnectionError):
        complain(cannot_write(error))
        status = status or FAILED
    flushed(sys.stderr)
    return status


def flushed(stream: IO[str]) -> OSError | None:
    """What went wrong when its buffer was written, if anything did."""
    try:
        stream.flush()
    except OSError as error:
        silence(stream)
        return error
    return None


def silence(stream: IO[str]) -> None:
    """Send the rest nowhere: else Python tries it once more at the end, with a message and a status of its own."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
