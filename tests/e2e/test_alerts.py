"""The alerts: each fires on what it is about, and not on a day on which all is well. promtool plays the time series."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from config_loader import VaultConfig
from gateway.telemetry import GatewayMetrics
from listeners.metrics import MetricsListener
from listeners.metrics_of_secrets import SecretsCollector
from tests.e2e.conftest import PROJECT
from tests.fakes import ROLE_ID, SECRET_ID

APPLICATION, GATEWAY = PROJECT / "listeners/alerts.yaml", PROJECT / "gateway/alerts.yaml"
FILES = (APPLICATION, GATEWAY)
NAME = re.compile(r"\bvault_(?:app|gateway)_\w+")
AFTER = "30m"
STEP = "15s"
STEPS = 120
"""Half an hour, a scrape every 15 s."""
HERE = 'instance="a:1"'
SECRET = f'{HERE},engine="kv_secret",name="database"'


class Case(NamedTuple):
    """An alert, with series on which it fires after half an hour, and series on which it does not.

    "0+3x9" begins at 0 and goes up by 3 at each scrape; "5x9" stays; what is missing is not scraped.
    https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series
    """

    alert: str
    fires: dict[str, str]
    quiet: dict[str, str]


def steady(value: float) -> str:
    return f"{value}x{STEPS}"


def rising(by: float) -> str:
    return f"0+{by}x{STEPS}"


def sawtooth(most: float, least: float) -> str:
    """A TTL that falls to a fifth and is renewed, for half an hour: eight scrapes from most to least."""
    falls = " ".join(f"{most - (most - least) * number / 7:.0f}" for number in range(8))
    return " ".join([falls] * (STEPS // 8 + 1))


CASES = [
    Case("VaultAppAbsent", {}, {f'vault_app_info{{{HERE},version="1"}}': steady(1)}),
    Case(
        "VaultAppNoToken",
        {f"vault_app_token_expiry_seconds{{{HERE}}}": steady(0)},
        {f"vault_app_token_expiry_seconds{{{HERE}}}": sawtooth(60, 12)},
    ),
    Case(
        "VaultAppTokenRunsOut",
        {
            f"vault_app_token_expiry_seconds{{{HERE}}}": f"300-1x{STEPS}",
            f"vault_app_token_ttl_seconds{{{HERE}}}": steady(3600),
        },
        {
            f"vault_app_token_expiry_seconds{{{HERE}}}": sawtooth(3600, 720),
            f"vault_app_token_ttl_seconds{{{HERE}}}": steady(3600),
        },
    ),
    Case(
        "VaultAppLoginsRepeat",
        {f"vault_app_logins_total{{{HERE}}}": rising(1)},
        {f"vault_app_logins_total{{{HERE}}}": f"1x{STEPS - 10} 2x9"},
    ),
    Case(
        "VaultAppSecretsStale",
        {f"vault_app_secrets_stale{{{SECRET}}}": f"0x{STEPS - 20} 1x19"},
        {f"vault_app_secrets_stale{{{SECRET}}}": f"0x{STEPS - 5} 1x4"},  # for a minute
    ),
    Case(
        "VaultAppSecretOld",
        {f"vault_app_secret_age_seconds{{{SECRET}}}": rising(15)},
        {f"vault_app_secret_age_seconds{{{SECRET}}}": steady(5)},
    ),
    Case(
        "VaultAppSecretExpired",
        {f"vault_app_secret_ttl_seconds{{{SECRET}}}": steady(0)},
        {f"vault_app_secret_ttl_seconds{{{SECRET}}}": sawtooth(60, 10)},
    ),
    Case(
        "VaultAppWorkerFails",
        {f'vault_app_worker_failures_total{{{HERE},worker="kv-secret",kind="SecretNotFound"}}': rising(1)},
        {f'vault_app_worker_failures_total{{{HERE},worker="kv-secret",kind="SecretNotFound"}}': f"0x{STEPS - 9} 2x8"},
    ),
    Case(
        "VaultAppLeasesLeftBehind",
        {f'vault_app_leases_left_behind_total{{{HERE},engine="database_dynamic"}}': f"0x{STEPS - 9} 1x8"},
        {f'vault_app_leases_left_behind_total{{{HERE},engine="database_dynamic"}}': steady(3)},
    ),
    Case("VaultGatewayAbsent", {}, {'vault_gateway_info{version="1"}': steady(1)}),
    Case(
        "VaultGatewayErrors",
        {
            'vault_gateway_requests_total{route="r",method="GET",status="200"}': rising(100),
            'vault_gateway_requests_total{route="r",method="GET",status="503"}': rising(10),
        },
        {
            'vault_gateway_requests_total{route="r",method="GET",status="200"}': rising(100),
            'vault_gateway_requests_total{route="r",method="GET",status="404"}': rising(50),
            'vault_gateway_requests_total{route="r",method="GET",status="503"}': rising(1),
        },
    ),
    Case(
        "VaultGatewaySlow",
        {
            'vault_gateway_request_seconds_bucket{route="r",le="1.0"}': rising(90),
            'vault_gateway_request_seconds_bucket{route="r",le="5.0"}': rising(100),
            'vault_gateway_request_seconds_bucket{route="r",le="+Inf"}': rising(100),
        },
        {
            'vault_gateway_request_seconds_bucket{route="r",le="1.0"}': rising(999),
            'vault_gateway_request_seconds_bucket{route="r",le="5.0"}': rising(1000),
            'vault_gateway_request_seconds_bucket{route="r",le="+Inf"}': rising(1000),
        },
    ),
    Case(
        "VaultGatewayUpstreamFails",
        {'vault_gateway_upstream_errors_total{kind="VaultSealed"}': rising(3)},
        {'vault_gateway_upstream_errors_total{kind="SecretNotFound"}': rising(1)},
    ),
    Case(
        "VaultGatewayServesStale",
        {
            'vault_gateway_cache_total{outcome="stale"}': rising(1),
            'vault_gateway_cache_total{outcome="hit"}': rising(9),
        },
        {
            'vault_gateway_cache_total{outcome="stale"}': steady(4),
            'vault_gateway_cache_total{outcome="hit"}': rising(9),
        },
    ),
    Case(
        "VaultGatewayTokenRunsOut",
        {'vault_gateway_token_expiry_seconds{tenant="acme"}': f"{3600}x{STEPS - 20} 0x19"},
        {'vault_gateway_token_expiry_seconds{tenant="acme"}': sawtooth(60, 12)},
    ),
    Case(
        "VaultGatewayCallersRefused",
        {'vault_gateway_auth_total{outcome="signature"}': rising(150)},
        {
            'vault_gateway_auth_total{outcome="ok"}': rising(900),
            'vault_gateway_auth_total{outcome="expired"}': rising(9),
        },
    ),
    Case(
        "VaultGatewayLayersDisagree",
        {'vault_gateway_authz_total{decision="deny",layer="vault"}': f"0x{STEPS - 9} 1x8"},
        {'vault_gateway_authz_total{decision="deny",layer="rbac"}': rising(5)},
    ),
    Case(
        "VaultGatewayKeysNotFetched",
        {
            'vault_gateway_jwks_refresh_total{outcome="failed"}': rising(1),
            'vault_gateway_jwks_refresh_total{outcome="ok"}': steady(9),
        },
        {
            'vault_gateway_jwks_refresh_total{outcome="failed"}': rising(1),
            'vault_gateway_jwks_refresh_total{outcome="ok"}': rising(1),
        },
    ),
    Case(
        "VaultGatewayAuditFails",
        {"vault_gateway_audit_failures_total": f"0x{STEPS - 9} 1x8"},
        {"vault_gateway_audit_failures_total": steady(3)},
    ),
]


def alerts_of(file: Path) -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)


def firing(folder: Path, case: Case, series: dict[str, str]) -> bool:
    """Whether the alert fires on these series after half an hour. promtool fails where it was to find none."""
    rules = next(file for file in FILES if case.alert in alerts_of(file))
    test: dict[str, Any] = {
        "interval": STEP,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": AFTER, "alertname": case.alert, "exp_alerts": []}],
    }
    file = folder / "test.yaml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": STEP, "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is ("SUCCESS" in said), said
    assert done.returncode == 0 or f"alertname: {case.alert}" in said, said
    return done.returncode != 0


@pytest.mark.tools("promtool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_alert_fires_when_it_should_and_only_then(tmp_path: Path, case: Case) -> None:
    """On the series that it is about; not on those of a day on which all is well."""
    assert firing(tmp_path, case, case.fires)
    assert not firing(tmp_path, case, case.quiet)


@pytest.mark.tools("promtool")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_prometheus_takes_the_file(file: Path) -> None:
    """As rule_files names it."""
    subprocess.run(["promtool", "check", "rules", file], check=True, capture_output=True, timeout=60)


def test_each_alert_is_tried_and_says_what_to_do() -> None:
    """A case each, in the order of the files; a summary and one line of what to do."""
    assert [case.alert for case in CASES] == [alert for file in FILES for alert in alerts_of(file)]
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        for key in ("summary", "runbook", "severity"):
            assert len(re.findall(rf"\b{key}: \S", text)) == len(alerts_of(file)), (file, key)


def names_in(registry: CollectorRegistry) -> set[str]:
    """What a scrape may show: counters with _total, histograms with _bucket."""
    names = set()
    for metric in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
        names |= {metric.name + ending for ending in endings.get(metric.type, [""])}
    return names


def test_figures_in_the_alerts_are_those_of_the_code() -> None:
    """A figure that is renamed would else leave an alert that never fires."""
    application, gateway = CollectorRegistry(), CollectorRegistry()
    config = VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
    MetricsListener(config, application, version="1")
    GatewayMetrics(gateway, version="1", routes=[], tenants=[], auth_outcomes=[])
    known = names_in(application) | names_in(gateway)
    assert "vault_app_secrets_stale" in {metric.name for metric in SecretsCollector({}).collect()}
    for file in FILES:
        named = set(NAME.findall(file.read_text(encoding="utf-8"))) - set(alerts_of(file))
        assert named - known == set()
