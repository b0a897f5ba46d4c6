"""The gateway's figures for Prometheus. Every label is one of a closed set; whatever is not in it is `other`.

So no path, no method that a scanner makes up, and no tenant of a forged claim makes a series: what strangers send
cannot fill our memory. The figures that are reckoned (tokens, cache) are asked for at the scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache, partial
from http import HTTPStatus
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from listeners.metrics import kind_of
from listeners.metrics_of_secrets import OTHER

from .cache import OUTCOMES

UNMATCHED = "unmatched"
MOST_TENANTS = 100
"""So many tenants have figures of their own, the first of the settings; the others share those of `other`."""
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
STATUSES = frozenset(str(status.value) for status in HTTPStatus)
DECISIONS = frozenset({"allow", "deny"})
LAYERS = frozenset({"rbac", "vault"})
OPERATIONS = frozenset({"read", "list", "write", "delete", "versions", "rollback", "metadata", "renew", "login"})
REFRESHES = frozenset({"ok", "failed"})
REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: a hit takes a fraction of the first, a hung Vault [http] timeout."""


def one_of(known: Collection[str], label: str, instead: str = OTHER) -> str:
    return label if label in known else instead


class Closed:
    """A counter whose series are all there from the start, at 0: else its first increase would be none to an alert."""

    def __init__(self, counter: Counter, *labels: Collection[str]) -> None:
        self._known = [frozenset(known) for known in labels]
        self._series = {each: counter.labels(*each) for each in product(*({*known, OTHER} for known in labels))}

    def __call__(self, *labels: str) -> Counter:
        """The series of these labels, whatever they are."""
        found = self._series.get(labels)
        return found or self._series[tuple(map(one_of, self._known, labels))]


class GatewayMetrics:
    """The gateway's figures in a registry.

    `routes` are the templates of the routes (`/vault/secrets/{path}`), `tenants` those of the settings. All methods may
    be called from any thread, and wait for nothing.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        version: str,
        routes: Collection[str],
        tenants: Collection[str],
        auth_outcomes: Collection[str],
    ) -> None:
        self._routes = frozenset(routes)
        self._tenants = frozenset(list(tenants)[:MOST_TENANTS])
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=REQUEST_BUCKETS)
        Info("vault_gateway", "What runs.", registry=registry).info({"version": version})
        requests = counter("vault_gateway_requests", "Answers.", ["route", "method", "status"])
        self._requests = lru_cache(maxsize=None)(requests.labels)  # as many as there are series
        self._request_seconds = seconds("vault_gateway_request_seconds", "From request to answer.", ["route"])
        self._cache = Closed(counter("vault_gateway_cache", "Reads, by what the cache did.", ["outcome"]), OUTCOMES)
        self._auth = Closed(counter("vault_gateway_auth", "JWTs, by what was found.", ["outcome"]), auth_outcomes)
        self._authz = Closed(
            counter("vault_gateway_authz", "Decisions of roles and of policies.", ["decision", "layer"]),
            DECISIONS,
            LAYERS,
        )
        self._upstream_seconds = seconds("vault_gateway_upstream_seconds", "Requests to Vault.", ["operation"])
        self._upstream_errors = counter("vault_gateway_upstream_errors", "Requests to Vault that failed.", ["kind"])
        self._jwks = Closed(
            counter("vault_gateway_jwks_refresh", "Fetches of the provider's keys.", ["outcome"]), REFRESHES
        )
        self._audit_failures = counter("vault_gateway_audit_failures", "Lines of the audit trail not written.")
        self._expiry = gauge("vault_gateway_token_expiry_seconds", "What is left of a tenant's token.", ["tenant"])
        self._entries = gauge("vault_gateway_cache_entries", "Secrets in the cache.")

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """An answer was given. `route` is a template; "" is what matched none."""
        route = one_of(self._routes, route, UNMATCHED)
        self._requests(route, one_of(METHODS, method), one_of(STATUSES, str(status))).inc()
        self._request_seconds.labels(route).observe(seconds)

    def cache(self, outcome: str) -> None:
        self._cache(outcome).inc()

    def auth(self, outcome: str) -> None:
        self._auth(outcome).inc()

    def authz(self, decision: str, layer: str) -> None:
        self._authz(decision, layer).inc()

    def upstream(self, operation: str, seconds: float) -> None:
        """A request to Vault is over, however it ended."""
        self._upstream_seconds.labels(one_of(OPERATIONS, operation)).observe(seconds)

    def upstream_error(self, error: Exception) -> None:
        """By the class of the error alone: its text names paths."""
        self._upstream_errors.labels(kind_of(error)).inc()

    def jwks_refresh(self, outcome: str) -> None:
        self._jwks(outcome).inc()

    def audit_failure(self) -> None:
        self._audit_failures.inc()

    def watch_token(self, tenant: str, seconds_left: Callable[[], float]) -> None:
        """Ask for what is left of a tenant's token at each scrape; where several share a series, the last one's."""
        self._expiry.labels(one_of(self._tenants, tenant)).set_function(seconds_left)

    def watch_cache(self, entries: Callable[[], float]) -> None:
        self._entries.set_function(entries)
