"""What is particular to one login method: outages behind Vault, JWTs that end, wrapped secret_ids, certificates."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import cast

import hvac
import pytest

from tests.backends import Backend
from tests.integration.conftest import ClientOf, Events, Make, MakeClient, eventually, look_up, put, token_of
from tests.integration.test_token import token_watcher
from tests.login_methods import PreparedCert, PreparedJwt, PreparedKubernetes, PreparedToken, PreparedWrapped
from tests.servers import ScriptedServer, respond
from tests.unit.test_privacy import strings_reachable_from
from vault_client import VaultClient
from vaultkit.auth.grant import Token
from vaultkit.errors import LoginRefused, LoginUnavailable, NoAnswer, VaultTimeout
from vaultkit.events import LoggedIn, LoginFailed, RenewalFailed, TokenLost, TokenRenewed
from vaultkit.lifetime import LONG_AGO


@pytest.fixture
def kubernetes(make: Make) -> PreparedKubernetes:
    prepared = cast(PreparedKubernetes, make("kubernetes"))
    prepared.reviews.state = "well"
    return prepared


# ── Kubernetes: the API server is away ───────────────────────────────────────────────────────────────────────────────


def test_t7_kubernetes_outage_is_not_the_end(
    kubernetes: PreparedKubernetes, client_with: MakeClient, root: hvac.Client, events: Events
) -> None:
    """Renewal and login are refused with 403: the token goes on, and when it has ended, what is cached serves."""
    kubernetes.set_token("5s")
    put(root, "tests/outage", value="one")
    client = client_with(kubernetes, TOKEN_BACKOFF_MAX="1")
    client.get_kv_secret("tests/outage")
    kubernetes.reviews.state = "down"
    due(client)
    client.keep_token_alive()
    assert events.of(RenewalFailed)
    assert client.get_token_info().generation == 1
    with token_watcher(client):
        eventually(lambda: events.of(TokenLost))
        assert client.get_kv_secret("tests/outage").data["value"] == "one"
        kubernetes.reviews.state = "well"
        eventually(lambda: client.logged_in)
    assert "cannot ask the API server" in str(events.of(LoginFailed)[0].error)


def test_t7_kubernetes_refused_for_too_long(kubernetes: PreparedKubernetes, client_with: MakeClient) -> None:
    """[kubernetes_auth] refused_limit is when it is the end after all."""
    kubernetes.reviews.state = "down"
    client = client_with(kubernetes, KUBERNETES_AUTH_REFUSED_LIMIT="0.5", TOKEN_BACKOFF_MAX="1")
    with pytest.raises(LoginUnavailable):
        client.login()

    def ended() -> bool:
        try:
            client.login()
        except LoginUnavailable:
            return False
        except LoginRefused as refused:
            return "it does so for" in str(refused)
        return False

    assert eventually(ended)


def test_h1_hanging_api_server_is_bounded(kubernetes: PreparedKubernetes, client_with: MakeClient) -> None:
    """Vault itself would wait with it for more than a minute; [http] timeout ends it here."""
    kubernetes.reviews.state = "hanging"
    client = client_with(kubernetes, HTTP_TIMEOUT="0.5")
    started = time.monotonic()
    with pytest.raises(VaultTimeout):
        client.login()
    assert time.monotonic() - started < 10


def test_t7_deleted_account_is_told_of(kubernetes: PreparedKubernetes, client_with: MakeClient) -> None:
    """It looks like an outage, and the message says so."""
    client = client_with(kubernetes)
    client.login()
    kubernetes.reviews.deleted.add(kubernetes.name)
    with pytest.raises(LoginUnavailable, match="its account or pod is gone"):
        client.login()
    assert look_up(client)["ttl"]


def test_t7_wrong_audience_is_for_good(kubernetes: PreparedKubernetes, client_with: MakeClient) -> None:
    """What Vault has words for is no outage."""
    kubernetes.hand_over(audience="somebody-else")
    with pytest.raises(LoginRefused, match=r"invalid audience.*names, namespaces, audience"):
        client_with(kubernetes).login()


@pytest.mark.parametrize("way", ["kubernetes", "jwt"])
def test_t7_expired_jwt_is_replaced(way: str, make: Make, client_with: MakeClient) -> None:
    """The file is read anew at each login, so the next one has the next token."""
    prepared = cast(PreparedJwt, make(way))
    prepared.hand_over(lasts=-5)
    client = client_with(prepared, TOKEN_BACKOFF_MAX="1")
    with pytest.raises(LoginUnavailable) as caught:
        client.login()
    assert not [secret for secret in prepared.given if secret in str(caught.value)]
    prepared.hand_over()
    eventually(lambda: logs_in(client))


def logs_in(client: VaultClient) -> bool:
    """Whether it does now: what got no answer is asked again when its back-off is over."""
    try:
        client.login()
    except NoAnswer:
        return False
    return True


# ── JWT: its sources ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", ["value", "file", "url", "field", "command"])
def test_jwt_comes_from_four_sources(source: str, make: Make, client_with: MakeClient) -> None:
    """The settings, a file, an address with headers (whose answer may be JSON), a command."""
    prepared = cast(PreparedJwt, make("jwt"))
    jwt, headers = prepared.hand_over(), "Metadata-Flavor: Google, X-Second: two"
    answer = {"value": jwt} if source == "field" else f"{jwt}\n".encode()
    with metadata_server(answer).running() as server:
        settings = {
            "value": {"JWT_AUTH_JWT": jwt},
            "file": {"JWT_AUTH_JWT_FILE": prepared.path},
            "url": {"JWT_AUTH_JWT_URL": f"{server.url}/identity?audience=vault", "JWT_AUTH_JWT_HEADERS": headers},
            "field": {
                "JWT_AUTH_JWT_URL": server.url,
                "JWT_AUTH_JWT_HEADERS": headers,
                "JWT_AUTH_JWT_FIELD": "value",
            },
            "command": {"JWT_AUTH_JWT_COMMAND": f"{sys.executable} -c \"print(open('{prepared.path}').read())\""},
        }
        client = client_with(prepared, **{"JWT_AUTH_JWT_FILE": "", **settings[source]})
        assert client.login().generation == 1


def metadata_server(answer: object) -> ScriptedServer:
    """A stand-in for a cloud's: it answers whoever sends its headers."""

    def answered(handler: object) -> None:
        sent = handler.headers  # type: ignore[attr-defined]
        well = (sent["Metadata-Flavor"], sent["X-Second"]) == ("Google", "two")
        respond(200 if well else 403, answer)(handler)  # type: ignore[arg-type]

    return ScriptedServer(answered)


def test_t7_jwt_by_value_is_for_good(make: Make, client_with: MakeClient) -> None:
    """No better one will come of the settings."""
    prepared = cast(PreparedJwt, make("jwt"))
    expired = prepared.hand_over(lasts=-5)
    with pytest.raises(LoginRefused, match="token is expired"):
        client_with(prepared, JWT_AUTH_JWT_FILE="", JWT_AUTH_JWT=expired).login()


# ── A wrapped secret_id ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def wrapped(make: Make) -> PreparedWrapped:
    return cast(PreparedWrapped, make("wrapped"))


def test_wrapped_secret_id_is_unwrapped_once(
    wrapped: PreparedWrapped, client_with: MakeClient, backend: Backend
) -> None:
    """Later logins have it from memory; only new contents of the file are unwrapped."""
    client = client_with(wrapped)
    assert [client.login().generation for _ in range(2)] == [1, 2]
    wrapped.write("wrapped", wrapped.wrap())
    assert client.login().generation == 3


def test_wrapped_secret_id_by_value(wrapped: PreparedWrapped, client_with: MakeClient) -> None:
    """As an environment variable hands it over."""
    client = client_with(wrapped, VAULT_WRAPPED_SECRET_ID_FILE="", VAULT_WRAPPED_SECRET_ID=wrapped.wrap())
    assert client.login().generation == 1


def test_p1_close_forgets_what_was_unwrapped(wrapped: PreparedWrapped, client_with: MakeClient) -> None:
    """It is kept for later logins, and no longer."""
    client = client_with(wrapped)
    client.login()
    secret_id = client._token._login._method._unwrapped[1]  # type: ignore[attr-defined]
    assert secret_id in strings_reachable_from(client)
    client.close()
    assert secret_id not in strings_reachable_from(client)


def forge(wrapped: PreparedWrapped) -> str:
    return wrapped.wrap("/v1/sys/wrapping/wrap")


def use_up(wrapped: PreparedWrapped) -> str:
    token = wrapped.wrap()
    hvac.Client(url=wrapped.root.url, token=token).sys.unwrap()
    return token


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(forge, r"made at sys/wrapping/wrap.*forged.*not unwrapped"), (use_up, "cannot be unwrapped.*by somebody else")],
)
def test_wrapped_secret_id_raises_the_alarm(
    spoil: Callable[[PreparedWrapped], str], said: str, wrapped: PreparedWrapped, client_with: MakeClient
) -> None:
    """A forged one is not even unwrapped; neither is quoted."""
    client = client_with(wrapped)
    token = spoil(wrapped)
    wrapped.write("wrapped", token)
    with pytest.raises(LoginRefused, match=rf"(?s){said}.*an intruder may have the secret_id") as caught:
        client.login()
    assert token not in str(caught.value)
    if spoil is forge:
        assert hvac.Client(url=wrapped.root.url, token=token).sys.unwrap()["data"]


# ── A certificate that is replaced ───────────────────────────────────────────────────────────────────────────────────


def test_t7_replaced_certificate_logs_in(make: Make, client_with: MakeClient, events: Events) -> None:
    """Vault renews with the same certificate alone: a new one logs in, over new connections, before the token ends."""
    cert = cast(PreparedCert, make("cert"))
    client = client_with(cert)
    before = look_up(client)["meta"]
    cert.hand_over()
    due(client)
    client.keep_token_alive()
    assert len(events.of(LoggedIn)) == 2
    assert look_up(client)["meta"] != before  # the serial number is another one
    due(client)
    client.keep_token_alive()
    assert events.of(TokenRenewed)
    assert not events.of(TokenLost)
    assert not events.of(RenewalFailed)


def test_t7_expired_certificate_is_replaced(make: Make, client_with: MakeClient) -> None:
    """Vault answers 500, which is no end: the next one logs in."""
    cert = cast(PreparedCert, make("cert"))
    cert.hand_over(lasts=-cert.A_MOMENT)
    client = client_with(cert, TOKEN_BACKOFF_MAX="1")
    with pytest.raises(NoAnswer, match="expired"):
        client.login()
    cert.hand_over()
    eventually(lambda: logs_in(client))


# ── A token that was handed over ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def given(make: Make) -> PreparedToken:
    return cast(PreparedToken, make("token"))


@pytest.mark.parametrize("variable", ["TOKEN_AUTH_TOKEN", "VAULT_TOKEN", "BAO_TOKEN"])
def test_given_token_by_variable(variable: str, given: PreparedToken, client_with: MakeClient) -> None:
    """As the vault and bao commands have it, too."""
    client = client_with(given, TOKEN_AUTH_TOKEN_FILE="", **{variable: given.token})
    assert client.login().renewable


def test_x1_root_token_is_not_revoked(given: PreparedToken, client_with: MakeClient) -> None:
    """Not even one that never ends; and it is not logged in with twice."""
    root = given.hand_over(policies=["root"], ttl=None, no_parent=True)
    client = client_with(given)
    client.login()
    with pytest.raises(LoginUnavailable, match="in use already, and does not end"):
        client.login()
    client.close()
    assert hvac.Client(url=given.root.url, token=root).auth.token.lookup_self()["data"]["policies"] == ["root"]


def test_given_token_is_followed(given: PreparedToken, client_with: MakeClient, events: Events) -> None:
    """One that cannot be renewed is announced to end; another in its file is used before it does."""
    given.hand_over(renewable=False, ttl="10s")
    client = client_with(given, TOKEN_BACKOFF_MAX="1")
    client.login()
    late(client)
    client.keep_token_alive()
    assert "hand over another" in str(events.of(LoginFailed)[0].error)
    another = given.hand_over()

    def followed() -> bool:
        client.keep_token_alive()
        return token_of(client) == another

    eventually(followed)
    assert not events.of(TokenLost)


def due(client: VaultClient) -> Token:
    """Make it 4/5 of the token's life, for who has no time to wait."""
    token = client._token._token
    assert token is not None
    object.__setattr__(token, "next_step", LONG_AGO)
    return token


def late(client: VaultClient) -> None:
    """And of a life that nobody can prolong."""
    token = due(client)
    object.__setattr__(token, "full", token.full * 10)


def test_given_token_without_right_to_renew(given: PreparedToken, client_with: MakeClient) -> None:
    """It serves until it ends."""
    given.root.sys.create_or_update_policy("only-looks", 'path "auth/token/lookup-self" { capabilities = ["read"] }')
    given.hand_over(policies=["only-looks"], no_default_policy=True)
    assert not client_with(given).login().renewable


def test_d2_lease_under_a_given_token(
    given: PreparedToken, client_with: MakeClient, log_in_to_database: Callable[..., str]
) -> None:
    """Late in a life that nobody can prolong, a lease that ends with its token is better than none."""
    given.hand_over(renewable=False, ttl="60s")
    client = client_with(given)
    client.login()
    late(client)
    secret = client.get_database_dynamic_secret("db-demo-dynamic")
    assert log_in_to_database(**secret.data) == secret.data["username"]


# ── AWS, which OpenBao does not have ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stands in for botocore, of which credentials are all that is used."""
    monkeypatch.setattr("vaultkit.auth.aws.credentials", lambda: AwsKey)
    monkeypatch.setattr("vaultkit.auth.aws.find_spec", lambda name: name)
    return {"VAULT_AUTH_METHOD": "aws", "AWS_AUTH_ROLE": "web", "VAULT_ROLE_ID": "", "VAULT_SECRET_ID": ""}


class AwsKey:
    access_key, secret_key, token = "AKIAIOSFODNN7EXAMPLE", "the-secret-key", "the-session-token"


def test_e1_openbao_has_no_aws(aws: dict[str, str], backend: Backend, client_of: ClientOf) -> None:
    """Its refusal is the same as any other; what to do instead is said."""
    with pytest.raises(LoginRefused, match="OpenBao has no aws login: use jwt") as caught:
        client_of(backend.url, **aws).login()
    assert AwsKey.secret_key not in str(caught.value)
