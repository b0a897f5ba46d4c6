"""The worker primitive, on real time and, for X2, on a local clock that really jumps."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import eventually
from vaultkit.shield import log_unexpected
from vaultkit.worker import Worker

INTERVAL = 0.2


class Counter:
    """An action that counts its runs and can be waited for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self._error = error
        self._ran = threading.Condition()

    def __call__(self) -> None:
        with self._ran:
            self.runs += 1
            self._ran.notify_all()
        if self._error is not None:
            raise self._error

    def wait_for(self, runs: int, seconds: float = 10.0) -> float:
        """Wait until it ran that often; the seconds that it took."""
        started = time.monotonic()
        with self._ran:
            assert self._ran.wait_for(lambda: self.runs >= runs, seconds), f"{self.runs} runs after {seconds} s"
        return time.monotonic() - started


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def time_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


def set_local_clock(hours: int) -> None:
    """Local time really jumps by that many hours, as at the ends of summer time; POSIX signs are reversed."""
    os.environ["TZ"] = f"TEST{-hours}"
    time.tzset()


def worker(action: Counter, stop: threading.Event, interval: float | None = INTERVAL) -> Worker:
    made = Worker("test", action, interval=lambda: interval, stop=stop, on_error=lambda _: None)
    made.start()
    return made


@pytest.mark.usefixtures("time_zone")
@pytest.mark.parametrize("hours", [-1, 1])
def test_x2_clock_jump_delays_no_run(stop: threading.Event, hours: int) -> None:
    """Local time jumps an hour back, or forward, while the worker waits: the next runs come in time all the same."""
    action = Counter()
    set_local_clock(0)
    worker(action, stop)
    action.wait_for(2)
    set_local_clock(hours)
    assert action.wait_for(action.runs + 3) < 60


@pytest.mark.usefixtures("time_zone")
def test_x2_jump_forward_does_not_spin(stop: threading.Event) -> None:
    """One early run may come, not one after the other."""
    action = Counter()
    set_local_clock(0)
    worker(action, stop, interval=1.0)
    action.wait_for(1)
    set_local_clock(1)
    before, began = action.runs, time.monotonic()
    stop.wait(1.5)
    assert action.runs - before <= 1 + (time.monotonic() - began)


def test_worker_never_runs_early(stop: threading.Event) -> None:
    """Between two runs lies at least the interval: a cache of the same length has run out by then."""
    runs: list[float] = []
    made = Worker(
        "test", lambda: runs.append(time.monotonic()), interval=lambda: INTERVAL, stop=stop, on_error=lambda _: None
    )
    made.start()
    eventually(lambda: len(runs) >= 6)
    stop.set()
    assert made.join(5)
    assert min(later - earlier for earlier, later in itertools.pairwise(runs)) >= INTERVAL


def test_worker_outlives_errors(stop: threading.Event) -> None:
    """Each error is reported, and the next run comes."""
    errors: list[Exception] = []
    action = Counter(ValueError("boom"))
    made = Worker("test", action, interval=lambda: 0.01, stop=stop, on_error=errors.append)
    made.start()
    action.wait_for(3)
    stop.set()
    assert made.join(5)
    assert len(errors) == action.runs


def test_x1_worker_ends_within_a_second(stop: threading.Event) -> None:
    """Waiting is interruptible, however long the interval."""
    action = Counter()
    made = worker(action, stop, interval=3600)
    action.wait_for(1)
    stop.set()
    assert made.join(1)


def test_worker_without_interval_runs_once(stop: threading.Event) -> None:
    """None means that there is no next run."""
    action = Counter()
    assert worker(action, stop, interval=None).join(5)
    assert action.runs == 1


def test_worker_starts_once(stop: threading.Event) -> None:
    """Starting it again does nothing."""
    made = worker(Counter(), stop, interval=None)
    made.start()
    assert made.join(5)


def test_stuck_worker_is_told(stop: threading.Event) -> None:
    """join says whether the thread has ended."""
    released = threading.Event()
    made = Worker("stuck", lambda: released.wait(10), interval=lambda: 1, stop=stop, on_error=lambda _: None)
    made.start()
    stop.set()
    assert not made.join(0.05)
    released.set()
    assert made.join(5)


def test_p1_unexpected_error_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """The place and the type help; the text might quote a secret."""
    try:
        int("hunter2")
    except ValueError as error:
        with caplog.at_level(logging.ERROR):
            log_unexpected("test", error)
    assert "hunter2" not in caplog.text.replace('int("hunter2")', "")
    assert "ValueError" in caplog.text


def test_worker_outlives_its_interval(stop: threading.Event) -> None:
    """Where it fails to say how long to wait, the error is told and the next run comes all the same."""
    action = Counter()
    errors: list[Exception] = []

    def interval() -> float:
        if not errors:
            raise KeyError("interval")
        return 0.01

    made = Worker("test", action, interval=interval, stop=stop, on_error=errors.append)
    made.start()
    action.wait_for(3)
    stop.set()
    assert made.join(5)
    assert [type(error) for error in errors] == [KeyError]
