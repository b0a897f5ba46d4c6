"""Rotation of a provider's key, on the real server and database: killed after each step, raced, and interfered with."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import hvac
import pytest

from catalogue.journal import DONE, WAITING, Journal
from catalogue.kv import Kv
from catalogue.providers import ProviderError
from catalogue.providers.postgres import PostgresProvider
from catalogue.rotation import Patience, RotationError
from tests.backends import Backend
from tests.catalogue_rotating import AT_ONCE, MOUNT, Rotated, kv_of, make
from tests.e2e.conftest import PROJECT

STEPS = ["begun", "made", "written", "recorded", "seen", "waited", "retired", "noted"]


@pytest.fixture(scope="module")
def kv(backend: Backend) -> Iterator[Kv]:
    root = backend.root
    root.sys.enable_secrets_engine("kv-v2", path=MOUNT)
    yield kv_of(backend.url, backend.root_token)
    root.sys.disable_secrets_engine(MOUNT)


@pytest.fixture
def one(backend: Backend, kv: Kv, request: pytest.FixtureRequest) -> Rotated:
    return make(backend, kv, request.node.name.partition("[")[0].replace("test_", "")[:40].strip("_"))


@pytest.fixture(scope="module")
def killed(backend: Backend, kv: Kv) -> Iterator[Callable[[str, str], int]]:
    """Rotates a secret in another process, which is killed after a step; tells by which signal it ended."""
    environ = {
        **os.environ, "VAULT_URL": backend.url, "VAULT_TOKEN": backend.root_token, "PYTHONPATH": str(PROJECT),
        "DATABASE": json.dumps(backend.database), "SUPERUSER": json.dumps(backend.superuser),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.integration.killed_rotator"]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        to, back = process.stdin, process.stdout

        def kill(step: str, name: str) -> int:
            print(step, name, file=to, flush=True)
            return int(back.readline())

        yield kill


def is_rotated(one: Rotated, old: dict[str, str], turn: str) -> None:
    """The new one lets in and is in Vault, the old one does not any more, and nothing is left to do."""
    values = one.kv.read(one.path).values
    assert values["username"] == f"{one.name}_{turn}"
    assert one.lets_in(values)
    assert not one.lets_in(old)
    journal = Journal(one.kv).read(one.path)
    assert journal is not None
    assert journal.state == DONE


def test_key_is_replaced(one: Rotated, caplog: pytest.LogCaptureFixture) -> None:
    """And again, by the other role. A line for the audit each, without a value; the time is noted."""
    first = one.kv.read(one.path).values
    with caplog.at_level(logging.WARNING, "catalogue.audit"):
        one.rotator().rotate()
        is_rotated(one, first, "b")
        second = one.kv.read(one.path).values
        one.rotator().rotate()
        is_rotated(one, second, "a")
    [told, _] = [json.loads(record.message) for record in caplog.records]
    assert (told["path"], told["outcome"], told["from_version"], told["version"]) == (one.path, "done", 1, 2)
    assert not any(each["password"] in caplog.text for each in (first, second))
    assert one.kv.about(one.path)["custom_metadata"]["rotated_at"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_rotation_is_gone_on_with(
    backend: Backend, kv: Kv, killed: Callable[[str, str], int], step: str
) -> None:
    """Kill -9 after each step: whoever comes next ends it, with one new version and no key that nobody knows."""
    one = make(backend, kv, f"killed-{step}")
    old = one.kv.read(one.path).values
    assert killed(step, one.name) == signal.SIGKILL
    assert one.lets_in(one.kv.read(one.path).values)  # in between, what is in Vault is good
    one.rotator().rotate()
    is_rotated(one, old, "b")
    assert one.kv.read(one.path).number == 2


def test_old_key_is_good_until_all_have_the_new_one(one: Rotated) -> None:
    """A Secret that is behind keeps the old one alive; what waits is gone on with later."""
    old = one.kv.read(one.path).values
    one.cluster.behind = 1
    with pytest.raises(RotationError, match=r"/login did not show version 2 yet"):
        one.rotator().rotate()
    assert one.lets_in(old)
    one.rotator().rotate()
    is_rotated(one, old, "b")


def test_every_secret_that_names_the_key_is_waited_for(one: Rotated) -> None:
    """Also one that is not of the catalogue."""
    one.cluster.also = ["by-hand"]
    with pytest.raises(RotationError, match=r"/by-hand did not show version 2 yet"):
        one.rotator().rotate()


def test_grace_begins_when_all_have_it(one: Rotated) -> None:
    """And is not begun anew by who goes on: what was seen is written down."""
    old = one.kv.read(one.path).values
    seen: list[bool] = []
    patience = Patience(grace=0.3, wait=0.0, hold=0.0, poll=0.01)
    one.rotator(patience, on_step=lambda step: seen.append(one.lets_in(old))).rotate()
    assert seen[STEPS.index("waited")] is True
    is_rotated(one, old, "b")


def test_two_rotators_never_both_win(one: Rotated) -> None:
    """One goes on, the others are told so; there is one new version."""
    old = one.kv.read(one.path).values
    patience = Patience(grace=0.0, wait=60.0, hold=60.0, poll=0.01)
    refused = threading.Semaphore(0)

    def let_all_try(step: str) -> None:
        if step == "recorded":
            for _ in range(3):
                refused.acquire(timeout=20)

    def rotate(_: int) -> bool:
        try:
            one.rotator(patience, on_step=let_all_try).rotate()
        except RotationError:
            refused.release()
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(rotate, range(4))) == [False, False, False, True]
    is_rotated(one, old, "b")
    assert one.kv.read(one.path).number == 2


def test_who_was_overtaken_writes_nothing(one: Rotated) -> None:
    """A rotator that stood still while it made a key, and was taken for dead."""
    old = one.kv.read(one.path).values

    def overtake(step: str) -> None:
        if step == "begun":
            one.rotator().rotate()

    with pytest.raises(RotationError, match="was written by somebody else"):
        one.rotator(on_step=overtake).rotate()
    is_rotated(one, old, "b")
    assert one.kv.read(one.path).number == 2


def test_what_was_written_by_hand_is_left_alone(one: Rotated) -> None:
    """It wins; the key that was made meanwhile is retired, and the next rotation begins anew."""
    values = one.kv.read(one.path).values

    def write(step: str) -> None:
        if step == "made":
            one.kv.write(one.path, {**values, "note": "by hand"}, over=1)

    with pytest.raises(RotationError, match="was written by somebody else"):
        one.rotator(on_step=write).rotate()
    with pytest.raises(RotationError, match="the key that was made is retired"):
        one.rotator().rotate()
    assert one.kv.read(one.path).values["note"] == "by hand"
    assert one.lets_in(values)
    one.rotator().rotate()
    is_rotated(one, values, "b")


def test_rollback_keeps_the_old_key(one: Rotated) -> None:
    """Somebody put the old version back while all was waiting: it is in use again."""
    old = one.kv.read(one.path).values
    one.cluster.behind = 1
    with pytest.raises(RotationError):
        one.rotator().rotate()
    one.kv.write(one.path, old, over=2)
    with pytest.raises(RotationError, match="has the old key again"):
        one.rotator().rotate()
    assert one.lets_in(old)


def test_key_that_lets_nobody_in_is_not_written(one: Rotated, root: hvac.Client) -> None:
    """It is tried first; and no password is in the words."""

    class Lying(PostgresProvider):
        def make(self, label: str) -> dict[str, str]:
            return {**super().make(label), "password": "password-of-another"}

    user, password = one.provider._place["user"], one.provider._place["password"]
    one.provider = Lying(**one.database, user=user, password=password)
    with pytest.raises(ProviderError) as raised:
        one.rotator().rotate()
    assert "password-of-another" not in str(raised.value)
    assert one.kv.read(one.path).number == 1
    rotation = Journal(one.kv).read(one.path)
    assert rotation is not None
    assert rotation.state != WAITING


def test_username_without_a_turn_is_told_of(one: Rotated) -> None:
    """There is room for one key only, so that nobody could have both."""
    one.kv.write(one.path, {"username": "alone", "password": "x"}, over=1)
    with pytest.raises(ProviderError, match="expected one that ends with _a or _b"):
        one.rotator(AT_ONCE).rotate()
