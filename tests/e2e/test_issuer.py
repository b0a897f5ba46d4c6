"""The issuer's command line and its page, as people use them."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from functools import partial
from pathlib import Path

import hvac
import pytest

from devserver import DevServerError
from issuer import Service
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Program, Run
from tests.e2e.test_readme import blocks
from tests.issuing import ENTITY, PREPARED, ShiftedClock, client_of, issuer_of, prepare

PAGE = (PROJECT / "issuer/README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def environ(backend: Backend) -> dict[str, str]:
    return prepare(backend)


@pytest.fixture
def issuer(start: Run, environ: dict[str, str]) -> Run:
    """Runs the command line of an issuer."""

    def run(*options: str | Path, **more: str) -> Program:
        return start(sys.executable, "-m", "issuer", *options, **{**environ, **more})

    return run


def done(program: Program) -> str:
    assert (program.wait(), program.err) == (0, "")
    return program.out


def shape(line: str) -> str:
    line = re.sub(r"\bs\.\w+", "TOKEN", line)
    line = re.sub(r"[0-9a-f]{16}", "ID", line)
    return re.sub(r"in \d+ s", "in … s", line).replace(ENTITY, "my-vault-app").rstrip()


def test_screen_is_what_the_issuer_shows(issuer: Run) -> None:
    """Each line of the page's screen, but for what differs from run to run."""
    seen = done(issuer("issue", "shop", "web", "--replace", "--show-token"))
    shown = blocks("text", PAGE)[0]
    assert [" ".join(shape(line).split()) for line in seen.splitlines()] == [
        " ".join(shape(line).split()) for line in shown.splitlines()
    ]


def test_two_services_of_the_page_run(start: Run, environ: dict[str, str], tmp_path: Path) -> None:
    """The program that the page invites to copy: each reads its own, and not the other's."""
    path = tmp_path / "program.py"
    path.write_text(blocks("python", PAGE)[0], encoding="utf-8")
    assert done(start(sys.executable, path, PYTHONPATH=str(PROJECT), **environ)).splitlines() == [
        "shop-web reads shop-web",
        "shop-web may not read shop-orders",
        "shop-orders reads shop-orders",
        "shop-orders may not read shop-web",
        "revoked: 2",
    ]


def test_token_goes_from_file_to_file(backend: Backend, issuer: Run, tmp_path: Path) -> None:
    """Wrapped, unwrapped once, private; and rotated while its holder takes the new one. No token on the screen."""
    wrapped, token = tmp_path / "wrapped", tmp_path / "token"
    out = done(issuer("issue", "shop", "files", "--to", wrapped))
    done(issuer("receive", wrapped, "--to", token))
    first = hvac.Client(url=backend.url, token=token.read_text())
    assert first.auth.token.lookup_self()["data"]["meta"]["service"] == "shop-files"
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in (wrapped, token)} == {0o600}
    rotation = issuer("rotate", "shop", "files", "--json", "--to", tmp_path / "rotated")
    while not (tmp_path / "rotated").exists():
        assert rotation.process.poll() is None, rotation.err
    done(issuer("receive", tmp_path / "rotated", "--to", token))
    second = hvac.Client(url=backend.url, token=token.read_text()).auth.token.lookup_self()["data"]["meta"]["issue"]
    assert [each["id"] for each in json.loads(done(rotation))] == [second]
    with pytest.raises(hvac.exceptions.Forbidden):
        first.auth.token.lookup_self()
    assert not re.search(r"\bs\.\w+", out)


def test_x1_watch_ends_in_order(environ: dict[str, str], issuer: Run, tmp_path: Path) -> None:
    """It rotates what is due; on a signal it stops, with status 0, and, if asked to, revokes all that was issued."""
    with client_of(environ) as client:
        eight_minutes_ago = issuer_of(client, clock=ShiftedClock(-500))
        eight_minutes_ago.issue(Service.of("bank", "watched"), ttl=600)
        program = issuer("watch", "bank", "--to", tmp_path, "--revoke-at-end")
        program.wait_for("bank-watched: ")
        assert (tmp_path / "bank-watched.main").exists()
        status, seconds = program.stop(signal.SIGTERM)
        assert (status, program.out) == (0, "revoked: 2\n")
        assert seconds < 5
        assert list(eight_minutes_ago.issued("bank")) == []


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("issue", "shop", "web"), 2, "one of the arguments --to --show-token is required"),
        (("issue", "sh-op", "web", "--show-token"), 1, "tenant 'sh-op': expected small letters, digits and _"),
        (("issue", "shop", "undelivered", "--to", "/no/such/folder/file"), 1, "No such file or directory"),
        (("issue", "shop", "web", "--show-token", "--ttl", "99999"), 1, "found a TTL of 99999 s; the token role"),
    ],
)
def test_e1_refusal_says_what_was_found(
    environ: dict[str, str], issuer: Run, options: tuple[str, ...], status: int, said: str
) -> None:
    """And there is nothing on stdout, and no token in the ledger that went nowhere."""
    program = issuer(*options)
    assert (program.wait(), program.out) == (status, "")
    assert said in program.err
    assert "Traceback" not in program.err
    with client_of(environ) as client:
        assert list(issuer_of(client).issued("shop", "undelivered")) == []


def test_wrong_setting_is_status_2(issuer: Run) -> None:
    """With the variable that it came from."""
    program = issuer("list", ISSUER_WRAP_TTL="never")
    assert program.wait() == 2
    assert "[issuer] wrap_ttl: found 'never' in ISSUER_WRAP_TTL, expected a number from 1 to 3600" in program.err


def test_setup_converges(backend: Backend, root: hvac.Client, environ: dict[str, str]) -> None:
    """Run again, with other tenants, it changes the role alone: accounts and secrets stay."""
    with client_of(environ) as client:
        issuer_of(client).issue(Service.of("shop", "kept"), replace=True)
        put = root.secrets.kv.v2.create_or_update_secret
        put("shop-web/db", {"username": "shop-web", "password": "changed"}, mount_point=f"{ENTITY}-services")
        backend.setup(**PREPARED, ISSUER_TENANTS="shop,bank,club")
        assert len(list(issuer_of(client).issued("shop", "kept"))) == 1
        issuer_of(client).issue(Service.of("club", "web"), replace=True)
    read = partial(root.secrets.kv.v2.read_secret_version, raise_on_deleted_version=True)
    assert read("shop-web/db", mount_point=f"{ENTITY}-services")["data"]["data"]["password"] == "changed"


def test_setup_refuses_ambiguous_tenants(backend: Backend) -> None:
    """Before the role is written."""
    with pytest.raises(DevServerError, match="ISSUER_TENANTS: found a-b, expected"):
        backend.setup(**PREPARED, ISSUER_TENANTS="a-b")
