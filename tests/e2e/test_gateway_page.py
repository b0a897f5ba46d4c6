"""gateway/README.md says what is so: its screen, its commands, its tables, on a real gateway."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devserver.openbao import bao_folder, free_port
from gateway.api.routes import ENDPOINTS
from gateway.problems import KINDS
from gateway.roles import Roles
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Program, Run
from tests.e2e.test_readme import blocks
from tests.integration.conftest import eventually

PAGE = (PROJECT / "gateway/README.md").read_text(encoding="utf-8")
ON_THE_PAGE = ("http://127.0.0.1:8280", "http://127.0.0.1:8281", "/tmp/vault-dev-51v7i736")
"""The addresses and the folder of the demo that the page shows."""
LONGEST_PAGE = 220
ISSUER = {"key/page": {"algorithm": "ES256"}, "role/page": {"key": "page"}}
"""What makes a server an identity provider with keys."""


class Demo:
    """`python -m gateway.demo`, and what it prints."""

    def __init__(self, program: Program, own: dict[str, str]) -> None:
        self.program = program
        self._own = own
        self.here = [
            found(pattern, program.out) for pattern in (r"gateway: (\S+);", r"apart: (\S+)/me", r"logs: (\S+)/g")
        ]

    @property
    def lines(self) -> list[str]:
        """Those to paste."""
        return [line.strip() for line in self.program.out.splitlines() if line.startswith("  scripts/")]

    def typed(self, commands: str) -> str:
        """What a terminal shows of these commands of the page."""
        for on_the_page, here in zip(ON_THE_PAGE, self.here, strict=True):
            commands = commands.replace(on_the_page, here)
        return shell(commands, **self._own).stdout


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern} in {text}"
    return match[1]


def shell(commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", commands], cwd=PROJECT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One for all that is asked of it; it has gone when the module ends."""
    own = {"DEMO_RUN_FOLDER": str(tmp_path_factory.mktemp("run") / "run")}
    program = Program([sys.executable, "-m", "gateway.demo"], own)
    try:
        program.wait_for("Ctrl+C ends and removes")
        yield Demo(program, own)
        assert program.stop(signal.SIGINT)[0] == 0
    finally:
        program.kill()


def shape(line: str) -> str:
    """A line of the screen without what differs from run to run."""
    line = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", line)
    line = re.sub(r"/\S*/vault-dev-\w+", "FOLDER", line)
    line = re.sub(r'"created":"[^"]*"', '"created":TIME', line)
    line = re.sub(r"[0-9a-f]{32}", "ID", line)
    return re.sub(r'"(\d)-[0-9a-f]{12}"', r'"\1-HASH"', line)


def test_screen_is_what_the_demo_shows(demo: Demo) -> None:
    """Each line of the page's first screen, in its order; and no database is prepared for it."""
    shown = [shape(line) for line in blocks("text", PAGE)[0].splitlines()]
    seen = [shape(line) for line in (demo.program.err + demo.program.out).splitlines()]
    assert [line for line in seen if line in shown] == shown
    assert "dynamic role" not in demo.program.err


def test_five_lines_show_what_they_say(demo: Demo) -> None:
    """A read, a refused read, a write, a conflict, a rollback; of the first two, all that the page shows."""
    answers = [demo.typed(line).replace("\r", "").splitlines() for line in demo.lines]
    assert [answer[0].split()[1] for answer in answers] == ["200", "403", "200", "412", "200"]
    shown = blocks("text", PAGE)[1].split("\n\n")
    for part, answer in zip(shown, answers, strict=False):
        assert {shape(line) for line in part.splitlines()} <= {shape(line) for line in answer}
    read, _, written, conflict, restored = (json.loads(answer[-1]) for answer in answers)
    assert (read["version"], written["version"], restored["version"]) == (3, 4, 5)
    assert conflict["type"].endswith(":precondition-failed")
    assert (
        f"If-Match: {next(line for line in answers[0] if line.startswith('etag')).removeprefix('etag: ')}'"
        in (demo.lines[3])
    )


def test_one_grep_joins_both_audit_logs(demo: Demo) -> None:
    """What went to Vault is in both; what the roles refused, in ours alone. Figures and health are apart."""
    said = demo.typed(blocks("bash", PAGE)[2]).splitlines()
    trail = [json.loads(line) for line in said if '"request_id": "bob-' in line]
    assert [(deed["username"], deed["verb"], deed["outcome"]) for deed in trail] == [
        ("bob", "list", "ok"),
        ("bob", "delete", "forbidden"),
    ]
    assert any('"x-request-id":["bob-1"]' in line for line in said)
    assert not any('"x-request-id":["bob-2"]' in line for line in said)
    assert any(line.startswith("vault_gateway_requests_total{") for line in said)
    assert said[-4:] == [
        "[+] keys of the identity provider: ok", "[+] token of acme: ok", "[+] token of globex: ok", "ready",
    ]  # fmt: skip


def test_own_server_is_prepared_and_served(backend: Backend, tmp_path: Path, start: Run) -> None:
    """The lines of the page in a copy, so that they write there; the server is its own issuer, which needs a key."""
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "docs", "secrets"))
    install, administer, *rest = blocks("bash", PAGE)[1].splitlines()
    assert install == "pip install -r requirements.txt -r gateway/requirements.txt"
    server = {name: value for name, value in backend.administration.items() if not name.startswith("DB_")}
    assert set(re.findall(r"(\w+)=", administer)) <= set(server)
    issuer = f"{backend.url}/v1/identity/oidc"
    for path, about in ISSUER.items():
        backend.root.adapter.post(f"/v1/identity/oidc/{path}", json=about)
    lines = "\n".join(rest).replace("https://login.example.com", issuer).replace("\npython", f"\nexec {sys.executable}")
    metrics = free_port(0)
    folder = f"{Path(sys.executable).parent}{os.pathsep}{bao_folder()}{os.pathsep}{os.environ['PATH']}"
    program = start(
        "bash", "-euc", f"cd {copy}\n{lines}", **server | {"PATH": folder},
        GATEWAY_PORT="0", GATEWAY_METRICS_PORT=str(metrics),
    )  # fmt: skip
    try:
        program.wait_for('"event": "LoggedIn"', times=2)
        eventually(lambda: shell(f"curl -s http://127.0.0.1:{metrics}/readyz").stdout == "ready\n")
        assert {path.name for path in (copy / "gateway/secrets").iterdir()} == {"acme", "globex"}
        assert program.stop(signal.SIGTERM)[0] in (0, -signal.SIGTERM)
    finally:
        clean(backend)


def clean(backend: Backend) -> None:
    root = backend.root
    for path in reversed(ISSUER):
        root.adapter.delete(f"/v1/identity/oidc/{path}")
    root.sys.disable_secrets_engine("tenants")
    root.sys.disable_auth_method("gateway-jwt")
    for tenant in ("acme", "globex"):
        root.adapter.delete(f"/v1/auth/approle/role/my-vault-app-gateway-{tenant}")
        for policy in (f"my-vault-app-gateway-{tenant}", f"gateway-{tenant}-read", f"gateway-{tenant}-write"):
            root.sys.delete_policy(policy)


def test_routes_are_those_of_the_code() -> None:
    """Each with its methods."""
    listed = re.findall(r"^\| `(GET|PUT|POST|DELETE) (/\S+)` \|", PAGE, re.MULTILINE)
    handlers = [(endpoint, method) for endpoint in ENDPOINTS for method in ("GET", "PUT", "POST", "DELETE")]
    methods = [(method, each.template) for each, method in handlers if hasattr(each, method.lower())]
    assert sorted(listed) == sorted(methods)


def test_every_problem_has_its_remedy() -> None:
    """All types, and no other, with their statuses."""
    section = PAGE.partition("## Troubleshooting\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    for statuses, kinds, _ in rows:
        least, *others = [int(status) for status in re.findall(r"\d+", statuses)]
        allowed = range(least, others[-1] + 1) if " to " in statuses else (least, *others)
        assert {KINDS[kind].status for kind in re.findall(r"`([\w-]+)`", kinds)} <= set(allowed)
    named = [*re.findall(r"`([\w-]+)`", " ".join(kinds for _, kinds, _ in rows)), "internal"]
    assert sorted(named) == sorted(KINDS)
    assert f"`internal` ({KINDS['internal'].status})" in section


def test_role_on_the_page_is_the_shipped_one(tmp_path: Path) -> None:
    """And the rule that the text adds does what it says."""
    (role,) = blocks("ini", PAGE)
    assert role in (PROJECT / "gateway/roles.ini").read_text(encoding="utf-8")
    (denied,) = re.findall(r"`(deny = .*)`", PAGE)
    path = tmp_path / "roles.ini"
    path.write_text(f"{role}{denied}\n", encoding="utf-8")
    roles = Roles.load(path)
    held = roles.of({"groups": ["acme-readers"]}, "acme")
    assert [roles.allows(held, "read", path) for path in ("app", "payroll/app")] == [True, False]


def test_page_is_short_enough() -> None:
    """Read in one sitting; its first line of code is the one command."""
    assert len(PAGE.splitlines()) <= LONGEST_PAGE
    assert blocks("bash", PAGE)[0] == "make gateway\n"
