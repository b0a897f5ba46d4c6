"""What is locked out: an entity, a role, a mount or everybody; and what of it there is to freeze, revoke and rotate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import hvac

from scripts.operating import keys_at
from vaultkit.errors import ConfigurationError

KINDS = ("entity", "role", "mount", "all")
ROLES_AT = {"token": "roles", "cert": "certs", "userpass": "users"}
"""Where an auth method lists its roles, if not at `role`."""
QUOTAS = "sys/quotas/rate-limit"
HARDLY_ANY = {"rate": 0.0001, "interval": "1h"}
"""0 stands for no limit. What counts anew for each address lets one request of each through."""


@dataclass(frozen=True)
class Freeze:
    """Something that keeps new tokens and leases from being issued, and can be lifted again."""

    what: str
    path: str
    shut: Mapping[str, Any]
    """What is written there to freeze; first what is looked at afterwards."""
    lifted: Mapping[str, Any] | None = None
    """What is written there to lift; None: it is deleted."""

    def begin(self, api: hvac.Client) -> None:
        api.write_data(self.path, data=dict(self.shut))

    def is_shut(self, api: hvac.Client) -> bool:
        """By what Vault has there now."""
        key, wanted = next(iter(self.shut.items()))
        return bool(api.read(self.path)["data"].get(key) == wanted)

    def lift(self, api: hvac.Client) -> None:
        if self.lifted is None:
            api.delete(self.path)
        else:
            api.write_data(self.path, data=dict(self.lifted))


def nobody(token: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True)
class Scope:
    """What is to be locked out, in Vault's terms."""

    title: str
    freezes: tuple[Freeze, ...] = ()
    holds: Callable[[Mapping[str, Any]], bool] = nobody
    """Whether a token, as lookup-accessor tells of it, is among them."""
    approles: tuple[str, ...] = ()
    """Paths of AppRoles, such as auth/approle/role/shop, whose secret_ids are destroyed."""
    leases: tuple[str, ...] = ()
    """Mounts, or folders in them, whose leases are revoked: `shop-database/`, and "" for all."""
    statics: tuple[str, ...] = ()
    """Paths of static database roles, such as shop-database/static-roles/web, whose password is rotated."""
    databases: tuple[str, ...] = ()
    """Mounts of database engines in whose databases sessions are ended."""
    kv: tuple[str, ...] = ()
    """Mounts of KV engines, whose secrets are to be changed where they come from."""
    entities: tuple[str, ...] = field(default=(), repr=False)
    """The ids of the entities that are disabled."""


def scope_of(api: hvac.Client, kind: str, name: str) -> Scope:
    """The scope that was asked for. Raises: ConfigurationError or SecretNotFound, if there is none."""
    house = House(api)
    if kind == "entity":
        return of_entity(house, name)
    if kind == "all":
        return of_all(house)
    mount = house.mount_of(name)
    rest = name[len(mount) :].strip("/")
    if bool(rest) != (kind == "role"):
        raise ConfigurationError([f"{name}: expected the path of a mount, and behind it, for `role`, that of a role"])
    if mount.startswith("auth/"):
        return of_auth_role(house, mount, rest) if rest else of_auth_mount(house, mount)
    return of_database_role(house, mount, rest) if rest else of_mount(house, mount)


class House:
    """What is mounted on the server, and who is looking."""

    def __init__(self, api: hvac.Client) -> None:
        self.api = api
        engines = api.read("sys/mounts")["data"]
        methods = api.read("sys/auth")["data"]
        self.types = {path: about["type"] for path, about in engines.items()}
        self.types.update({f"auth/{path}": about["type"] for path, about in methods.items()})

    def mount_of(self, name: str) -> str:
        """The mount in which a path lies, with a slash behind it. Raises: ConfigurationError."""
        found = max((mount for mount in self.types if f"{name.strip('/')}/".startswith(mount)), key=len, default="")
        if not found:
            raise ConfigurationError([f"{name}: nothing is mounted there, see `vault secrets list`, `vault auth list`"])
        return found

    def of_type(self, *types: str, below: str = "") -> tuple[str, ...]:
        return tuple(mount for mount, kind in self.types.items() if kind in types and mount.startswith(below))

    def approles(self, mounts: Iterable[str]) -> tuple[str, ...]:
        return tuple(
            f"{mount}role/{role}"
            for mount in mounts
            if self.types[mount] == "approle"
            for role in keys_at(self.api, f"{mount}role")
        )

    def statics(self, mounts: Iterable[str]) -> tuple[str, ...]:
        return tuple(
            f"{mount}static-roles/{role}" for mount in mounts for role in keys_at(self.api, f"{mount}static-roles")
        )


# ── Entities ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def disabling(name: str) -> Freeze:
    """Its tokens and its logins are refused from that moment on."""
    return Freeze(f"entity {name}: disabled", f"identity/entity/name/{name}", {"disabled": True}, {"disabled": False})


def of_entity(house: House, name: str) -> Scope:
    """Its tokens, the secret_ids of its AppRoles, and what is in its mounts, which are called NAME-…"""
    about = house.api.read(f"identity/entity/name/{name}")["data"]
    databases, kv = house.of_type("database", below=f"{name}-"), house.of_type("kv", below=f"{name}-")
    return Scope(
        title=f"entity {name}",
        freezes=(disabling(name),),
        holds=lambda token: token.get("entity_id") == about["id"],
        approles=approles_of(house, about["aliases"] or []),
        leases=databases,
        statics=house.statics(databases),
        databases=databases,
        kv=kv,
        entities=(about["id"],),
    )


def approles_of(house: House, aliases: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """The AppRoles that log in as an entity: those whose role_id is an alias of it."""
    names = {f"auth/{alias['mount_path'].removeprefix('auth/')}": alias["name"] for alias in aliases}
    return tuple(
        role
        for mount, role_id in names.items()
        for role in house.approles([mount] if mount in house.types else [])
        if house.api.read(f"{role}/role-id")["data"]["role_id"] == role_id
    )


# ── Roles and mounts ─────────────────────────────────────────────────────────────────────────────────────────────────


def limiting(path: str, role: str = "") -> Freeze:
    """Of the requests to a path, or to a mount (with a slash behind it) with a role, one of each address passes."""
    name = "-".join(["break-glass", *path.strip("/*").split("/"), *([role] if role else [])])
    what = f"requests to {path}{f' of {role}' if role else ''}: refused (429), but for one of each address"
    return Freeze(what, f"{QUOTAS}/{name}", {"path": path, **HARDLY_ANY, **({"role": role} if role else {})})


def of_auth_role(house: House, mount: str, role: str) -> Scope:
    """The tokens that came of a login with this role, or that were created of this token role."""
    kind = house.types[mount]
    must_have(house, f"{mount}{ROLES_AT.get(kind, 'role')}", role)
    if kind == "token":
        return Scope(title=f"token role {role}", holds=lambda token: token.get("role") == role)
    return Scope(
        title=f"role {mount}{role}",
        freezes=(limiting(mount, role),),
        holds=lambda token: came_of(token, mount) and role_of(token) == role,
        approles=(f"{mount}role/{role}",) if kind == "approle" else (),
    )


def must_have(house: House, path: str, role: str) -> None:
    """Raises: ConfigurationError. Of a name that is mistyped there would be nothing to do, which looks like success."""
    found = keys_at(house.api, path)
    if role not in found:
        raise ConfigurationError([f"{path}/{role}: there is no such role; expected one of: {', '.join(found)}"])


def role_of(token: Mapping[str, Any]) -> str:
    """The role that a token came of, as its login method calls it."""
    meta = token.get("meta") or {}
    return next((str(meta[key]) for key in ("role_name", "role", "cert_name", "username") if key in meta), "")


def came_of(token: Mapping[str, Any], mount: str) -> bool:
    return str(token.get("path", "")).startswith(mount)


def of_auth_mount(house: House, mount: str) -> Scope:
    """All tokens that came of it."""
    return Scope(
        title=f"mount {mount}",
        # Not more than logins: what destroys secret_ids, and in auth/token what revokes tokens, is in the mount, too.
        freezes=() if house.types[mount] == "token" else (limiting(f"{mount}login*"),),
        holds=lambda token: came_of(token, mount),
        approles=house.approles([mount]),
    )


def of_database_role(house: House, mount: str, role: str) -> Scope:
    """A dynamic or a static role of a database engine."""
    if house.types[mount] != "database":
        raise ConfigurationError(
            [f"{mount}{role}: {mount} is of type {house.types[mount]}, expected database, or auth/…"]
        )
    static = role in keys_at(house.api, f"{mount}static-roles")
    if not static:
        must_have(house, f"{mount}roles", role)
    return Scope(
        title=f"role {mount}{role}",
        freezes=(limiting(f"{mount}{'static-creds' if static else 'creds'}/{role}"),),
        leases=() if static else (f"{mount}creds/{role}/",),
        statics=(f"{mount}static-roles/{role}",) if static else (),
        databases=(mount,),
    )


def of_mount(house: House, mount: str) -> Scope:
    """All that a secrets engine has issued."""
    if house.types[mount] != "database":
        kv = (mount,) if house.types[mount] == "kv" else ()
        return Scope(title=f"mount {mount}", freezes=(limiting(mount),), leases=(mount,), kv=kv)
    paths = [f"{mount}creds/{role}" for role in keys_at(house.api, f"{mount}roles")]
    paths += [f"{mount}static-creds/{role}" for role in keys_at(house.api, f"{mount}static-roles")]
    return Scope(
        title=f"mount {mount}",
        freezes=tuple(limiting(path) for path in paths),  # not the mount: its passwords are rotated there
        leases=(mount,),
        statics=house.statics([mount]),
        databases=(mount,),
    )


def of_all(house: House) -> Scope:
    """Everybody but who asks: other entities, other auth methods, every token, lease and password."""
    own = house.api.auth.token.lookup_self()["data"]
    entities = {
        name: house.api.read(f"identity/entity/name/{name}")["data"]["id"]
        for name in keys_at(house.api, "identity/entity/name")
    }
    others = {name: number for name, number in entities.items() if number != own.get("entity_id")}
    methods = [mount for mount in house.of_type(*set(house.types.values()), below="auth/") if not came_of(own, mount)]
    databases = house.of_type("database")
    return Scope(
        title="all",
        freezes=(
            *(disabling(name) for name in others),
            *(limiting(f"{mount}login*") for mount in methods if house.types[mount] != "token"),
        ),
        holds=lambda token: True,
        approles=house.approles(methods),
        leases=("",),
        statics=house.statics(databases),
        databases=databases,
        kv=house.of_type("kv"),
        entities=tuple(others.values()),
    )
