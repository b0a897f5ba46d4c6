"""What becomes of a server's audit trail while it is shipped: `python -m tests.audit_trail` prints the table.

A real OpenBao answers requests without a pause. Each way to ship its audit file has a receiver of its own; receivers
and shippers are killed in turn, and the file is rotated. What then stands in the files is compared with what arrived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import hvac

from devserver.openbao import OpenBao, free_port
from devserver.process import Process

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "AUDIT.md"
SHIPPER = PROJECT / "scripts" / "ship-audit.py"
RECEIVER = PROJECT / "tests" / "audit_receiver.py"

MOMENT_SECONDS = (0.15, 0.4)
"""Between one thing that happens and the next."""
PAUSE_SECONDS = 0.005
QUIET_SECONDS = 15.0
"""Nothing new for so long: nothing more will come. Every shipper tries again after 5 s at most."""
LONGEST_SECONDS = 60.0
ARRIVES_SECONDS = 10.0

Key = tuple[str, str]
"""What tells a line of the trail from all others: the request's id, and whether it is the request or the answer."""


# ── Ways to ship ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Way:
    """A shipper with its receiver, each a process that can be ended and started again."""

    name = "ship-audit.py"

    def __init__(self, folder: Path, audit_log: Path) -> None:
        self.folder = folder / type(self).__name__.lower()
        self.folder.mkdir()
        self.audit_log = audit_log
        self.port = free_port(0)
        self.received = self.folder / "received"
        self._running: dict[str, Process] = {}

    def start(self, part: str) -> None:
        command = {"receiver": self.receiver, "shipper": self.shipper}[part]()
        self._running[part] = Process(part, command, log=self.folder / f"{part}.log", env={"PATH": os.environ["PATH"]})

    def end(self, part: str, how: str) -> None:
        """`kill` as a power failure would, or `stop` as a shutdown does."""
        getattr(self._running[part], how)()

    def stop(self) -> None:
        for process in self._running.values():
            process.stop()

    def size(self) -> int:
        return self.received.stat().st_size if self.received.exists() else 0

    def keys(self) -> Counter[Key]:
        return Counter(keys_in(self.received)) if self.received.exists() else Counter()

    def receiver(self) -> list[str | Path]:
        return [sys.executable, RECEIVER, "http", str(self.port), self.received]

    def shipper(self) -> list[str | Path]:
        return [sys.executable, SHIPPER, self.audit_log, f"http://127.0.0.1:{self.port}/", self.folder / "place.json"]


class Tcp(Way):
    """rsyslog with the setting that the page shows."""

    name = "rsyslog, TCP"
    action = 'type="omfwd" protocol="tcp"'

    def receiver(self) -> list[str | Path]:
        return [sys.executable, RECEIVER, "tcp", str(self.port), self.received]

    def shipper(self) -> list[str | Path]:
        return self.rsyslogd("shipper", self.setting())

    def setting(self) -> str:
        """That of the page, with the paths and addresses of this trial."""
        shown = re.search(r"^```rsyslog\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        assert shown, "the page shows rsyslog's setting"
        setting = shown[1].replace("/var/log/openbao/audit.log", str(self.audit_log))
        setting = setting.replace("/var/spool/rsyslog", str(self.folder)).replace('type="omrelp"', self.action)
        return setting.replace("siem.example.com", "127.0.0.1").replace('port="2514"', f'port="{self.port}"')

    def rsyslogd(self, part: str, setting: str) -> list[str | Path]:
        path = self.folder / f"{part}.conf"
        path.write_text(setting, encoding="utf-8")
        return ["rsyslogd", "-n", "-f", path, "-i", self.folder / f"{part}.pid"]


class Relp(Tcp):
    """The same with RELP, whose receiver, another rsyslog, says what it has taken."""

    name = "rsyslog, RELP"
    action = 'type="omrelp"'

    def receiver(self) -> list[str | Path]:
        return self.rsyslogd(
            "receiver",
            'module(load="imrelp")\nglobal(maxMessageSize="1m")\nmain_queue(queue.type="Direct")\n'
            f'input(type="imrelp" port="{self.port}" address="127.0.0.1")\n'
            'template(name="line" type="string" string="%msg%\\n")\n'
            f'action(type="omfile" file="{self.received}" template="line")\n',
        )


WAYS: tuple[type[Way], ...] = (Way, Tcp, Relp)


def keys_in(path: Path) -> Iterator[Key]:
    """Of every whole line; of one that a killed receiver has stored in part, none."""
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
            # What the server does of its own at its start has no id.
            yield entry["request"].get("id") or line.decode(), entry["type"]
        except (ValueError, KeyError, TypeError):
            continue


# ── The trial ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Trial:
    """A server that is asked all the time, and the ways in which its trail is shipped meanwhile."""

    def __init__(self, server: OpenBao, ways: Sequence[Way], seed: int) -> None:
        self.server = server
        self.ways = ways
        self._random = random.Random(seed)
        self._rotations = 0
        for part in ("receiver", "shipper"):
            self.start(part)

    def start(self, part: str) -> None:
        for way in self.ways:
            way.start(part)

    def end(self, part: str, how: str) -> None:
        for way in self.ways:
            way.end(part, how)

    def moment(self) -> None:
        time.sleep(self._random.uniform(*MOMENT_SECONDS))

    def until_all_run(self) -> None:
        """Until something has arrived in each way; one that is lost is not waited for any longer."""
        before = [way.size() for way in self.ways]
        deadline = time.monotonic() + ARRIVES_SECONDS
        while time.monotonic() < deadline:
            if all(way.size() > size for way, size in zip(self.ways, before, strict=True)):
                return
            time.sleep(0.05)

    def rotate(self) -> None:
        """As logrotate does that numbers by date: the newest keeps its number."""
        self._rotations += 1
        log = self.server.audit_log
        self.server.rotate_audit_log(log.with_name(f"{log.name}.{self._rotations}"))

    def written(self) -> Counter[Key]:
        folder = self.server.audit_log.parent
        return Counter(key for path in folder.glob(f"{self.server.audit_log.name}*") for key in keys_in(path))

    def wait_until_quiet(self) -> None:
        """Until all has arrived, or nothing more comes."""
        written = set(self.written())
        deadline = time.monotonic() + LONGEST_SECONDS
        news, last = time.monotonic(), -1
        while time.monotonic() < min(deadline, news + QUIET_SECONDS):
            arrived = [way.keys() for way in self.ways]
            if all(written <= set(keys) for keys in arrived):
                return
            if (count := sum(keys.total() for keys in arrived)) != last:
                news, last = time.monotonic(), count
            time.sleep(0.2)


def killed_in_turn(trial: Trial) -> None:
    """Receiver and shipper, once as by a power failure and once as by a shutdown; the file is rotated when all run."""
    for how in ("kill", "stop"):
        for part in ("receiver", "shipper"):
            trial.moment()
            trial.end(part, how)
            trial.moment()
            trial.start(part)
        trial.until_all_run()
        trial.rotate()
    trial.moment()


def rotated_meanwhile(trial: Trial) -> None:
    """Twice each, while the receiver is away and while the shipper is."""
    for part in ("receiver", "shipper"):
        trial.moment()
        trial.end(part, "kill")
        for _ in range(2):
            trial.moment()
            trial.rotate()
        trial.moment()
        trial.start(part)
    trial.moment()


@dataclass(frozen=True)
class Outcome:
    """What became of the lines: those that never arrived, and those that did more than once."""

    way: str
    written: int
    lost: int
    twice: int


def outcome(way: Way, written: Counter[Key]) -> Outcome:
    arrived = way.keys()
    return Outcome(way.name, written.total(), len(set(written) - set(arrived)), arrived.total() - len(arrived))


def run(story: Callable[[Trial], None], ways: Sequence[type[Way]], seed: int = 1) -> list[Outcome]:
    """Let the story happen to all of these ways at once; say what became of the lines in each."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="audit-trail-"))
        stack.callback(shutil.rmtree, folder)
        (trails := folder / "server").mkdir()
        server = OpenBao(trails, lambda: None, port=0)
        stack.callback(server.stop)
        server.start()
        server.wait()
        running = [way(folder, server.audit_log) for way in ways]
        for way in running:
            stack.callback(way.stop)
        trial = Trial(server, running, seed)
        with asked_all_the_time(server):
            story(trial)
        trial.wait_until_quiet()
        return [outcome(way, trial.written()) for way in running]


@contextmanager
def asked_all_the_time(server: OpenBao) -> Iterator[None]:
    """Two lines of the trail for each request."""
    end = threading.Event()
    api = hvac.Client(url=server.url, token=server.root_token)

    def ask() -> None:
        while not end.wait(PAUSE_SECONDS):
            api.sys.list_mounted_secrets_engines()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(runs: int) -> Iterator[str]:
    """A line for each run of each story, and in it each way's losses."""
    yield f"| What happened | Lines written | {' | '.join(f'{way.name}: lost, twice' for way in WAYS)} |"
    yield "|---" * (2 + len(WAYS)) + "|"
    for name, story in {"killed in turn": killed_in_turn, "rotated meanwhile": rotated_meanwhile}.items():
        for seed in range(runs):
            outcomes = run(story, WAYS, seed)
            cells = " | ".join(f"{found.lost}, {found.twice}" for found in outcomes)
            yield f"| {name} | {outcomes[0].written} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2, help="how often each story is told [%(default)s]")
    for line in table(parser.parse_args().runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
