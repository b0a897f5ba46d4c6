"""`make gateway` and scripts/demo-token: what they start, what they print, and what they leave behind (nothing)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PROJECT, Program, Run
from tests.e2e.test_devserver import servers_of
from tests.e2e.test_setup_gateway import claims_of
from tests.integration.conftest import eventually

# A fake in place of the gateway, so that this is about what stands around it: it says who asked for what.
STAND_IN = """
import base64, json, os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def answer(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size).decode()
        claims = (self.headers.get("Authorization") or "...").split(".")[1]
        who = json.loads(base64.urlsafe_b64decode(claims + "==") or "{}").get("username", "nobody")
        said = f"{who} {self.command} {self.path} {self.headers.get('If-Match', '')} {body}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_GET = do_PUT = do_POST = answer
    def log_message(self, *_): pass
ports = (int(os.environ[name]) for name in ("GATEWAY_PORT", "GATEWAY_METRICS_PORT"))
servers = [ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in ports]
threading.Thread(target=servers[0].serve_forever, daemon=True).start()
print("listening at http://127.0.0.1:" + os.environ["GATEWAY_PORT"], flush=True)
servers[1].serve_forever()
"""
DEMO = """
import sys
from gateway import demo
demo.COMMAND = (sys.executable, "-c", *sys.argv[1:])
sys.exit(demo.main([]))
"""
TOKEN = PROJECT / "scripts/demo-token"
PEOPLE = {
    "alice": ("acme", {"acme-writers", "acme-readers"}),
    "bob": ("acme", {"acme-readers"}),
    "mallory": ("globex", {"globex-writers", "globex-readers"}),
    "oscar": ("acme", {"gateway-operators"}),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all that a demo writes. Not below pytest's own, which only its owner may enter."""
    path = Path("/tmp") / f"vault-test-{os.getpid()}-{tmp_path_factory.mktemp('demo').name}"
    for folder in (path, path / "tmp", path / "home"):
        folder.mkdir()
    yield path
    shutil.rmtree(path)


def environment(own: Path) -> dict[str, str]:
    return {"TMPDIR": str(own / "tmp"), "HOME": str(own / "home"), "DEMO_RUN_FOLDER": str(own / "run")}


def demo_with(script: str, own: Path) -> list[str]:
    """With a stand-in for the gateway, whose command line names the folder, as those of the servers do."""
    return [sys.executable, "-c", DEMO, script, str(own)]


def assert_nothing_is_left(own: Path) -> None:
    found = [path for path in own.rglob("*") if path not in (own / "tmp", own / "home", own / "run")]
    assert [str(path) for path in found] == []
    assert servers_of(own) == []


@pytest.fixture(scope="module")
def demo(own: Path) -> Iterator[Program]:
    """One that runs, for what is asked of it; it has gone when the module ends."""
    program = Program(demo_with(STAND_IN, own), environment(own))
    try:
        program.wait_for("Ctrl+C ends and removes")
        yield program
    finally:
        program.stop(signal.SIGINT)  # and not at once: its servers would stay


def ask(own: Path, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in arguments], env={**os.environ, **environment(own), **more}, cwd=PROJECT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", PEOPLE)
def test_token_says_who_it_is(demo: Program, own: Path, name: str) -> None:
    """A JWT and nothing else, also behind a proxy, which is for the world outside."""
    done = ask(own, TOKEN, name, HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    claims = claims_of(done.stdout.strip())
    assert (claims["username"], claims["tenant"], set(claims["groups"])) == (name, *PEOPLE[name])
    assert (claims["aud"], claims["exp"] - claims["iat"]) == ("secrets-gateway", 300)
    assert claims["iss"].endswith("/v1/identity/oidc")
    assert "nbf" in claims


def test_every_line_can_be_pasted(demo: Program, own: Path) -> None:
    """Five, in order; the JWT comes to the gateway, and is in none of them."""
    lines = [line.strip() for line in demo.out.splitlines() if line.startswith("  scripts/")]
    said = [ask(own, "bash", "-c", line).stdout.splitlines()[-1].split(" ", 4) for line in lines]
    assert [" ".join(words[:3]) for words in said] == [
        "alice GET /vault/secrets/app",
        "oscar GET /vault/secrets/app",
        "alice PUT /vault/secrets/app",
        "alice PUT /vault/secrets/app",
        "oscar POST /vault/rollback/app",
    ]
    assert said[3][3].startswith('"3-')
    assert [json.loads(words[4]) for words in said[3:]] == [
        {"data": {"api_key": "lost"}},
        {"version": 1},
    ]
    assert "eyJ" not in demo.out + demo.err


def test_demo_is_its_owners_alone(demo: Program, own: Path) -> None:
    """What it leaves for the second terminal, and the passwords."""
    left = own / "run/gateway.json"
    secrets = Path(json.loads(left.read_text())["secrets"])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (left, *secrets.iterdir())}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (left.parent, secrets)} == {0o700}
    values = [path.read_text().strip() for path in secrets.iterdir()]
    assert [value for value in values if value in demo.out + demo.err] == []


def test_stranger_is_told_who_there_is(own: Path) -> None:
    """And is given nothing."""
    done = ask(own, TOKEN, "eve")
    assert (done.returncode, done.stdout) == (2, "")
    assert "alice" in done.stderr


def test_ctrl_c_ends_all_of_it(demo: Program, own: Path) -> None:
    """The last of those that need it; then nobody is given a token, and told why."""
    assert demo.stop(signal.SIGINT)[0] == 0
    assert "everything is stopped and removed" in demo.err
    assert_nothing_is_left(own)
    done = ask(own, TOKEN, "alice")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "demo-token: `make gateway` does not run; start it in another terminal, in this folder\n"


def test_what_a_power_failure_left_is_no_demo(own: Path) -> None:
    """The file is there, and the server is not: said in the same words, and not with a traceback."""
    secrets = own / "secrets"
    secrets.mkdir()
    (secrets / "alice.password").write_text("a-password")
    (own / "run").mkdir(exist_ok=True)
    (own / "run/gateway.json").write_text(json.dumps({"vault": "http://127.0.0.1:1", "secrets": str(secrets)}))
    done = ask(own, TOKEN, "alice")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("demo-token: `make gateway` does not run")
    for path in (own / "run/gateway.json", secrets / "alice.password"):
        path.unlink()
    secrets.rmdir()


@pytest.mark.parametrize("moment", ["openbao.hcl", "setup-vault.log", "gateway.log"])
def test_signal_at_the_worst_moment(start: Run, own: Path, moment: str) -> None:
    """While the servers start, while they are prepared, while the gateway starts: nothing is left."""
    program = start(*demo_with("import time; time.sleep(60)", own), **environment(own))
    eventually(lambda: any(path.name == moment for path in own.rglob("*")))
    assert program.stop(signal.SIGTERM)[0] == 128 + signal.SIGTERM
    assert_nothing_is_left(own)


def test_gateway_that_dies_says_why(start: Run, own: Path) -> None:
    """With the end of its log; and all the rest is gone, too."""
    program = start(*demo_with("import sys; print('no room at the inn'); sys.exit(3)", own), **environment(own))
    assert program.wait() == 1
    assert "the gateway ended with status 3" in program.err
    assert "no room at the inn" in program.err
    assert_nothing_is_left(own)
