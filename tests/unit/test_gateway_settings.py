"""The settings of the gateway: the file that is shipped, the environment, and all problems at once."""

from __future__ import annotations

import configparser
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.roles import Roles
from gateway.settings import DEFAULT_PATH, SECTIONS, GatewaySettings, is_trusted
from gateway.tenants import vault_config
from vaultkit.errors import ConfigurationError

ENOUGH = {"GATEWAY_SECRET_ID_FILE": "/run/{tenant}.secret-id"}


def load(**environ: str) -> GatewaySettings:
    return GatewaySettings.load(environ={**ENOUGH, **environ})


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as error:
        load(**environ)
    return error.value.problems


def test_shipped_file_holds_the_defaults() -> None:
    """Every setting, in the order of its section, with its default."""
    found = configparser.RawConfigParser()
    found.read(DEFAULT_PATH)
    assert set(SECTIONS) <= set(found.sections())
    for section, kind in SECTIONS.items():
        assert list(found[section]) == [each.name for each in fields(kind)]
        for each in fields(kind):
            if not each.metadata["required"]:
                assert each.metadata["parse"](found[section][each.name]) == each.default


def test_environment_wins() -> None:
    settings = load(GATEWAY_PORT="1", GATEWAY_IDENTITY_LEEWAY="2", GATEWAY_LIMITS_DEPTH="3", GATEWAY_METRICS_PORT="4")
    assert (settings.gateway.port, settings.identity.leeway) == (1, 2.0)
    assert (settings.limits.depth, settings.metrics.port) == (3, 4)


def test_tenant_is_a_prefix_by_default() -> None:
    gateway = load().gateway
    assert gateway.place_of("acme") == ("", "tenants", "acme")
    assert gateway.role_id_of("acme", "my-vault-app") == "my-vault-app-gateway-acme"
    assert gateway.secret_id_file_of("acme", "my-vault-app") == "/run/acme.secret-id"
    assert Roles.load(Path(gateway.roles)).of({"groups": ["acme-readers"]}, "acme") == {"reader"}


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"GATEWAY_NAMESPACE": "teams/{tenant}", "GATEWAY_PREFIX": ""}, ("teams/acme", "tenants", "")),
        ({"GATEWAY_MOUNT": "{tenant}-kv", "GATEWAY_PREFIX": ""}, ("", "acme-kv", "")),
        ({"GATEWAY_PREFIX": "of/{tenant}/app"}, ("", "tenants", "of/acme/app")),
    ],
)
def test_tenant_may_be_elsewhere(environ: dict[str, str], place: tuple[str, str, str]) -> None:
    assert load(**environ).gateway.place_of("acme") == place


WRONG: list[tuple[dict[str, str], str]] = [
    ({"GATEWAY_PREFIX": ""}, "all tenants are at one place"),
    ({"GATEWAY_PREFIX": "{tenants}"}, "[gateway] prefix"),
    ({"GATEWAY_PREFIX": "{"}, "[gateway] prefix"),
    ({"GATEWAY_PREFIX": "../{tenant}"}, "[gateway] prefix"),
    ({"GATEWAY_MOUNT": ""}, "[gateway] mount"),
    ({"GATEWAY_NAMESPACE": "te am"}, "[gateway] namespace"),
    ({"GATEWAY_TENANTS": ""}, "[gateway] tenants: a value is required"),
    ({"GATEWAY_TENANTS": "acme,Globex"}, "[gateway] tenants"),
    ({"GATEWAY_TENANTS": "acme,acme"}, "[gateway] tenants"),
    ({"GATEWAY_TENANTS": "acme,a/b"}, "[gateway] tenants"),
    ({"GATEWAY_TENANTS": "acme,"}, "[gateway] tenants"),
    ({"GATEWAY_ACT_AS": "root"}, "[gateway] act_as"),
    ({"GATEWAY_SECRET_ID_FILE": ""}, "[gateway] secret_id_file: a value is required"),
    ({"GATEWAY_HOST": ""}, "[gateway] host"),
    ({"GATEWAY_IDENTITY_ISSUER": ""}, "[gateway_identity] issuer: a value is required"),
    ({"GATEWAY_IDENTITY_ISSUER": "http://idp.example.com"}, "[gateway_identity] issuer"),
    ({"GATEWAY_IDENTITY_JWKS_URL": "http://idp.example.com/keys"}, "[gateway_identity] jwks_url"),
    ({"GATEWAY_IDENTITY_CA_FILE": "/no/such"}, "[gateway_identity] ca_file"),
    ({"GATEWAY_IDENTITY_ALGORITHMS": "HS256"}, "[gateway_identity] algorithms"),
    ({"GATEWAY_IDENTITY_ALGORITHMS": "ES256,none"}, "[gateway_identity] algorithms"),
    ({"GATEWAY_IDENTITY_LEEWAY": "31"}, "[gateway_identity] leeway"),
    ({"GATEWAY_LIMITS_BODY_SIZE": "0"}, "[gateway_limits] body_size"),
    ({"GATEWAY_IDENTITY_ISSUR": "x"}, "GATEWAY_IDENTITY_ISSUR: unknown variable"),
]


@pytest.mark.parametrize(("environ", "problem"), WRONG, ids=str)
def test_wrong_setting_is_an_error(environ: dict[str, str], problem: str) -> None:
    (found,) = problems(**environ)
    assert problem in found


def test_all_problems_come_at_once() -> None:
    found = problems(GATEWAY_PORT="x", GATEWAY_PREFIX="", GATEWAY_IDENTITY_ISSUER="", GATEWAY_LIMITS_KEYS="-1")
    assert len(found) == 4


def test_callers_need_no_secret_id() -> None:
    assert load(GATEWAY_ACT_AS="caller", GATEWAY_SECRET_ID_FILE="").gateway.act_as == "caller"


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://idp.example.com/realms/x/", True), ("https://idp/v1", True), ("https://idp/keys?p=1", True),
        ("http://127.0.0.1:8200/v1/identity/oidc", True), ("http://localhost", True), ("http://[::1]:80/x", True),
        ("http://idp", False), ("http://127.0.0.1.example.com", False), ("http://localhost.example.com", False),
        ("https://user@idp", False), ("https://", False), ("file:///etc/passwd", False), ("https://idp:x", False),
        ("https://i dp", False), ("https://idp#x", False), ("", False), ("//idp", False),
    ],
)  # fmt: skip
def test_nobody_on_the_way_is_trusted(url: str, trusted: bool) -> None:
    assert is_trusted(url) == trusted


def test_no_section_is_left_unread(tmp_path: Path) -> None:
    path: Any = tmp_path / "gateway.ini"
    path.write_text("[gateway]\ntenants = a\n[gateway_identity]\nissuer = https://x\n[gateway_limit]\n[identity]\n")
    with pytest.raises(ConfigurationError) as error:
        GatewaySettings.load(path, ENOUGH)
    assert [problem.split(":")[0] for problem in error.value.problems] == ["[gateway_limit]", "[identity]"]


def test_requests_to_vault_are_bound_as_config_ini_says() -> None:
    """Its sections are the gateway's, too, all but who logs in."""
    config = vault_config({"HTTP_TIMEOUT": "2.5", "TOKEN_BACKOFF_MAX": "2", "VAULT_AUTH_METHOD": "jwt"})
    assert (config.http.timeout, config.token.backoff_max, config.vault.auth_method) == (2.5, 2.0, "approle")
