"""docs/EXTENDING.md says what is so: of PKI, and of what one builds by following it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import hvac
import pytest

from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.e2e.test_copies import typed

PAGE = (PROJECT / "docs/EXTENDING.md").read_text(encoding="utf-8")
COPY = re.findall(r"^cp .*", (PROJECT / "vaultkit/README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
TRANSIT, GROUP = "my-vault-app-transit", "my-vault-app-transit"

PROGRAM = """
from config_loader import VaultConfig
from vault_client import VaultClient

with VaultClient(VaultConfig.load()) as vault:
    keys = [vault.engines["transit"].get("orders") for _ in range(2)]
    print(sorted(keys[0].data), keys[0] is keys[1], 60 < keys[0].ttl <= 120)
    vault.get_kv_secret("database")
    print("due in", round(vault.engines["kv_secret"].seconds_until_due(), -2))
"""

PASSWORD = "correct horse battery staple"
READS_KV = """
from config_loader import VaultConfig
from vault_client import VaultClient

with VaultClient(VaultConfig.load()) as vault:
    print("version", vault.get_kv_secret("database").version)
"""


class Change(NamedTuple):
    """Lines of a file as they are, and with those that the page adds to them."""

    path: str
    before: str
    after: str


def blocks(heading: str, language: str) -> list[str]:
    section = re.split(r"^##+ ", PAGE.partition(f"{heading}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


def changes(heading: str) -> list[Change]:
    """What the diff below a heading does, hunk by hunk."""
    files = "".join(blocks(heading, "diff")).split("+++ ")[1:]
    named = [file.partition("\n")[::2] for file in files]
    return [change(path, hunk) for path, hunks in named for hunk in hunks.split("@@\n")]


def change(path: str, hunk: str) -> Change:
    lines = hunk.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    return Change(path, before, "".join(line[1:] for line in lines))


def follow(heading: str, new_file: str, folder: Path) -> None:
    """Do in this folder what the page says."""
    (folder / new_file).write_text(blocks(heading, "python")[0], encoding="utf-8")
    assert f"`{new_file}`:\n" in PAGE
    for path, before, after in changes(heading):
        text = (folder / path).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path}: {before}"
        (folder / path).write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
def transit(root: hvac.Client) -> Iterator[None]:
    """The engine on the server, and the right to it."""
    root.sys.enable_secrets_engine("transit", path=TRANSIT)
    root.secrets.transit.create_key("orders", mount_point=TRANSIT)
    root.sys.create_or_update_policy(GROUP, f'path "{TRANSIT}/datakey/*" {{ capabilities = ["update"] }}')
    entity = root.secrets.identity.read_entity_by_name("my-vault-app")["data"]["id"]
    root.secrets.identity.create_or_update_group_by_name(GROUP, policies=[GROUP], member_entity_ids=[entity])
    yield
    root.secrets.identity.delete_group_by_name(GROUP)
    root.sys.disable_secrets_engine(TRANSIT)


@pytest.mark.parametrize("change", changes("### How PKI is one"))
def test_lines_of_pki_stand_in_the_code(change: Change) -> None:
    """As the page shows them."""
    assert change.after in (PROJECT / change.path).read_text(encoding="utf-8")


@pytest.mark.usefixtures("transit")
def test_page_builds_an_engine_and_a_strategy(start: Run, backend: Backend, tmp_path: Path) -> None:
    """Step by step, in a copy; they serve on the real server."""
    typed(COPY, tmp_path)
    follow("### Transit, step by step", "vaultkit/engines/transit.py", tmp_path)
    follow("## A caching strategy of your own", "vaultkit/engines/lasting.py", tmp_path)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = start(sys.executable, program, **backend.application)
    assert (done.wait(), done.err) == (0, "")
    assert done.out == "['ciphertext', 'plaintext'] True True\ndue in 86400.0\n"


@pytest.fixture
def user(root: hvac.Client) -> Iterator[None]:
    """Who logs in by name and password, and may read a secret."""
    root.sys.enable_auth_method("userpass")
    root.sys.create_or_update_policy("shop", 'path "my-vault-app-kv/*" { capabilities = ["read"] }')
    root.auth.userpass.create_or_update_user("shop", PASSWORD, policies=["shop"])
    yield
    root.sys.disable_auth_method("userpass")
    root.sys.delete_policy("shop")


@pytest.mark.usefixtures("user")
def test_page_builds_a_login_method(start: Run, backend: Backend, tmp_path: Path) -> None:
    """It logs in on the real server; a wrong password, and none, are told of as those of every method are."""
    typed(COPY, tmp_path)
    follow("## A login method of your own", "vaultkit/auth/userpass.py", tmp_path)
    chosen = re.findall(r"(\w+)=(\S+)", re.findall(r"^`(VAULT_AUTH_METHOD=.*?)`", PAGE, re.MULTILINE)[0])
    program, password = tmp_path / "program.py", tmp_path / "password"
    program.write_text(READS_KV, encoding="utf-8")
    environment = {**backend.application, **dict(chosen), "USERPASS_AUTH_PASSWORD_FILE": str(password)}
    without = start(sys.executable, program, **environment)
    assert without.wait() == 1
    assert "[userpass_auth] password_file: found" in without.err
    for text, expected in (("guessed-it", "refused the login: auth/userpass"), (PASSWORD, "version 1")):
        password.write_text(text, encoding="utf-8")
        done = start(sys.executable, program, **environment)
        done.wait()
        assert expected in done.out + done.err
        assert text not in done.err


def test_page_builds_a_listener(start: Run, backend: Backend, tmp_path: Path) -> None:
    """It hears what the page says it does."""
    (text,) = blocks("## A listener of your own", "python")
    program = tmp_path / "program.py"
    program.write_text(text, encoding="utf-8")
    done = start(sys.executable, program, PYTHONPATH=str(PROJECT), **backend.application)
    assert (done.wait(), done.err) == (0, "")
    assert done.out.strip() == text.rpartition("# ")[2].strip()
