"""Each secret: whether its engine is there and the right one, whether a policy grants it, and whether it is there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import groupby

import hvac

from config_loader import VaultConfig
from vaultkit.engines import ENGINES
from vaultkit.engines.database import role_must_exist
from vaultkit.errors import (
    PermissionDenied,
    RequestRejected,
    ResponseTooLarge,
    SecretDeleted,
    SecretNotFound,
    VaultError,
)
from vaultkit.settings import variable
from vaultkit.transport.answers import expect, printable

from .findings import Findings
from .places import ENGINE_TYPES, ROLES_AT, Place, places_of, unknown_engines
from .token import Capabilities


def look_at_secrets(
    config: VaultConfig, api: hvac.Client, capabilities: Capabilities, findings: Findings
) -> list[Place]:
    """Tell of each, without costing a lease. Returns those in which no fault was found."""
    good: list[Place] = []
    for _, group in groupby(places_of(config), key=lambda place: (place.section, place.mount)):
        places = list(group)
        if look_at_mount(places, api, capabilities, findings):
            good += [place for place in places if look_at_secret(place, api, capabilities, findings)]
    for section in unknown_engines(config):
        findings.warn(section, "not looked at: doctor/places.py does not know this engine")
    return good


def step(place: Place) -> str:
    return ENGINES[place.section].short_title


# ── The engine ───────────────────────────────────────────────────────────────────────────────────────────────────────


def look_at_mount(places: Sequence[Place], api: hvac.Client, capabilities: Capabilities, findings: Findings) -> bool:
    """Whether the right engine is mounted there; by what tells it to every token that may do anything in it."""
    place = places[0]
    mount, kind = place.mount, ENGINE_TYPES[place.section]
    enable = f"vault secrets enable -path={mount} {'-version=2 ' if kind == 'kv' else ''}{kind}"
    elsewhere = f"export {variable(place.section, 'mount')}=…    # if it is mounted elsewhere: vault secrets list"
    try:
        found = expect(api.adapter.get(f"/v1/sys/internal/ui/mounts/{mount}"), "data", dict)
    except PermissionDenied:
        granted = capabilities.known and [each for each in places if capabilities.grant(each.path, each.capability)]
        if granted:
            findings.fault(step(place), f"nothing is mounted at {mount}, though a policy grants it", enable)
        else:
            seen = f"{mount}: nothing is mounted there, or no policy ({in_words(capabilities)}) grants anything in it"
            findings.fault(step(place), seen, f"vault secrets list; {elsewhere}")
        return False
    except VaultError as error:
        findings.warn(step(place), f"the engine at {mount} cannot be asked for: {error}")
        return True
    is_there, version = str(found.get("path")).rstrip("/"), str((found.get("options") or {}).get("version", "1"))
    if is_there != mount:
        findings.fault(step(place), f"nothing is mounted at {mount}; at {printable(is_there)} there is", elsewhere)
    elif found.get("type") != kind:
        findings.fault(step(place), f"{mount} is of type {printable(str(found.get('type')))}, not {kind}", elsewhere)
    elif kind == "kv" and version != "2":
        seen = f"{mount} is KV version {printable(version)}, expected 2"
        findings.fault(step(place), seen, f"vault kv enable-versioning {mount}    # or {elsewhere}")
    else:
        findings.ok(step(place), f"{mount} is {'KV version 2' if kind == 'kv' else f'of type {kind}'}")
        return True
    return False


def in_words(capabilities: Capabilities) -> str:
    return ", ".join(capabilities.policies) or "it has none"


# ── The secret ───────────────────────────────────────────────────────────────────────────────────────────────────────


def look_at_secret(place: Place, api: hvac.Client, capabilities: Capabilities, findings: Findings) -> bool:
    """Whether the application would get it."""
    policy = next((name for name in capabilities.policies if name != "default"), "default")
    needed = f'path "{place.path}" {{ capabilities = ["{place.capability}"] }}'
    command = f"vault policy read {policy}    # is missing: {needed}"
    if not capabilities.grant(place.path, place.capability):
        seen = f'no policy ({in_words(capabilities)}) grants "{place.capability}" on "{place.path}"'
        findings.fault(step(place), seen, command)
        return False
    if place.version_path and not capabilities.grant(place.version_path, "read"):
        seen = f'no policy grants "read" on "{place.version_path}": the values are read at each turn instead (K2)'
        findings.warn(step(place), seen)
    try:
        return ask_for(place, api, findings)
    except PermissionDenied as error:
        findings.fault(step(place), str(error), command)
    except ResponseTooLarge as error:
        findings.fault(step(place), f"{place.path}: {error}", "export HTTP_MAX_RESPONSE_SIZE=65536")
    except SecretNotFound as error:
        seen = f"{error}{nearest_secret(place, api)}"
        findings.fault(step(place), seen, command_where_none_is(place, error, api))
    except VaultError as error:
        findings.fault(step(place), f"{place.path}: {error}", f"vault read {place.path}")
    return False


def ask_for(place: Place, api: hvac.Client, findings: Findings) -> bool:
    """Ask as the application does where that costs nothing. Raises: an error of `vaultkit.errors`."""
    if place.section in ROLES_AT:
        return look_for_role(place, api, findings)
    if place.is_prefix:
        look_below(place, api, findings)
    elif place.section == "database_static":
        with role_must_exist(place.mount, place.name):
            answer = api.adapter.get(f"/v1/{place.path}")
        ttl = expect(expect(answer, "data", dict), "ttl", int)
        findings.ok(step(place), f"{place.path}, rotated in {ttl} s")
    else:
        answer = api.secrets.kv.v2.read_secret_version(
            place.name, mount_point=place.mount, raise_on_deleted_version=True
        )
        metadata = expect(expect(answer, "data", dict), "metadata", dict)
        findings.ok(step(place), f"{place.path}, version {expect(metadata, 'version', int)}")
    return True


def look_below(place: Place, api: hvac.Client, findings: Findings) -> None:
    """What is below a prefix; that there is nothing is no fault, for it may come."""
    try:
        keys = expect(expect(api.list(place.path), "data", dict), "keys", list)
    except SecretNotFound:
        findings.warn(step(place), f"{place.name}: there is nothing below it yet")
        return
    findings.ok(step(place), f"{place.name}: names and folders in it: {len(keys)}")


def look_for_role(place: Place, api: hvac.Client, findings: Findings) -> bool:
    """Whether the role is among those that are listed. Raises: SecretNotFound."""
    listed_at = f"{place.mount}/{ROLES_AT[place.section]}"
    try:
        keys = expect(expect(api.list(listed_at), "data", dict), "keys", list)
    except SecretNotFound:
        keys = []
    except (PermissionDenied, RequestRejected):
        granted = f"may be asked for, {place.path}; whether the role is there, only who may list {listed_at} sees"
        findings.warn(step(place), f"{granted}: to ask for it would cost a lease")
        return True
    if place.name not in keys:
        raise SecretNotFound(f'there is no role "{place.name}" at {place.mount}{nearest(place.name, keys)}')
    findings.ok(step(place), f"{place.path}: may be asked for, and the role is there")
    return True


def nearest_secret(place: Place, api: hvac.Client) -> str:
    """Of the KV secrets in the same folder, as far as these may be listed."""
    folder, _, name = place.version_path.rpartition("/")
    try:
        return nearest(name, expect(expect(api.list(folder), "data", dict), "keys", list)) if folder else ""
    except VaultError:
        return ""


def nearest(name: str, names: Sequence[object]) -> str:
    near = [each for each in difflib.get_close_matches(name, map(str, names), n=1) if each != name]
    return f"; did you mean {printable(near[0])}?" if near else ""


def command_where_none_is(place: Place, error: SecretNotFound, api: hvac.Client) -> str:
    """What to type where there is nothing, or nothing any more."""
    if place.section != "kv_secret":
        return f"vault list {place.mount}/{'static-roles' if place.section == 'database_static' else 'roles'}"
    if isinstance(error, SecretDeleted) and "destroyed" not in str(error):
        return f"vault kv undelete -mount={place.mount} -versions={current_version(place, api)} {place.name}"
    return f"vault kv put -mount={place.mount} {place.name} KEY=VALUE    # or [kv_secret] path"


def current_version(place: Place, api: hvac.Client) -> str:
    try:
        found = expect(api.adapter.get(f"/v1/{place.version_path}"), "data", dict)
    except VaultError:
        return "N"
    return str(found.get("current_version"))
