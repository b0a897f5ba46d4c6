"""T10: a process that forks. Real processes on a real server, each play several times over."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import hvac
import pytest

from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from tests.integration.conftest import put
from tests.integration.forking import SECRETS, name
from vault_client import VaultClient

CHILDREN = 3
PATIENCE_SECONDS = 60


def play(backend: Backend, what: str, processes: int) -> Counter[str]:
    """What came of it. A child that hangs ends the test by its time-out."""
    program = subprocess.run(
        [sys.executable, "-m", "tests.integration.forking", what, str(processes)],
        env={**os.environ, **backend.application},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    return Counter(json.loads(program.stdout))


@pytest.fixture(scope="module")
def secrets(backend: Backend) -> Iterator[None]:
    """For each process secrets of its own, whose values are their names."""
    names = [name(process, number) for process in range(CHILDREN + 1) for number in range(SECRETS)]
    for each in names:
        put(backend.root, each, who=each)
    yield
    for each in names:
        backend.root.secrets.kv.v2.delete_metadata_and_all_versions(each, mount_point="my-vault-app-kv")


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("again", range(4))
def test_t10_nobody_gets_anothers_answer(backend: Backend, again: int) -> None:
    """Parent and children read at the same moment: each what it asked for, and no error."""
    assert play(backend, "together", CHILDREN) == {"right": (CHILDREN + 1) * SECRETS}


@pytest.mark.usefixtures("secrets")
def test_t10_pool_of_multiprocessing(backend: Backend) -> None:
    """The same for its workers, which get the client by being forked: each logs in for itself."""
    since = backend.audit.position()
    assert play(backend, "in_a_pool", CHILDREN) == {"right": CHILDREN * SECRETS}
    assert backend.audit.count(since)["auth/approle/login"] == 1 + CHILDREN


def test_t10_child_revokes_nothing_of_the_parent(backend: Backend) -> None:
    """A child that closes the client leaves the parent its token, and its lease, and logs in for nothing."""
    since = backend.audit.position()
    assert play(backend, "falls_out", CHILDREN) == {"right": 1}
    count = backend.audit.count(since)
    assert (count["auth/approle/login"], count["auth/token/revoke-self"]) == (1, 1)


def test_t10_no_child_hangs_on_a_lock(backend: Backend) -> None:
    """Whichever lock some other thread held as the process forked."""
    assert play(backend, "under_load", 30) == {"database": 30}


def test_t10_keeper_starts_anew(backend: Backend) -> None:
    """Where a thread kept the token alive in the parent, one does in the child."""
    assert play(backend, "with_a_keeper", CHILDREN) == {"right": CHILDREN}


def test_t10_client_is_not_pickled(client: VaultClient, root: hvac.Client) -> None:
    """Handed to another process by value, it says what to do instead; so does a secret."""
    with pytest.raises(TypeError, match="make one there"):
        pickle.dumps(client)
    with pytest.raises(TypeError, match="read it there"):
        pickle.dumps(client.get_kv_secret("database"))
