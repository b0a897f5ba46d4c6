"""The alerts on the secrets of an environment: files for Prometheus' rule_files, with the catalogue's intervals."""

from __future__ import annotations

from typing import Any

from catalogue.entries import STORE, Catalogue, Certificate, Environment, Place
from catalogue.fields import in_words
from catalogue.rendered import Object, Tree, as_yaml

LOGINS = 'externalsecret_provider_api_calls_count{provider="HashiCorp/Vault",call="Login"}'
STORM = 10
"""Times as many logins as the catalogue makes expect."""
VALIDATION = 300
"""Seconds after which External Secrets looks at a store again, with a login."""
CERTIFICATE_ENDS = (1, 4)
"""A certificate that has this share of its life left was to be replaced at a third."""
RUNBOOK = "docs/RUNBOOK.md"


def alerts(catalogue: Catalogue) -> Tree:
    """A file for each environment: each has a Prometheus of its own."""
    return {f"alerts/{each.name}.yaml": as_yaml({"groups": groups(catalogue, each)}) for each in catalogue.environments}


def groups(catalogue: Catalogue, environment: Environment) -> list[Object]:
    places = list(catalogue.places_in(environment.name))
    return [
        {"name": "secrets_expected", "rules": [rule for place in places for rule in expected(place)]},
        {"name": "secrets", "rules": [*synced(), *silent(places), *logins(places), *kept()]},
    ]


def expected(place: Place) -> list[Object]:
    """What there is to be, as series: so what is wholly absent is noticed."""
    rules = []
    for entry in place.entries:
        labels = {"namespace": place.namespace, "name": entry.name}
        rules.append(
            {"record": "secrets_catalogue_refresh_seconds", "expr": f"vector({entry.refresh})", "labels": labels}
        )
        if isinstance(entry, Certificate):
            life = {
                "record": "secrets_catalogue_certificate_seconds",
                "expr": f"vector({entry.life})",
                "labels": labels,
            }
            rules.append(life)
    return rules


def alert(name: str, expr: str, minutes: int, severity: str, summary: str, runbook: str) -> Object:
    rule: dict[str, Any] = {"alert": name, "expr": expr}
    if minutes:
        rule["for"] = f"{minutes}m"
    link = f"{RUNBOOK}#{name.lower()}"
    annotations = {"summary": summary, "runbook": runbook, "runbook_url": link}
    return {**rule, "labels": {"severity": severity}, "annotations": annotations}


CHECKED = "secrets_catalogue_checked_timestamp_seconds"
WHICH = "{{ $labels.namespace }}/{{ $labels.name }}"
EXPECTED = "secrets_catalogue_refresh_seconds"
ON = "on (namespace, name)"


def synced() -> list[Object]:
    """As External Secrets itself tells it, and kube-state-metrics."""
    return [
        alert(
            "SecretNotReady",
            'externalsecret_status_condition{condition="Ready",status="False"} == 1',
            10,
            "warning",
            f"{WHICH} is not synchronized; the Secret keeps what it has.",
            "kubectl describe externalsecret: a 403 wants the policy of its role, a 404 the secret itself.",
        ),
        alert(
            "SecretSyncErrors",
            "increase(externalsecret_sync_calls_error[15m]) > 2",
            5,
            "warning",
            f"{WHICH} fails again and again.",
            "See the log of External Secrets; if many fail at once, look at Vault and at its auth method first.",
        ),
        alert(
            "SecretStoreNotReady",
            'secretstore_status_condition{condition="Ready",status="False"} == 1',
            10,
            "critical",
            f"The store {WHICH} cannot log in, so nothing of its namespace is synchronized.",
            f"kubectl describe secretstore {STORE}: the CA, the role, the audience, or nobody who reviews tokens.",
        ),
        alert(
            "SecretUnknown",
            f'{EXPECTED} unless {ON} externalsecret_status_condition{{condition="Ready"}}',
            30,
            "critical",
            f"External Secrets does not know {WHICH}, which is in the catalogue.",
            "It was not applied, or External Secrets is not scraped or does not run: kubectl diff -k shows which.",
        ),
        alert(
            "SecretTargetMissing",
            f'{EXPECTED} unless {ON} label_replace(kube_secret_info, "name", "$1", "secret", "(.*)")',
            10,
            "critical",
            f"There is no Secret {WHICH}: pods that need it do not start.",
            "kubectl get externalsecret: one that is Ready makes it anew with the annotation force-sync.",
        ),
    ]


def silent(places: list[Place]) -> list[Object]:
    """Ready, and yet nothing was asked for two intervals: a condition may be stuck."""
    intervals = sorted({entry.refresh for place in places for entry in place.entries})
    return [
        alert(
            "SecretSilent",
            " or ".join(map(unasked, intervals)),
            5,
            "warning",
            f"{WHICH} has not been looked at for two of its intervals, whatever its condition says.",
            "Restart External Secrets; if it goes on, see whether its queue grows (workqueue_depth).",
        )
    ]


def unasked(seconds: int) -> str:
    """Those with this interval. A counter that began since, as after a restart, tells nothing yet."""
    calls, two = "externalsecret_sync_calls_total", in_words(2 * seconds)
    these = f"{ON} ({EXPECTED} == {seconds})"
    return f"(increase({calls}[{two}]) == 0 and {calls} and {calls} offset {two} and {these})"


def logins(places: list[Place]) -> list[Object]:
    """Each look at a secret and at a store is a login."""
    looks = [entry.refresh for place in places for entry in place.entries]
    stores = sum(1 for place in places if place.stored)
    most = STORM * (sum(60 / seconds for seconds in looks) + stores * 60 / VALIDATION)
    return [
        alert(
            "SecretLoginStorm",
            f"sum(rate({LOGINS}[5m])) * 60 > {most:.0f}",
            10,
            "warning",
            "External Secrets logs in to Vault far more often than the catalogue's intervals explain.",
            "See which ExternalSecret is read without pause: its template fails, or two controllers want its Secret.",
        )
    ]


def kept() -> list[Object]:
    """As `python -m catalogue drift` and `overdue` tell it."""
    share = f"{CERTIFICATE_ENDS[0]} / {CERTIFICATE_ENDS[1]}"
    return [
        alert(
            "SecretDrift",
            "secrets_catalogue_drift > 0",
            15,
            "warning",
            f"{WHICH} is not what Vault has: {{{{ $labels.kind }}}}.",
            "python -m catalogue drift names the keys that differ; who edited it, says the audit log of Kubernetes.",
        ),
        alert(
            "SecretDriftNotChecked",
            f"time() - {CHECKED} > 7200 or absent({CHECKED})",
            10,
            "warning",
            "For two hours nobody has compared the cluster with Vault.",
            "See the last jobs of the CronJob secrets-drift.",
        ),
        alert(
            "SecretRotationOverdue",
            "secrets_catalogue_overdue_seconds > 0",
            60,
            "warning",
            "{{ $labels.path }} of {{ $labels.owner }} was to be replaced by now.",
            "python -m catalogue overdue lists them; rotate replaces what has a provider, its owner the rest.",
        ),
        alert(
            "SecretCertificateEnds",
            "secrets_catalogue_certificate_end_timestamp_seconds - time()"
            f" < {ON} group_left secrets_catalogue_certificate_seconds * {share}",
            5,
            "critical",
            f"The certificate {WHICH} was to be replaced at two thirds of its life, and was not.",
            "As for SecretNotReady, with the role that ends with -issued; then see whether the pods read the new file.",
        ),
    ]
