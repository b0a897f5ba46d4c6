"""People with JWTs of OpenBao's own identity provider, and what lets OpenBao take these from them again, both ways."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import hvac

from gateway.callers import Callers
from gateway.kv import Ask

NAME = "callers"
"""Of everything that these tests make on the server; what setup/gateway makes has other names."""
MOUNT, LOGIN, PEOPLE = f"{NAME}-tenants", f"{NAME}-jwt", f"{NAME}-people"
AUDIENCE = "secrets-gateway"
CLAIMS = (
    '{"groups": {{identity.entity.groups.names}}, "username": {{identity.entity.name}},'
    ' "tenant": {{identity.entity.metadata.tenant}}, "nbf": {{time.now}}}'
)
STRICT = {"expiration_leeway": -1, "clock_skew_leeway": -1, "not_before_leeway": -1}
"""Else OpenBao takes what has expired minutes ago."""
PROGRAM: dict[str, Any] = {
    "variables": [
        {"name": "ok", "expression": "has(claims.tenant) && has(claims.groups)"},
        {"name": "base", "expression": f"'{NAME}-' + claims.tenant"},
        {
            "name": "policies",
            "expression": "((claims.tenant + '-writers') in claims.groups) ? [base + '-read', base + '-write']"
            " : (((claims.tenant + '-readers') in claims.groups) ? [base + '-read']"
            " : (((claims.tenant + '-auditors') in claims.groups) ? [base + '-audit'] : []))",
        },
    ],
    "expression": "ok && size(policies) > 0 ? pb.Auth{display_name: claims.username, policies: policies,"
    " metadata: {'tenant': claims.tenant}, alias: logical.Alias{name: claims.sub}, no_default_policy: true}"
    " : 'no access for this token'",
}


@dataclass(frozen=True)
class Jwt:
    """What a person comes with."""

    text: str
    tenant: str
    expires: float

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def ask(self, callers: Callers) -> Ask:
        return callers.ask_as(self.text, self.digest, self.expires, self.tenant)


class People:
    """The identity provider. A person has one tenant and some groups at a time, and may be given others."""

    def __init__(self, root: hvac.Client) -> None:
        self._root = root
        self._entities: dict[str, str] = {}
        if f"{MOUNT}/" not in root.sys.list_mounted_secrets_engines()["data"]:
            self._prepare()
        self._userpass = root.sys.list_auth_methods()["data"][f"{PEOPLE}/"]["accessor"]

    def _post(self, path: str, **body: Any) -> Any:
        return self._root.adapter.post(f"/v1/{path}", json=body)

    def _prepare(self) -> None:
        post, url = self._post, self._root.url
        post(f"sys/mounts/{MOUNT}", type="kv", options={"version": "2"})
        post("identity/oidc/config", issuer=url)
        post(f"identity/oidc/key/{NAME}", algorithm="ES256", verification_ttl="1h", allowed_client_ids="*")
        post(f"identity/oidc/role/{NAME}", key=NAME, client_id=AUDIENCE, ttl="5m", template=CLAIMS)
        post(f"sys/auth/{PEOPLE}", type="userpass")
        self.policy(f"{NAME}-id", {f"identity/oidc/token/{NAME}": ["read"]})
        post(f"sys/auth/{LOGIN}", type="jwt")
        issuer = f"{url}/v1/identity/oidc"
        post(f"auth/{LOGIN}/config", oidc_discovery_url=issuer, bound_issuer=issuer)
        bounds = {"bound_audiences": [AUDIENCE], **STRICT}
        post(f"auth/{LOGIN}/cel/role/gateway", cel_program=PROGRAM, **bounds)
        for tenant in ("acme", "globex"):
            self.policy(
                f"{NAME}-{tenant}-read", {f"data/{tenant}/*": ["read"], f"metadata/{tenant}/*": ["read", "list"]}
            )
            self.policy(f"{NAME}-{tenant}-write", {f"data/{tenant}/*": ["create", "update", "delete"]})
            self.policy(f"{NAME}-{tenant}-audit", {f"metadata/{tenant}/*": ["read", "list"]})
            post(
                f"auth/{LOGIN}/role/{tenant}", role_type="jwt", user_claim="sub", bound_claims={"tenant": tenant},
                token_policies=f"{NAME}-{tenant}-read", token_type="batch", token_ttl="5m",
                token_no_default_policy=True,
                **bounds,
            )  # fmt: skip

    def policy(self, name: str, paths: dict[str, list[str]]) -> None:
        whole = {path if path.startswith("identity") else f"{MOUNT}/{path}": paths[path] for path in paths}
        rules = {"path": {path: {"capabilities": capabilities} for path, capabilities in whole.items()}}
        self._root.sys.create_or_update_policy(name, rules)

    def jwt(self, person: str, tenant: str, *groups: str, ttl: str = "5m") -> Jwt:
        """A new JWT of a person, who is in this tenant and these groups from now on."""
        entity = self._entity(person)
        self._post(f"identity/entity/id/{entity}", metadata={"tenant": tenant})
        for group in ("acme-writers", "acme-readers", "acme-auditors", "globex-writers", "globex-readers"):
            self._post(f"identity/group/name/{group}", member_entity_ids=[entity] if group in groups else [])
        self._post(f"identity/oidc/role/{NAME}", key=NAME, client_id=AUDIENCE, ttl=ttl, template=CLAIMS)
        login = self._post(f"auth/{PEOPLE}/login/{person}", password=f"password-of-{person}")
        api = hvac.Client(url=self._root.url, token=login["auth"]["client_token"])
        answer = api.adapter.get(f"/v1/identity/oidc/token/{NAME}")["data"]
        return Jwt(answer["token"], tenant, time.time() + answer["ttl"])

    def _entity(self, person: str) -> str:
        if person not in self._entities:
            self._post(f"auth/{PEOPLE}/users/{person}", password=f"password-of-{person}", policies=f"{NAME}-id")
            self._post(f"identity/entity/name/{NAME}-{person}")
            entity = self._root.adapter.get(f"/v1/identity/entity/name/{NAME}-{person}")["data"]["id"]
            self._post("identity/entity-alias", name=person, canonical_id=entity, mount_accessor=self._userpass)
            self._entities[person] = entity
        return self._entities[person]
