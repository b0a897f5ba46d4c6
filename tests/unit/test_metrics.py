"""The figures of the application: what events make of them, and that no event makes a series too many."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from config_loader import VaultConfig
from listeners.command_line import start_metrics
from listeners.metrics import MetricsListener
from listeners.metrics_of_secrets import MOST_NAMES
from tests.fakes import ROLE_ID, SECRET_ID, FakeClock
from vaultkit.errors import (
    ConfigurationError,
    LoginUnavailable,
    PermissionDenied,
    VaultError,
    VaultSealed,
    VaultTimeout,
    VaultUnreachable,
)
from vaultkit.events import (
    DatabaseLoginChecked,
    Event,
    HealthCheckFailed,
    LeaseRenewed,
    LeaseUnusable,
    LoggedIn,
    LoginFailed,
    NoLeaseRenewal,
    NoVersionQuery,
    PrefixStale,
    RenewalFailed,
    SecretChanged,
    SecretRead,
    StaleServed,
    TokenLeft,
    TokenLost,
    TokenRenewed,
    TokenRevoked,
    TurnFailed,
    TurnTaken,
)
from vaultkit.lifetime import Moment
from vaultkit.secret import Secret

CANARY = "hunter2"
KV = {"engine": "kv_secret", "name": "database"}
ROLE = {"engine": "database_dynamic", "name": "db-demo-dynamic"}
BELOW = {"engine": "kv_secret", "name": "team/*"}


def configured(**environ: str) -> VaultConfig:
    return VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID, **environ})


class Figures:
    """A listener, and its figures as a scrape shows them."""

    def __init__(self, **environ: str) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.listener = MetricsListener(configured(**environ), self.registry, version="1.2.3", clock=self.clock)

    def hear(self, *events: Event) -> None:
        for event in events:
            self.listener(event)

    def __call__(self, name: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"vault_app_{name}", labels)

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def series(self) -> int:
        return sum(len(family.samples) for family in parse(self.text()))

    def secret(self, engine: str = "kv_secret", name: str = "database", ttl: float | None = None) -> Secret:
        ends = None if ttl is None else Moment.now(self.clock).after(ttl)
        version = 3 if ttl is None else None
        data = {"password": CANARY}
        return Secret(engine, name, data, version=version, lease_id=CANARY, expires=ends, clock=self.clock)

    def turn(self, *read: Secret, kept: tuple[Secret, ...] = ()) -> None:
        self.hear(*map(SecretRead, read), TurnTaken((*read, *kept)[0].engine, read=len(read), kept=kept))


@pytest.fixture
def figures() -> Figures:
    return Figures(KV_SECRET_PATH="database,team/*")


def test_ttl_of_the_token_falls_by_itself(figures: Figures) -> None:
    """It is reckoned at the scrape, from the last login or renewal on."""
    assert figures("token_expiry_seconds") == 0
    figures.hear(LoggedIn(1, 60.0))
    figures.clock.pass_time(20)
    assert (figures("token_expiry_seconds"), figures("token_ttl_seconds")) == (40, 60)
    figures.hear(TokenRenewed(30.0, last=True))
    assert (figures("token_expiry_seconds"), figures("token_renewals_total")) == (30, 1)
    figures.clock.pass_time(31)
    assert figures("token_expiry_seconds") == 0


@pytest.mark.parametrize("end", [TokenLost("gone"), TokenRevoked(None, 5.0), TokenLeft(5.0)])
def test_no_token_has_no_ttl(figures: Figures, end: Event) -> None:
    """However it went."""
    figures.hear(LoggedIn(1, 60.0), end)
    assert (figures("token_expiry_seconds"), figures("token_ttl_seconds")) == (0, 0)


def test_login_after_loss_is_a_new_generation(figures: Figures) -> None:
    """T8: counted, as the loss is."""
    figures.hear(LoggedIn(1, 60.0), TokenLost("gone"), LoggedIn(2, 60.0))
    assert (figures("token_generation"), figures("logins_total"), figures("tokens_lost_total")) == (2, 2, 1)


AWAY = VaultUnreachable("cannot reach Vault")
FAILURES = [
    (HealthCheckFailed(VaultTimeout("slow")), "health", "VaultTimeout"),
    (LoginFailed(LoginUnavailable("no file"), 1.0), "login", "LoginUnavailable"),
    (RenewalFailed(VaultSealed("sealed"), 9.0, 1.0), "renewal", "VaultSealed"),
    (StaleServed(Secret("kv_secret", "database", {}), AWAY, 1.0), "refresh", "VaultUnreachable"),
    (PrefixStale("team/*", 7, AWAY, 1.0), "refresh", "VaultUnreachable"),
    (LeaseUnusable("database_dynamic", "x", AWAY, True, 0), "lease", "VaultUnreachable"),
    (NoLeaseRenewal(PermissionDenied("403")), "lease", "PermissionDenied"),
    (NoVersionQuery(PermissionDenied("403")), "version", "PermissionDenied"),
    (TokenRevoked(AWAY, 5.0), "revocation", "VaultUnreachable"),
    (LoginFailed(OSError(CANARY), 1.0), "login", "other"),
]


@pytest.mark.parametrize(("event", "operation", "kind"), FAILURES)
def test_failures_are_counted_by_kind(figures: Figures, event: Event, operation: str, kind: str) -> None:
    """By what was tried, and by the class of the error; its text stays out."""
    figures.hear(event)
    assert figures("failures_total", operation=operation, kind=kind) == 1
    assert CANARY not in figures.text()


def test_failed_turns_are_those_of_a_worker(figures: Figures) -> None:
    """As many as there were secrets not read; an unknown worker is `other`."""
    figures.hear(TurnFailed("kv-secret", AWAY, 7), TurnFailed("login", VaultError(CANARY)))
    assert figures("worker_failures_total", worker="kv-secret", kind="VaultUnreachable") == 7
    assert figures("worker_failures_total", worker="other", kind="VaultError") == 1


def test_secret_that_is_read_or_kept_is_young(figures: Figures) -> None:
    """Its age counts from the last turn that held it, and its TTL to the end."""
    role = figures.secret("database_dynamic", "db-demo-dynamic", ttl=60)
    figures.turn(figures.secret())
    figures.turn(role)
    figures.clock.pass_time(10)
    assert figures("secret_age_seconds", **KV) == 10
    figures.turn(kept=(figures.secret(),))
    assert (figures("secret_age_seconds", **KV), figures("secret_version", **KV)) == (0, 3)
    assert (figures("secret_ttl_seconds", **ROLE), figures("secret_version", **ROLE)) == (50, None)
    assert figures("secret_ttl_seconds", **KV) is None


def test_stale_secret_grows_old(figures: Figures) -> None:
    """Turns hold it, too, but do not make it younger (K4)."""
    figures.turn(figures.secret())
    figures.clock.pass_time(10)
    figures.turn(kept=(replace(figures.secret(), stale=True),))
    assert (figures("secret_age_seconds", **KV), figures("secrets_stale", **KV)) == (10, 1)
    figures.turn(kept=(figures.secret(),))
    assert (figures("secret_age_seconds", **KV), figures("secrets_stale", **KV)) == (0, 0)


def test_secrets_below_a_prefix_share_one_series(figures: Figures) -> None:
    """Their names are none of the figures'; what is gone is gone after the turn."""
    figures.turn(figures.secret(), *(figures.secret(name=f"team/{number}") for number in range(50)))
    figures.clock.pass_time(5)
    assert (figures("secrets", **KV), figures("secrets", **BELOW)) == (1, 50)
    figures.turn(kept=(figures.secret(), figures.secret(name="team/7")))
    assert (figures("secrets", **BELOW), figures("secret_version", **BELOW)) == (1, None)
    assert "team/7" not in figures.text()


def test_many_names_in_the_settings_are_bounded() -> None:
    """Beyond MOST_NAMES they share the series of `other`."""
    names = [f"app/{number}" for number in range(MOST_NAMES + 5)]
    figures = Figures(KV_SECRET_PATH=",".join(names))
    figures.turn(*(figures.secret(name=name) for name in names))
    assert figures("secrets", engine="kv_secret", name="other") == 5


def test_changes_renewals_and_leases_left_behind(figures: Figures) -> None:
    """A first read is no change; what was given back is not left behind. They begin at 0."""
    secret = figures.secret("database_dynamic", "db-demo-dynamic", ttl=9)
    label = {"engine": "database_dynamic"}
    assert [figures(f"{name}_total", **label) for name in ("secret_changes", "leases_left_behind")] == [0, 0]
    figures.hear(SecretChanged(secret, None), SecretChanged(secret, secret), LeaseRenewed(secret, last=False))
    figures.hear(*(LeaseUnusable("database_dynamic", "x", AWAY, given_back, 1) for given_back in (True, False)))
    figures.hear(DatabaseLoginChecked(secret, None, CANARY), DatabaseLoginChecked(secret, CANARY, None))
    assert figures("secret_changes_total", **label) == 1
    assert figures("lease_renewals_total", **label) == 1
    assert figures("leases_left_behind_total", **label) == 1
    assert figures("database_login_checks_total", outcome="failed") == 1
    assert CANARY not in figures.text()


def test_ready_with_a_token_and_every_engine_read() -> None:
    """What is off is not waited for; each check says what it lacks."""
    figures = Figures(DATABASE_DYNAMIC_ENABLED="false", DATABASE_STATIC_ENABLED="false")
    assert figures.listener.ready() == {"token": "there is none", "kv_secret": "nothing was read yet"}
    figures.hear(LoggedIn(1, 60.0))
    figures.turn(figures.secret())
    assert figures.listener.ready() == {"token": True, "kv_secret": True}
    assert figures("info", version="1.2.3") == 1


TEXTS = st.text(max_size=20)
ERRORS = st.builds(
    lambda name, text: type(name, (VaultError,), {})(text), st.from_regex(r"[A-Z][a-z]{0,9}", fullmatch=True), TEXTS
)
SECRETS = st.builds(Secret, TEXTS, TEXTS, st.just({"value": CANARY}))
STRANGE: list[Callable[..., st.SearchStrategy[Event]]] = [
    lambda: st.builds(TurnFailed, TEXTS, ERRORS),
    lambda: st.builds(LoginFailed, ERRORS, st.just(1.0)),
    lambda: st.builds(SecretRead, SECRETS),
    lambda: st.builds(SecretChanged, SECRETS, SECRETS),
    lambda: st.builds(LeaseRenewed, SECRETS, st.booleans()),
    lambda: st.builds(LeaseUnusable, TEXTS, TEXTS, ERRORS, st.booleans(), st.integers()),
    lambda: st.builds(lambda name: TurnTaken("kv_secret", 0, [Secret("kv_secret", name, {})]), TEXTS),
]


@given(st.lists(st.one_of(*(each() for each in STRANGE)), max_size=40))
def test_p1_no_event_makes_a_series_of_its_own(events: list[Event]) -> None:
    """Whatever the names, engines, workers and errors: each figure has its `other`."""
    figures = Figures()
    figures.hear(*events)
    assert figures.series() <= Figures().series() + 15
    assert CANARY not in figures.text()


def test_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants no figures does without prometheus-client; whoever does learns what to install."""
    for module in ("prometheus_client", "listeners.metrics", "listeners.metrics_server"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match="pip install 'prometheus-client"):
        start_metrics(configured(METRICS_PORT="1"), "1")
