"""The token: how long it lives, what it may do about itself, and what its policies grant on the way to the secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hvac

from config_loader import VaultConfig
from vaultkit.errors import Refused, VaultError
from vaultkit.transport.answers import expect, printable
from vaultkit.transport.limits import answers_up_to

from .findings import Findings
from .login import Granted
from .places import places_of

OF_ITSELF = {
    "lookup-self": ("auth/token/lookup-self", "read", "what is wrong with it after a 403 is then found out by a login"),
    "renew-self": ("auth/token/renew-self", "update", "it is replaced by a login at 4/5 of its life instead"),
    "revoke-self": ("auth/token/revoke-self", "update", "it lives on after the end, and its leases with it"),
}
LONGEST_ANSWER = 2**20


class Capabilities:
    """What the policies of the token grant on each path; `known` is false where a policy forbids to ask."""

    def __init__(self, granted: Mapping[str, Sequence[str]] | None, policies: Sequence[str]) -> None:
        self._granted = granted or {}
        self.known = granted is not None
        self.policies = policies

    def grant(self, path: str, capability: str) -> bool:
        """Whether they do, as far as is known: where it is not, the request itself will tell."""
        return not self.known or bool({capability, "root"} & set(self._granted.get(path, ())))


def look_at_token(config: VaultConfig, token: Granted, findings: Findings) -> Capabilities:
    """Tell of the token. Returns what it may do."""
    facts = {**token.auth, **looked_up(token.api)}
    policies = [printable(str(policy)) for policy in facts.get("policies") or ()]
    ttl = facts.get("ttl", token.auth.get("lease_duration")) or 0
    renewable = token.auth.get("renewable") is True
    kind = "batch" if facts.get("type", facts.get("token_type")) == "batch" else "service"
    life = f"{ttl} s left" if ttl else "no end"
    seen = f"{kind}, {life}, {'' if renewable else 'not '}renewable, policies {', '.join(policies) or 'none'}"
    if "root" in policies:
        findings.warn("token", f"{seen}: it may do everything, which no application should")
    else:
        findings.ok("token", seen)
    if "id" in facts and not facts.get("entity_id"):
        findings.warn("token", "belongs to no entity: what a policy grants by {{identity.entity.name}} is not granted")
    if uses := facts.get("num_uses"):
        findings.fault("token", f"good for {uses} requests more: such tokens do not fit", settings_command(config))
    capabilities = asked_for(token.api, config, policies, findings)
    if kind == "service":
        look_at_itself(token, capabilities, renewable, findings)
    return capabilities


def looked_up(api: hvac.Client) -> dict[str, Any]:
    try:
        return dict(expect(api.auth.token.lookup_self(), "data", dict))
    except VaultError:
        return {}  # `look_at_itself` tells of a policy that forbids it


def settings_command(config: VaultConfig) -> str:
    if config.vault.auth_method == "approle":
        return f"vault write auth/approle/role/{config.vault.entity} token_num_uses=0"
    role = getattr(config.auth, "role", "") or "NAME"
    return f"vault write auth/{getattr(config.auth, 'mount', 'token')}/role/{role} token_num_uses=0"


def asked_for(api: hvac.Client, config: VaultConfig, policies: Sequence[str], findings: Findings) -> Capabilities:
    """One request for all paths."""
    paths = [path for path, _, _ in OF_ITSELF.values()]
    paths += [path for place in places_of(config) for path in place.paths]
    try:
        with answers_up_to(LONGEST_ANSWER, "[http] max_response_size"):
            found = expect(api.sys.get_capabilities(paths=paths), "data", dict)
    except Refused:
        grant = "sys/capabilities-self"
        findings.warn("token", f"no policy of it grants update on {grant}: what it may do is seen by trying alone")
        return Capabilities(None, policies)
    except VaultError as error:
        findings.warn("token", f"what it may do is not known: {error}")
        return Capabilities(None, policies)
    return Capabilities({path: found.get(path) or () for path in paths}, policies)


def look_at_itself(token: Granted, capabilities: Capabilities, renewable: bool, findings: Findings) -> None:
    """Whether it may look itself up, renew itself, revoke itself."""
    if not capabilities.known:
        return
    not_needed = {"renew-self": not renewable, "revoke-self": not token.is_ours}
    needed = [name for name in OF_ITSELF if not not_needed.get(name)]
    missing = [name for name in needed if not capabilities.grant(*OF_ITSELF[name][:2])]
    for name in missing:
        path, capability, what_follows = OF_ITSELF[name]
        findings.warn("token", f'no policy of it grants "{capability}" on "{path}": {what_follows}')
    if needed and not missing:
        findings.ok("token", f"may do with itself what it must: {', '.join(needed)}")
