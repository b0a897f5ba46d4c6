"""Every fault: its name, how it is made and mended, and what the application must do meanwhile."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from devserver.proxy import Behaviour, Proxy, say_nothing
from tests.faults.logins import (
    LogIn,
    api_server,
    by_jwt,
    by_kubernetes,
    by_token,
    by_wrapped_secret_id,
    hand_over_jwt,
    let_token_expire,
    use_up_wrapping_token,
)
from tests.faults.network import Authority
from tests.faults.nodes import Node
from tests.faults.proxy import answer, reset_at_once, reset_in_the_answer, trickle
from tests.faults.tenant import POLICY, Tenant
from tests.faults.trial import Trial
from vaultkit.errors import PermissionDenied, RequestRejected, SecretNotFound, VaultError

SECRETS = "my-vault-app-"
"""In the paths of all secrets, and in none of the token's."""
RENEWAL = "sys/leases/renew"


@dataclass
class World:
    """What a fault may lay hands on."""

    tenant: Tenant
    proxy: Proxy
    trial: Trial
    database_proxy: Proxy
    node: Node | None
    authority: Authority
    unknown_names: set[str]


Step = Callable[[World], object]


def nothing(_: World) -> None:
    """What needs no mending, or no second step."""


@dataclass(frozen=True)
class Outcome:
    """What the application must do, as the table says it and as the test checks it."""

    says: str
    allowed: tuple[type[VaultError], ...] = ()
    """The errors that a reader of KV may get; none where the value must be served all the time."""
    must_raise: bool = False
    must_be_stale: bool = False
    ends: bool = False
    """With status 1, since nothing that the application could do would help."""


SILENCE = "Serves what is cached, KV marked stale, credentials until they expire."
STALE = Outcome(SILENCE, must_be_stale=True)


def raises(*errors: type[VaultError], says: str) -> Outcome:
    return Outcome(says, errors, must_raise=True)


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    how: str
    begin: Step
    outcome: Outcome = STALE
    end: Step = lambda world: world.proxy.behave()
    prepare: Callable[[Tenant], object] = lambda tenant: None
    """What is different about the tenant before it moves in."""
    lasts: bool = True
    """Whether there is an outage to sit through, or just a moment in which something changes."""
    served_at_the_end: Callable[[Tenant], str] = Tenant.write_secret
    """The KV value by which to see that the application reads again: as a rule that of a new version."""
    renews: bool = False
    """Whether the application renews leases, with on_expiry = renew, and does not just replace what they are of."""
    own_server: bool = False
    own_mounts: bool = False
    short_token: bool = False
    tls: bool = False
    login: LogIn | None = None
    """How the tenant logs in, if not with a secret_id."""
    by_name: bool = False
    """Whether the server's address is a name, not a number."""
    hangs: bool = False
    """Whether requests get no answer."""

    @property
    def says(self) -> str:
        return self.outcome.says


def refuse(world: World) -> None:
    world.proxy.refuse()


def at_the_proxy(name: str, how: str, behaviour: Behaviour) -> Fault:
    hangs = behaviour in (say_nothing, trickle)
    return Fault(name, how, lambda world: world.proxy.misbehave(behaviour), hangs=hangs)


def status(code: int, text: str = "", note: str = "", **headers: str) -> Fault:
    body = {"errors": [text] if text else []}
    return at_the_proxy(f"{code}{note}", "Every request is answered so", answer(code, body, **headers))


def refusal(code: int, error: type[VaultError]) -> Fault:
    """A status that is Vault's word on a secret: what is cached must go."""
    return Fault(
        str(code),
        "Every request for a secret is answered so",
        lambda world: world.proxy.misbehave(answer(code, {"errors": ["no"]}), only=SECRETS),
        raises(error, says=f"Drops the value and raises {error.__name__}."),
    )


HTML = b"<html><body><h1>Please sign in to the network</h1></body></html>"
NETWORK = [
    Fault("connection refused", "Nobody listens any more", refuse),
    at_the_proxy("reset while sending", "TCP reset as the request comes", reset_at_once),
    at_the_proxy("reset while receiving", "TCP reset in the middle of the answer", reset_in_the_answer),
    at_the_proxy("accepted, never answered", "The request is taken, and then nothing", say_nothing),
    at_the_proxy("one byte a second", "A correct answer that trickles, its headers first", trickle),
    at_the_proxy("truncated JSON", "Half a JSON text", answer(200, b'{"data": {"data": {"value": "va')),
    at_the_proxy("not JSON", "200 and plain text", answer(200, b"It works!", "text/plain")),
    at_the_proxy("HTML from a proxy", "200 and a sign-in page", answer(200, HTML, "text/html")),
    at_the_proxy("empty body", "200 and nothing", answer(200, b"")),
    at_the_proxy("response over the limit", "200 and more JSON than 4096 bytes", answer(200, {"data": "x" * 5000})),
]
STATUSES = [
    refusal(400, RequestRejected),
    refusal(403, PermissionDenied),
    refusal(404, SecretNotFound),
    refusal(405, RequestRejected),
    status(412, "required index state not present"),
    status(429, "rate limit quota exceeded"),
    status(429, "rate limit quota exceeded", " with Retry-After", Retry_After="2"),
    status(472),
    status(473),
    status(500, "internal error"),
    status(502),
    status(503, "Vault is sealed"),
    status(504),
    status(500, "local node not active but active cluster node not found", " from a standby"),
]


# ── The server ───────────────────────────────────────────────────────────────────────────────────────────────────────


def of_node(act: Callable[[Node], object]) -> Step:
    def step(world: World) -> None:
        assert world.node is not None
        act(world.node)

    return step


def start_without_data(node: Node) -> None:
    node.kill()
    node.forget()
    node.start()


ENDS = Outcome("Ends with status 1 and says what to check, as soon as it has to log in.", ends=True)
SERVER = [
    Fault(
        "sealed, then unsealed", "sys/seal; then the key", of_node(Node.seal), end=of_node(Node.unseal),
        own_server=True,
    ),
    Fault(
        "killed, restarted with its data", "kill -9; then started and unsealed", of_node(Node.kill),
        end=of_node(Node.start), own_server=True,
    ),
    Fault(
        "restarted without its data", "kill -9; then a new, empty server", of_node(start_without_data), ENDS,
        end=nothing, own_server=True,
    ),
]  # fmt: skip


# ── The token and the login ──────────────────────────────────────────────────────────────────────────────────────────


def revoke_token(world: World) -> None:
    token = world.trial.app.client._token._token
    assert token is not None
    world.tenant.root.auth.token.revoke(token.api.token)


def revoke_lease(world: World) -> None:
    secret = world.trial.readers["database_dynamic"].last
    assert secret is not None
    assert secret.lease_id is not None
    world.tenant.root.sys.revoke_lease(secret.lease_id)


def drop_user(world: World) -> None:
    secret = world.trial.readers["database_dynamic"].last
    assert secret is not None
    world.tenant.drop_user(secret.data["username"])


def lose_renewals(world: World) -> None:
    world.proxy.misbehave(say_nothing, only=RENEWAL)


def forbid_renewals(world: World) -> None:
    world.tenant.give_policy(POLICY)


def outlive_secret_id(world: World) -> None:
    """Wait until Vault knows no secret_id of this AppRole any more, and then make a login necessary."""
    world.trial.wait_until(lambda: not world.tenant.has_secret_id(), 60, "the secret_id did not expire")
    revoke_token(world)


def expire_secret_id(tenant: Tenant) -> None:
    tenant.token |= {"secret_id_ttl": "8s"}


def limit_token(tenant: Tenant) -> None:
    """A token that ends with its max TTL, whoever renews it."""
    period = tenant.token.pop("token_period")
    tenant.token |= {"token_period": "0", "token_ttl": period, "token_max_ttl": f"{int(period[:-1]) * 3 // 2}s"}


def use_up_secret_id(tenant: Tenant) -> None:
    tenant.token |= {"secret_id_num_uses": "1"}


NEW_CREDENTIALS = Outcome("Serves on; told by a pool that they were refused, it gets new ones at once.")
TOKEN = [
    Fault(
        "token revoked", "An operator revokes it", revoke_token,
        Outcome("Logs in anew as it hears of it, and gets new credentials."), end=nothing, lasts=False,
    ),
    Fault("token expired while unreachable", "Refused for longer than its TTL", refuse, short_token=True),
    Fault("max TTL reached during an outage", "Refused beyond it", refuse, prepare=limit_token, short_token=True),
    Fault("lease revoked", "An operator revokes it", revoke_lease, NEW_CREDENTIALS, end=nothing, lasts=False),
    Fault(
        "renewed lease revoked", "An operator revokes it; on_expiry = renew", revoke_lease, NEW_CREDENTIALS,
        end=nothing, lasts=False, renews=True,
    ),
    Fault(
        "lease renewal unanswered", "Such requests alone; on_expiry = renew", lose_renewals,
        Outcome("Serves on, credentials until they expire; then it gets new ones."), renews=True, hangs=True,
    ),
    Fault(
        "lease renewal forbidden", "No policy grants it; on_expiry = renew", forbid_renewals,
        Outcome("Warns once, and gets new credentials in time from then on."),
        end=lambda world: world.tenant.give_policy(), renews=True,
    ),
    Fault(
        "secret_id expired", "Its TTL is over; then the token is revoked", outlive_secret_id, ENDS, end=nothing,
        prepare=expire_secret_id,
    ),
    Fault(
        "secret_id used up", "Good for one login; then the token is revoked", revoke_token, ENDS, end=nothing,
        prepare=use_up_secret_id,
    ),
    Fault(
        "AppRole deleted", "With its token left to be renewed",
        lambda world: world.tenant.root.adapter.delete(world.tenant.role), ENDS, end=nothing, short_token=True,
    ),
    Fault(
        "policy taken away and given back", "It grants nothing; then what it did",
        lambda world: world.tenant.give_policy('path "auth/token/*" {{ capabilities = ["read", "update"] }}'),
        raises(PermissionDenied, says="Drops the value and raises PermissionDenied, with the path; never logs in."),
        end=lambda world: world.tenant.give_policy(),
    ),
]  # fmt: skip


# ── Other login methods ──────────────────────────────────────────────────────────────────────────────────────────────


def api_server_fault(state: str, how: str) -> Fault:
    return Fault(
        f"API server of Kubernetes {state}", f"A stand-in for it {how}, beyond the token's TTL",
        lambda world: api_server(world.tenant, state), end=lambda world: api_server(world.tenant, "well"),
        login=by_kubernetes, short_token=True, hangs=state == "hanging",
    )  # fmt: skip


def expire_jwt(world: World) -> None:
    hand_over_jwt(world.tenant, -60)
    revoke_token(world)


def steal_secret_id(world: World) -> None:
    use_up_wrapping_token(world.tenant)
    revoke_token(world)


LOGINS = [
    api_server_fault("down", "hangs up"),
    api_server_fault("hanging", "never answers"),
    Fault(
        "JWT expired, then replaced", "In its file; the token is revoked", expire_jwt,
        end=lambda world: hand_over_jwt(world.tenant, 3600), login=by_jwt,
    ),
    Fault(
        "wrapped secret_id stolen", "Somebody else unwraps the next one; then the token is revoked", steal_secret_id,
        ENDS, end=nothing, login=by_wrapped_secret_id,
    ),
    Fault(
        "handed-over token expired", "Its TTL is over", lambda world: let_token_expire(world.tenant), ENDS,
        end=nothing, login=by_token,
    ),
]  # fmt: skip


# ── The secrets and the database ─────────────────────────────────────────────────────────────────────────────────────


def roll_back(world: World) -> None:
    second = world.tenant.write_secret()
    world.trial.wait_until(lambda: world.trial.is_well(second), 30, "the second version was not seen")
    world.tenant.roll_back_secret()


GONE = raises(SecretNotFound, says="Drops the value and raises SecretDeleted.")
SECRETS_AND_DATABASE = [
    Fault("KV deleted", "kv delete", lambda world: world.tenant.delete_secret(), GONE, end=nothing),
    Fault("KV destroyed", "kv destroy", lambda world: world.tenant.destroy_secret(), GONE, end=nothing),
    Fault(
        "KV recreated", "Deleted with its metadata and written anew: version 1 again",
        lambda world: world.tenant.recreate_secret(),
        Outcome("Serves the new value.", (SecretNotFound,)), end=nothing, lasts=False,
    ),
    Fault(
        "KV rolled back", "The values of version 1 come back as a new version",
        roll_back, Outcome("Serves the old value again."), end=nothing, lasts=False,
        served_at_the_end=lambda tenant: tenant.value(1),
    ),
    Fault(
        "KV mount disabled", "secrets disable; then enabled and written anew", lambda world: world.tenant.unmount_kv(),
        raises(SecretNotFound, says="Drops the value and raises SecretNotFound."),
        end=lambda world: world.tenant.mount_kv(), own_mounts=True,
    ),
    Fault(
        "database down", "The server cannot create credentials", lambda world: world.database_proxy.refuse(),
        Outcome("Serves on; dynamic credentials until they expire."),
        end=lambda world: world.database_proxy.behave(), own_mounts=True,
    ),
    Fault("database user dropped", "DROP ROLE by hand", drop_user, NEW_CREDENTIALS, end=nothing, lasts=False),
]  # fmt: skip


# ── Names and certificates ───────────────────────────────────────────────────────────────────────────────────────────


def forget_name(world: World) -> None:
    """The name of this tenant's server is not known any more."""
    world.unknown_names.add(f"{world.tenant.name}.test")
    world.proxy.cut()


def remember_name(world: World) -> None:
    world.unknown_names.clear()


def certificate(make: Callable[[Authority], ssl.SSLContext]) -> Step:
    """Renew the server's certificate, for better or worse."""

    def step(world: World) -> None:
        world.proxy.tls = make(world.authority)
        world.proxy.cut()

    return step


def bad_certificate(name: str, how: str, make: Callable[[Authority], ssl.SSLContext]) -> Fault:
    return Fault(name, f"Replaced by {how}", certificate(make), end=certificate(Authority.good), tls=True)


NAMES_AND_CERTIFICATES = [
    bad_certificate("TLS certificate expired", "one that was good until yesterday", Authority.expired),
    bad_certificate("TLS certificate from the wrong CA", "a stranger's", Authority.foreign),
    bad_certificate("TLS certificate for the wrong name", "another host's", Authority.misnamed),
    Fault(
        "DNS gives nothing", "The resolver (a stand-in) forgets the name", forget_name, end=remember_name, by_name=True,
    ),
]  # fmt: skip

CATALOGUE = [*NETWORK, *STATUSES, *SERVER, *TOKEN, *LOGINS, *SECRETS_AND_DATABASE, *NAMES_AND_CERTIFICATES]
