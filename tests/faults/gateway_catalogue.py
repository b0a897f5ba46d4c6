"""Every fault of the gateway: how it is made and mended, and what its callers must be told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import hvac

from devserver.proxy import Behaviour, Proxy, say_nothing
from tests.faults.nodes import Node
from tests.faults.proxy import answer, reset_in_the_answer, trickle
from tests.gateways import GatewayProcess, Vault
from tests.identity_provider import Provider
from tests.servers import Answer, endless, hang_up, respond

SLOW_SECONDS = 0.2


@dataclass
class World:
    """What a fault may lay hands on."""

    vault: Vault
    proxy: Proxy
    provider: Provider
    gateway: GatewayProcess
    node: Node | None = None


Step = Callable[[World], object]


def pass_on(world: World) -> None:
    world.proxy.delay = 0.0
    world.proxy.behave()


@dataclass(frozen=True)
class Fault:
    """One row of the table. An outcome is a status and the type of a problem, or `200 stale`."""

    name: str
    how: str
    begin: Step
    asks: tuple[str, ...]
    """What callers are told whose request Vault must be asked for; each of these at least once, and nothing else."""
    cached: tuple[str, ...] = ("200 stale",)
    """What they are told whose secret is cached: at first 200, and then this."""
    health: tuple[str, ...] = ("200",)
    end: Step = pass_on
    retry_after: int = 0
    """What the answers of `asks` say at least; 0: they are none of those that say it."""
    settings: dict[str, str] = field(default_factory=dict)
    may: tuple[str, ...] = ()
    """What `asks` may be told besides."""
    own_server: bool = False
    hangs: bool = False
    """Whether Vault gives no answer."""
    callers: int = 1
    """How many ask for what is not cached, at the same time."""


# ── Vault ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def at_the_proxy(
    name: str, how: str, behaviour: Behaviour, told: str, retry_after: int = 0, may: tuple[str, ...] = ()
) -> Fault:
    return Fault(
        name, how, lambda world: world.proxy.misbehave(behaviour), (told,), retry_after=retry_after, may=may,
        hangs=behaviour in (say_nothing, trickle),
    )  # fmt: skip


def of_node(act: Callable[[Node], object]) -> Step:
    def step(world: World) -> None:
        assert world.node is not None
        act(world.node)

    return step


def slow_down(world: World) -> None:
    world.proxy.delay = SLOW_SECONDS


def hang(world: World) -> None:
    world.proxy.misbehave(say_nothing)


STANDBY = {"errors": ["local node not active but active cluster node not found"]}
HTML = b"<html><body><h1>Please sign in to the network</h1></body></html>"
VAULT = [
    Fault(
        "Vault away", "Nobody listens any more", lambda world: world.proxy.refuse(), ("503 vault-unreachable",),
        retry_after=5,
    ),
    Fault(
        "Vault away for too long", "Beyond max_stale, which is 1 s here", lambda world: world.proxy.refuse(),
        ("503 vault-unreachable",), ("503 vault-unreachable",), retry_after=5,
        settings={"GATEWAY_CACHE_MAX_STALE": "1"},
    ),
    at_the_proxy(
        "Vault hangs up", "TCP reset in the middle of the answer", reset_in_the_answer, "503 vault-unreachable", 5
    ),
    at_the_proxy("Vault hung", "The request is taken, and then nothing", say_nothing, "504 vault-timeout", 5),
    Fault(
        "Vault hung, many callers", "The same; 4 requests at a time, 4 may wait", hang,
        ("504 vault-timeout", "503 gateway-busy"), retry_after=1, callers=12, hangs=True,
        settings={"GATEWAY_LIMITS_VAULT_REQUESTS": "4", "GATEWAY_LIMITS_VAULT_QUEUE": "4"},
    ),
    at_the_proxy("Vault trickles", "A correct answer at one byte a second", trickle, "504 vault-timeout", 5),
    Fault("Vault slow", f"Each request takes {SLOW_SECONDS:g} s longer", slow_down, ("200",), ("200",)),
    Fault(
        "Vault sealed", "sys/seal; then the key", of_node(Node.seal), ("503 vault-sealed",), end=of_node(Node.unseal),
        retry_after=30, own_server=True,
    ),
    at_the_proxy("Vault a standby without a leader", "500, in its words", answer(500, STANDBY), "503 vault-standby", 2),
    at_the_proxy(
        "Vault overloaded", "429, with Retry-After: 7", answer(429, {"errors": ["quota"]}, Retry_After="7"),
        "503 vault-overloaded", 7,
    ),
    at_the_proxy("Vault behind a sign-in page", "200 and HTML", answer(200, HTML, "text/html"), "502 vault-nonsense"),
    at_the_proxy(
        "Vault endless", "200 and 3 MB", answer(200, {"data": "x" * 3_000_000}), "502 vault-answer-too-long",
        may=("503 vault-unreachable",),  # for a write, whose body the proxy leaves unread
    ),
    at_the_proxy(
        "Vault elsewhere", "307 to another host", answer(307, {}, Location="http://127.0.0.1:1/v1/"),
        "503 vault-unreachable", 5,
    ),
]  # fmt: skip


# ── What Vault lets the gateway do ───────────────────────────────────────────────────────────────────────────────────

NOTHING = 'path "auth/token/*" {{ capabilities = ["read", "update"] }}'


def take_policy(world: World) -> None:
    world.vault.give_policy("acme", NOTHING)


def revoke_tokens(world: World) -> None:
    """Of all that log in by AppRole with this role."""
    root = world.vault.root
    for accessor in root.adapter.list("/v1/auth/token/accessors")["data"]["keys"]:
        try:
            about = root.adapter.post("/v1/auth/token/lookup-accessor", json={"accessor": accessor})["data"]
        except hvac.exceptions.InvalidRequest:  # somebody else's, which has ended meanwhile
            continue
        if (about.get("meta") or {}).get("role_name") == world.vault.role("acme"):
            root.adapter.post("/v1/auth/token/revoke-accessor", json={"accessor": accessor})


def delete_role(world: World) -> None:
    world.vault.root.adapter.delete(f"/v1/auth/approle/role/{world.vault.role('acme')}")
    revoke_tokens(world)


REFUSED = "503 vault-login-refused"
RIGHTS = [
    Fault("token revoked", "An operator revokes it", revoke_tokens, ("200",), ("200",)),
    Fault(
        "policy taken away and given back", "It grants nothing; then what it did", take_policy,
        ("403 forbidden-by-vault",), ("403 forbidden-by-vault",), end=lambda world: world.vault.prepare(),
    ),
    Fault(
        "AppRole deleted and made anew", "With its token; then there is another secret_id", delete_role, (REFUSED,),
        (REFUSED,), end=lambda world: world.vault.prepare(), retry_after=30, health=("503",),
    ),
]  # fmt: skip


# ── The identity provider ────────────────────────────────────────────────────────────────────────────────────────────


def publish(world: World) -> None:
    world.provider.answer(respond(200, world.provider.jwks()))


def jwks(*answers: Callable[[Provider], Answer]) -> Step:
    """From now on the JWKS is answered so, by turns; the last one for ever."""

    def step(world: World) -> None:
        world.provider.server.script = [each(world.provider) for each in answers]

    return step


def rotate(world: World) -> None:
    world.provider.current = world.provider.add_key("key-2")


def withdraw(world: World) -> None:
    rotate(world)
    world.provider.withdraw("key-1")


GONE, NEW = "401 token-refused", ("200",)
FOREIGN = respond(307, {}, Location="http://127.0.0.1:1/keys")
AWAY = jwks(lambda _: hang_up)
PROVIDER = [
    Fault("provider away", "It hangs up", AWAY, NEW, ("200",), end=publish),
    Fault(
        "provider hung", "It takes the request, and then nothing", jwks(lambda provider: provider.server.deaf()), NEW,
        ("200",), end=publish,
    ),
    Fault(
        "provider's JWKS is none", "HTML, 500, a redirect, then a body without end",
        jwks(lambda _: respond(200, HTML), lambda _: respond(500), lambda _: FOREIGN, lambda _: endless(200)), NEW,
        ("200",), end=publish,
    ),
    Fault(
        "provider away for too long", "Beyond keys_max_stale, which is 1 s here", AWAY, ("503 keys-unavailable",),
        ("503 keys-unavailable",), end=publish, retry_after=5, settings={"GATEWAY_IDENTITY_KEYS_MAX_STALE": "1"},
        health=("503",), may=("200",),
    ),
    Fault("keys rotated", "New JWTs are signed by a new key", rotate, NEW, ("200",), end=publish, may=(GONE,)),
    Fault(
        "key withdrawn", "The old one; new JWTs are signed by a new one", withdraw, NEW, (GONE,), end=publish,
        may=(GONE,),
    ),
]  # fmt: skip

CATALOGUE = [*VAULT, *RIGHTS, *PROVIDER]
