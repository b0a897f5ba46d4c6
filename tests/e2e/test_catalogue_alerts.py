"""The catalogue's alerts: each fires on what it is about, and not on a day on which all is well. promtool plays them.

All at once: each of its runs reads the rules anew, which takes a second.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.conftest import PROJECT

FILE = PROJECT / "kubernetes/alerts/prod.yaml"
STEP, STEPS, AFTER, EVALUATED = "1m", 240, "4h", "5m"
KEY = 'namespace="llm",name="openai-api-key"'
WEB = 'namespace="user",name="web-tls"'
ENTRIES = [KEY, *(f'namespace="user",name="{name}"' for name in ("session-signing", "reporting-login", "database",
                                                                  "batch-login", "web-tls"))]  # fmt: skip
Series = dict[str, str]


def steady(value: float) -> str:
    return f"{value}x{STEPS}"


def rising(by: float = 1) -> str:
    return f"0+{by}x{STEPS}"


def of_each(name: str, values: str, more: str = "") -> Series:
    return {f"{name}{{{entry}{more}}}": values for entry in ENTRIES}


READY = of_each("externalsecret_status_condition", steady(1), ',condition="Ready",status="True"')
SECRETS = {f"kube_secret_info{{{entry.replace('name=', 'secret=').replace('secretspace', 'namespace')}}}": steady(1)
           for entry in ENTRIES}  # fmt: skip
LOGINS = 'externalsecret_provider_api_calls_count{provider="HashiCorp/Vault",call="Login",status="success"}'
ENDS = f"secrets_catalogue_certificate_end_timestamp_seconds{{{WEB}}}"
FAILING = f'externalsecret_status_condition{{{KEY},condition="Ready",status="False"}}'
STORE = 'secretstore_status_condition{namespace="llm",name="vault-store",condition="Ready",status="False"}'
CALLS = f"externalsecret_sync_calls_total{{{KEY}"
LIFE, AT = 72 * 3600, 4 * 3600


class Case(NamedTuple):
    """An alert, with series on which it fires after four hours, and series on which it does not."""

    alert: str
    fires: Series
    quiet: Series


CASES = [
    Case("SecretNotReady", {FAILING: steady(1)}, READY),
    Case("SecretSyncErrors", {f"externalsecret_sync_calls_error{{{KEY}}}": rising()},
         {f"externalsecret_sync_calls_error{{{KEY}}}": steady(7)}),
    Case("SecretStoreNotReady", {STORE: steady(1)}, {STORE: steady(0)}),
    Case("SecretUnknown", dict(list(READY.items())[1:]), READY),
    Case("SecretTargetMissing", dict(list(SECRETS.items())[1:]), SECRETS),
    Case("SecretSilent", {f"externalsecret_sync_calls_total{{{KEY}}}": steady(5)},
         {f"externalsecret_sync_calls_total{{{KEY}}}": "0 " + " ".join(f"{each}x59" for each in range(1, 5))}),
    Case("SecretLoginStorm", {LOGINS: rising(60)}, {LOGINS: rising(1)}),
    Case("SecretDrift", {f'secrets_catalogue_drift{{{KEY},kind="edited"}}': steady(1)},
         {f'secrets_catalogue_drift{{{KEY},kind="edited"}}': steady(0)}),
    Case("SecretDriftNotChecked", {"secrets_catalogue_checked_timestamp_seconds": steady(0)},
         {"secrets_catalogue_checked_timestamp_seconds": rising(60)}),
    Case("SecretRotationOverdue", {'secrets_catalogue_overdue_seconds{path="prod/llm/openai",owner="a"}': steady(5)},
         {'secrets_catalogue_overdue_seconds{path="prod/llm/openai",owner="a"}': steady(0)}),
    Case("SecretCertificateEnds", {ENDS: steady(AT + LIFE / 5)}, {ENDS: steady(AT + LIFE / 3)}),
]  # fmt: skip


def alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def played(folder: Path, cases: list[tuple[str, Series]]) -> str:
    """What promtool says of the alerts that it was to find none of, after four hours; "" if there are none."""
    tests: list[dict[str, Any]] = [
        {
            "interval": STEP,
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": AFTER, "alertname": alert, "exp_alerts": []}],
        }
        for alert, series in cases
    ]
    file = folder / "test.yaml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(FILE)], "evaluation_interval": EVALUATED, "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=100)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is ("SUCCESS" in said), said
    return said if done.returncode else ""


@pytest.mark.tools("promtool")
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """On the series that they are about."""
    said = played(tmp_path, [(case.alert, case.fires) for case in CASES])
    assert [case.alert for case in CASES if f"alertname: {case.alert}," not in said] == [], said


@pytest.mark.tools("promtool")
def test_alerts_are_quiet_when_all_is_well(tmp_path: Path) -> None:
    """Also after a restart of External Secrets, whose new pod counts anew, and has not looked at everything yet."""
    restart = {f'{CALLS},pod="old"}}': "0 1x59 2x59 3x59 4x10", f'{CALLS},pod="new"}}': f"{'_ ' * 200}1x39"}
    assert played(tmp_path, [*((case.alert, case.quiet) for case in CASES), ("SecretSilent", restart)]) == ""


def test_each_alert_is_tried_and_says_what_to_do() -> None:
    """A case each, a summary, one line of what to do, and a heading in the runbook."""
    assert [case.alert for case in CASES] == alerts()
    text = FILE.read_text(encoding="utf-8")
    for key in ("summary", "runbook", "runbook_url", "severity"):
        assert len(re.findall(rf"\b{key}: \S", text)) == len(alerts()), key
    runbook = (PROJECT / "docs/RUNBOOK.md").read_text(encoding="utf-8")
    assert [alert for alert in alerts() if f"## {alert}\n" not in runbook] == []
