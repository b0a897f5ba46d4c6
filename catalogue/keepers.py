"""Who keeps the secrets: what compares them (drift) and what replaces them (rotation), each with a role of its own."""

from __future__ import annotations

from catalogue.entries import Catalogue

DRIFT, ROTATION = "secrets-drift", "secrets-rotation"
"""Their accounts, in the namespace of External Secrets; with -ENVIRONMENT their roles and policies."""
JOURNAL = "rotations"
Paths = dict[str, list[str]]
LOOK = {"auth/token/lookup-self": ["read"]}
"""What the policy `default` would allow, too, which no role here has."""
GIVE_BACK = {"auth/token/revoke-self": ["update"]}
RENEW = {"auth/token/renew-self": ["update"]}


def keeper_paths(catalogue: Catalogue, environment: str) -> dict[str, Paths]:
    """What each may do in Vault, by the name of its policy."""
    return {
        f"{DRIFT}-{environment}": of_drift(catalogue, environment),
        f"{ROTATION}-{environment}": of_rotation(catalogue, environment),
    }


def listing(catalogue: Catalogue, environment: str) -> Paths:
    """What is known of every secret, and no value; and to keep a token alive meanwhile."""
    kv, scan = catalogue.vault.kv, ["scan"] if catalogue.vault.product == "openbao" else []
    return {
        **LOOK,
        **RENEW,
        **GIVE_BACK,
        f"{kv}/metadata/{environment}": ["list"],
        f"{kv}/metadata/{environment}/*": ["read", "list"],
        f"{kv}/detailed-metadata/{environment}": ["list", *scan],
        f"{kv}/detailed-metadata/{environment}/*": ["list", *scan],
    }


def of_drift(catalogue: Catalogue, environment: str) -> Paths:
    """It reads every value, to compare it: nothing else in the catalogue may do as much. It writes nothing."""
    auth = next(each.auth for each in catalogue.environments if each.name == environment)
    stored = [place.key_of(entry) for place in catalogue.places_in(environment) for entry in place.stored]
    return {
        **listing(catalogue, environment),
        **{f"{catalogue.vault.kv}/data/{key}": ["read"] for key in stored},
        "sys/policies/acl": ["list"],
        f"auth/{auth}/role": ["list"],
    }


def of_rotation(catalogue: Catalogue, environment: str) -> Paths:
    """It writes what has a provider, and nothing else."""
    kv, paths = catalogue.vault.kv, listing(catalogue, environment)
    for place in catalogue.places_in(environment):
        for key in (place.key_of(entry) for entry in place.stored if entry.provider):
            paths[f"{kv}/data/{key}"] = ["read", "update"]
            paths[f"{kv}/metadata/{key}"] = ["read", "patch"]
            paths[f"{kv}/data/{JOURNAL}/{key}"] = ["create", "read", "update"]
            paths[f"{kv}/metadata/{JOURNAL}/{key}"] = ["read"]
    return paths
