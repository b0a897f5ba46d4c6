"""The gateway's figures: that they parse, begin at 0, and that nobody from outside makes a series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from gateway.gateway import AUTH_OUTCOMES
from gateway.telemetry import MOST_TENANTS, GatewayMetrics
from vaultkit.errors import VaultError, VaultSealed

ROUTES = ("/vault/secrets/{path}", "/vault/list/{prefix}")


class Figures:
    def __init__(self, *tenants: str) -> None:
        self.registry = CollectorRegistry()
        self.of = GatewayMetrics(
            self.registry, version="1", routes=ROUTES, tenants=tenants or ("acme", "globex"),
            auth_outcomes=AUTH_OUTCOMES,
        )  # fmt: skip

    def __call__(self, name: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"vault_gateway_{name}", labels)

    def series(self) -> int:
        return sum(len(family.samples) for family in parse(generate_latest(self.registry).decode()))


def test_answers_are_counted_and_timed() -> None:
    """By route, method and status; what matched no route is one series, however it was called."""
    figures = Figures()
    figures.of.request(ROUTES[0], "GET", 200, 0.002)
    figures.of.request("/admin.php", "PROPFIND", 404, 0.001)
    figures.of.request("", "GET", 999, 0.001)
    assert figures("requests_total", route=ROUTES[0], method="GET", status="200") == 1
    assert figures("requests_total", route="unmatched", method="other", status="404") == 1
    assert figures("requests_total", route="unmatched", method="GET", status="other") == 1
    assert figures("request_seconds_sum", route=ROUTES[0]) == 0.002


def test_what_alerts_look_at_begins_at_zero() -> None:
    """The first refused caller is an increase."""
    figures = Figures()
    assert [figures("auth_total", outcome=outcome) for outcome in AUTH_OUTCOMES] == [0] * len(AUTH_OUTCOMES)
    assert figures("authz_total", decision="deny", layer="vault") == 0
    assert figures("cache_total", outcome="stale") == 0
    assert figures("jwks_refresh_total", outcome="failed") == 0
    assert figures("audit_failures_total") == 0


def test_each_figure_counts_its_own() -> None:
    """One call of each."""
    figures = Figures()
    figures.of.cache("hit")
    figures.of.auth("expired")
    figures.of.authz("deny", "rbac")
    figures.of.upstream("read", 0.2)
    figures.of.upstream_error(VaultSealed("secret/data/acme"))
    figures.of.jwks_refresh("ok")
    figures.of.audit_failure()
    figures.of.watch_cache(lambda: 7.0)
    figures.of.watch_token("acme", lambda: 42.0)
    assert figures("cache_total", outcome="hit") == 1
    assert figures("auth_total", outcome="expired") == 1
    assert figures("authz_total", decision="deny", layer="rbac") == 1
    assert figures("upstream_seconds_count", operation="read") == 1
    assert figures("upstream_errors_total", kind="VaultSealed") == 1
    assert figures("jwks_refresh_total", outcome="ok") == 1
    assert figures("audit_failures_total") == 1
    assert (figures("cache_entries"), figures("token_expiry_seconds", tenant="acme")) == (7, 42)
    assert figures("info", version="1") == 1


@pytest.mark.parametrize("tenant", ["mallory", f"t{MOST_TENANTS}"])
def test_tenants_are_those_of_the_settings(tenant: str) -> None:
    """And of these the first hundred."""
    figures = Figures(*(f"t{number}" for number in range(MOST_TENANTS + 1)))
    figures.of.watch_token(tenant, lambda: 1.0)
    assert figures("token_expiry_seconds", tenant="other") == 1


TEXT = st.text(max_size=30)


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 999), TEXT), max_size=50))
def test_strangers_make_no_series(requests: list[tuple[str, str, int, str]]) -> None:
    """Whatever the route, method, status, outcome, tenant and error: each has its `other`, and the page parses."""
    figures, most = Figures(), Figures()
    for each in (figures, most):
        each.of.request("no route", "no method", 999, 0.1)
        each.of.cache("")
        each.of.auth("")
        each.of.authz("", "")
        each.of.upstream("", 0.1)
        each.of.upstream_error(ValueError())
        each.of.jwks_refresh("")
        each.of.watch_token("", lambda: 0.0)
    for route, method, _, text in requests:
        figures.of.request(route, "x" + method, 999, 0.1)
        figures.of.cache(text + "?")
        figures.of.auth(text + "?")
        figures.of.authz(text + "?", text + "?")
        figures.of.upstream(text + "?", 0.1)
        figures.of.upstream_error(type("Strange", (VaultError,), {})(text))
        figures.of.jwks_refresh(text + "?")
        figures.of.watch_token(text + "?", lambda: 0.0)
    assert figures.series() == most.series()


@given(st.lists(st.integers(0, 999), max_size=50))
def test_statuses_are_those_of_http(statuses: list[int]) -> None:
    """A number that is none makes no series."""
    figures = Figures()
    for status in statuses:
        figures.of.request("", "GET", status, 0.1)
    known = {family.name for family in parse(generate_latest(figures.registry).decode())}
    assert "vault_gateway_requests" in known
    assert figures("requests_total", route="unmatched", method="GET", status="418") in (None, statuses.count(418))
    assert figures.series() < Figures().series() + 2 * 70 + 20
