"""[metrics] port: what a scrape of the running application shows, also while Vault hangs or is away."""

from __future__ import annotations

import signal
from collections.abc import Callable
from urllib.parse import urlsplit

import hvac
import requests

from devserver.openbao import free_port
from devserver.proxy import Proxy, say_nothing
from tests.backends import Backend
from tests.e2e.conftest import Program, Run
from tests.integration.conftest import eventually

DATABASE = '{engine="kv_secret",name="database"}'
FAST = {"KV_SECRET_REFRESH_INTERVAL": "0.5", "DATABASE_DYNAMIC_REFRESH_INTERVAL": "0.5"}
AT_ONCE_SECONDS = 10.0
"""Far below [http] timeout, for which a request waits that a hung Vault does not answer."""


class Scraped:
    """The application with a port for scrapes."""

    def __init__(self, app: Run, *options: str, **environment: str) -> None:
        self.port = free_port(0)
        self.program: Program = app(*options, METRICS_PORT=str(self.port), **FAST, **environment)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=AT_ONCE_SECONDS)

    def figure(self, name: str) -> float:
        """One series, by its name and labels as they stand in the text; -1 if it is not there."""
        lines = self.get("/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.rsplit(" ", 1)[0] == f"vault_app_{name}"), -1.0)

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz").status_code == 200
        except requests.ConnectionError:
            return False


def test_figures_of_a_running_application(app: Run, root: hvac.Client, values: Callable[[], list[str]]) -> None:
    """The TTL falls by itself; a token that is revoked is followed by another generation. No value in any figure."""
    scraped = Scraped(app, TOKEN_CHECK_INTERVAL="0.5")
    eventually(scraped.is_ready)
    first = scraped.figure("token_expiry_seconds")
    assert 0 < first <= 60
    eventually(lambda: scraped.figure("token_expiry_seconds") < first)
    assert scraped.figure("token_generation") == 1
    root.sys.revoke_prefix("auth/approle/login")
    eventually(lambda: scraped.figure("token_generation") == 2)
    assert scraped.figure("tokens_lost_total") == 1
    eventually(lambda: 0 <= scraped.figure(f"secret_age_seconds{DATABASE}") < 5)
    text = scraped.get("/metrics").text
    assert not [value for value in values() if value in text]
    status, seconds = scraped.program.stop(signal.SIGTERM)
    assert (status, seconds < AT_ONCE_SECONDS) == (0, True)


def test_hung_vault_holds_up_no_scrape(app: Run, backend: Backend) -> None:
    """It takes requests and says nothing: /livez and /metrics answer at once, and the age of what serves on grows."""
    where = urlsplit(backend.url)
    with Proxy((str(where.hostname), int(where.port or 0))).running() as proxy:
        scraped = Scraped(app, VAULT_URL=proxy.url)
        eventually(scraped.is_ready)
        proxy.misbehave(say_nothing)
        eventually(lambda: scraped.figure(f"secret_age_seconds{DATABASE}") > 2)
        for path in ("/livez", "/metrics", "/readyz"):
            assert scraped.get(path).status_code == 200
        status, seconds = scraped.program.stop(signal.SIGTERM)
        assert (status, seconds < AT_ONCE_SECONDS) == (0, True)


def test_figures_tell_of_an_outage(app: Run, backend: Backend) -> None:
    """What serves on is stale, and failures have a kind; once Vault is back, all is well."""
    where = urlsplit(backend.url)
    with Proxy((str(where.hostname), int(where.port or 0))).running() as proxy:
        scraped = Scraped(app, VAULT_URL=proxy.url, TOKEN_BACKOFF_MAX="1")
        eventually(scraped.is_ready)
        proxy.refuse()
        eventually(lambda: scraped.figure(f"secrets_stale{DATABASE}") == 1)
        assert scraped.figure('failures_total{kind="VaultUnreachable",operation="refresh"}') >= 1
        proxy.behave()
        eventually(lambda: scraped.figure(f"secrets_stale{DATABASE}") == 0)
        assert 0 <= scraped.figure(f"secret_age_seconds{DATABASE}") < 5
        scraped.program.stop(signal.SIGTERM)


def test_once_listens_nowhere(app: Run) -> None:
    """It is soon over, and may run beside the one that goes on, with the same settings."""
    first = Scraped(app)
    eventually(first.is_ready)
    assert app("--once", METRICS_PORT=str(first.port)).wait() == 0


def test_port_that_is_taken_ends_it(app: Run) -> None:
    """In words, with the status of a wrong configuration, before Vault is asked for anything."""
    first = Scraped(app)
    eventually(first.is_ready)
    second = app(METRICS_PORT=str(first.port))
    assert second.wait() == 2
    assert f"metrics: cannot listen on 127.0.0.1, port {first.port}: Address already in use" in second.err
    assert "Traceback" not in second.err
