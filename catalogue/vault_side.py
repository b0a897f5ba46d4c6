"""What Vault is told: policies, roles, what is known of each secret. A file is named by the path it is written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from catalogue.entries import READER, Catalogue, Certificate, Dynamic, Issued, Place, Static, Stored, token_ttl
from catalogue.fields import in_words
from catalogue.keepers import GIVE_BACK, LOOK, Paths, keeper_paths
from catalogue.rendered import HEADER, Tree, as_json

PARTS = ("data", "metadata")
USER = (
    "CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}'"
    ' IN ROLE "{role}";'
)
# A session that was opened before outlives its user, and would hold what the user was granted.
NO_USER = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';",
    'DROP ROLE IF EXISTS "{{name}}";',
)


def vault_side(catalogue: Catalogue) -> Tree:
    """A folder for each environment: the paths of Vault's API, and the mounts that these need."""
    tree = {}
    for environment in catalogue.environments:
        for place in catalogue.places_in(environment.name):
            for path, text in of_place(catalogue, place):
                tree[f"vault/{environment.name}/{path}"] = text
        for name, paths in keeper_paths(catalogue, environment.name).items():
            account = name.removesuffix(f"-{environment.name}")
            role = login(catalogue, account, catalogue.operator.namespace, name, catalogue.vault.token_ttl)
            tree[f"vault/{environment.name}/sys/policies/acl/{name}.hcl"] = policy(paths)
            tree[f"vault/{environment.name}/auth/{environment.auth}/role/{name}.json"] = as_json(role)
        tree[f"vault/{environment.name}/{catalogue.vault.kv}/config.json"] = as_json({"cas_required": True})
        tree[f"vault/{environment.name}/mounts"] = HEADER + mounts(catalogue, environment.auth)
    return tree


def mounts(catalogue: Catalogue, auth: str) -> str:
    engines = {catalogue.vault.kv: "kv-v2", catalogue.vault.database: "database", catalogue.vault.pki: "pki"}
    lines = [f"auth {auth} kubernetes", *(f"secrets {path} {kind}" for path, kind in engines.items())]
    return "\n".join(lines) + "\n"


def of_place(catalogue: Catalogue, place: Place) -> Iterator[tuple[str, str]]:
    yield f"sys/policies/acl/{place.name}.hcl", policy(reading_paths(catalogue, place))
    yield (
        f"auth/{place.environment.auth}/role/{place.name}.json",
        as_json(login(catalogue, READER, place.namespace, place.name, catalogue.vault.token_ttl)),
    )
    for stored in place.stored:
        about = {"owner": stored.owner, "rotate_every": in_words(stored.rotate), "provider": stored.provider}
        path = f"{catalogue.vault.kv}/metadata/{place.key_of(stored)}.json"
        yield (
            path,
            as_json({"cas_required": True, "custom_metadata": {key: text for key, text in about.items() if text}}),
        )
    if place.issued:
        yield f"sys/policies/acl/{place.issuing}.hcl", policy(issuing_paths(catalogue, place))
        yield (
            f"auth/{place.environment.auth}/role/{place.issuing}.json",
            as_json(login(catalogue, READER, place.namespace, place.issuing, token_ttl(catalogue.vault, place))),
        )
    for issued in place.issued:
        yield f"{engine_path(catalogue, place, issued)}.json", as_json(role(place, issued))


def known(stored: Stored) -> dict[str, Any]:
    """What is noted beside the secret, where whoever lists sees it."""
    about = {"owner": stored.owner, "rotate_every": in_words(stored.rotate), "provider": stored.provider}
    return {"cas_required": True, "custom_metadata": {key: text for key, text in about.items() if text}}


def reading_paths(catalogue: Catalogue, place: Place) -> Paths:
    """What the store may do: read each secret by name, and what is known of it. No pattern.

    External Secrets looks at its token when it is done, and gives it back.
    """
    places = {f"{catalogue.vault.kv}/{part}/{place.key_of(each)}" for each in place.stored for part in PARTS}
    return {**{path: ["read"] for path in sorted(places)}, **LOOK, **GIVE_BACK}


def issuing_paths(catalogue: Catalogue, place: Place) -> Paths:
    """What the generators may do. Not to give the token back: what it asked for would end with it."""
    paths = {
        catalogue.issuing_path(place, each): ["update"] if isinstance(each, Certificate) else ["read"]
        for each in place.issued
    }
    return {**paths, **LOOK}


def engine_path(catalogue: Catalogue, place: Place, entry: Issued) -> str:
    """Where the engine's role for it is written."""
    mount = catalogue.vault.pki if isinstance(entry, Certificate) else catalogue.vault.database
    kind = "static-roles" if isinstance(entry, Static) else "roles"
    return f"{mount}/{kind}/{place.role_of(entry)}"


def policy(paths: Mapping[str, list[str]]) -> str:
    words = (f'path "{path}" {{ capabilities = [{quoted(may)}] }}\n' for path, may in paths.items())
    return HEADER + "".join(words)


def quoted(words: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def login(catalogue: Catalogue, account: str, namespace: str, policy: str, seconds: int) -> dict[str, Any]:
    """The role of the auth method."""
    return {
        "bound_service_account_names": [account],
        "bound_service_account_namespaces": [namespace],
        "audience": catalogue.vault.audience,
        # By its name: an account that is made anew has another uid, and would be another entity.
        "alias_name_source": "serviceaccount_name",
        "token_policies": [policy],
        "token_no_default_policy": True,
        "token_ttl": seconds,
        "token_max_ttl": seconds,
    }


def role(place: Place, entry: Issued) -> dict[str, Any]:
    """The role of the engine that issues it."""
    if isinstance(entry, Dynamic):
        return {
            "db_name": place.connection_of(entry),
            "creation_statements": [USER.format(role=entry.grant)],
            "revocation_statements": list(NO_USER),
            "default_ttl": entry.lease,
            "max_ttl": entry.lease,
        }
    if isinstance(entry, Static):
        return {
            "db_name": place.connection_of(entry),
            "username": place.filled(entry.username),
            "rotation_period": entry.rotate,
        }
    assert isinstance(entry, Certificate)
    return {
        "allowed_domains": [place.filled(name) for name in entry.names],
        "allow_bare_domains": True,
        "allow_subdomains": False,
        "allow_glob_domains": False,
        "allow_localhost": False,
        "allow_ip_sans": False,
        "key_type": "ec",
        "key_bits": 256,
        "max_ttl": entry.life,
    }
