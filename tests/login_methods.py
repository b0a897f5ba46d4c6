"""Every login method, prepared on a real OpenBao: what the server needs, and what the application is given.

auth/kubernetes asks a stand-in for the API server; the JWTs and certificates are signed by the tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import hvac
import trustme

from devserver.openbao import HOST, bao_folder, free_port
from devserver.process import Process
from tests.token_review import AUDIENCE, Signer, TokenReviews

POLICIES = ["default", "login-tests"]
POLICY = """
path "my-vault-app-kv/*"             { capabilities = ["read"] }
path "my-vault-app-database/creds/*" { capabilities = ["read"] }
"""
FAR = timedelta(days=365)


class Prepared(ABC):
    """A login method on a server, with an account of its own there."""

    survives_close = False
    """Whether the token was handed over, and so is not revoked."""

    def __init__(self, name: str, root: hvac.Client, folder: Path, policies: Sequence[str] = POLICIES) -> None:
        self.name, self.root, self.folder, self.policies = name, root, folder, list(policies)
        self.given: list[str] = []
        """What the application was given that must be in no output."""
        self.set_token("60s")

    @property
    @abstractmethod
    def environ(self) -> dict[str, str]:
        """The variables with which the application logs in."""

    @abstractmethod
    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        """How long the tokens of later logins live."""

    @abstractmethod
    def refuse(self) -> None:
        """Make the server refuse every login from now on, for good."""

    def write(self, name: str, text: str) -> str:
        """A file that is replaced as the kubelet and others do it, at once."""
        path, new = self.folder / f"{self.name}-{name}", self.folder / f"{self.name}-{name}.new"
        new.write_text(text)
        new.replace(path)
        return str(path)

    def _give(self, secret: str) -> str:
        self.given.append(secret)
        return secret


class PreparedAppRole(Prepared):
    """With the secret_id in a file."""

    path = ""

    @property
    def environ(self) -> dict[str, str]:
        role_id = self.root.adapter.get(f"{self._role}/role-id")["data"]["role_id"]
        return {"VAULT_ROLE_ID": role_id, **self._secret_id()}

    def _secret_id(self) -> dict[str, str]:
        secret_id = self.root.adapter.post(f"{self._role}/secret-id")["data"]["secret_id"]
        self.path = self.write("secret-id", f"{self._give(secret_id)}\n")
        return {"VAULT_SECRET_ID_FILE": self.path}

    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        self.root.adapter.post(
            self._role, json={"token_policies": self.policies, "token_ttl": ttl, "token_max_ttl": max_ttl}
        )

    def refuse(self) -> None:
        self.root.adapter.delete(self._role)

    @property
    def _role(self) -> str:
        return f"/v1/auth/approle/role/{self.name}"


class PreparedWrapped(PreparedAppRole):
    """With the secret_id in a wrapping token."""

    def wrap(self, path: str = "", ttl: str = "60s") -> str:
        """A wrapping token: of a new secret_id, or of what somebody made up."""
        answer = self.root.adapter.post(
            path or f"{self._role}/secret-id", json={"secret_id": "x"} if path else {}, wrap_ttl=ttl
        )
        return self._give(str(answer["wrap_info"]["token"]))

    def _secret_id(self) -> dict[str, str]:
        self.path = self.write("wrapped", self.wrap())
        return {"VAULT_WRAPPED_SECRET_ID_FILE": self.path}


class PreparedKubernetes(Prepared):
    """A service account, whose token a stand-in for the API server reviews."""

    def __init__(self, *place: Any, reviews: TokenReviews, signer: Signer, mount: str = "kubernetes") -> None:
        self.reviews, self.signer, self.mount = reviews, signer, mount
        super().__init__(*place)
        self.path = ""
        self.hand_over()

    def hand_over(self, *, audience: str = AUDIENCE, lasts: float = 3600.0) -> None:
        """A new token of the account, with a line break behind it."""
        jwt = self.signer.of_account(self.name, audience=audience, lasts=lasts)
        self.path = self.write("token", f"{self._give(jwt)}\n")

    @property
    def environ(self) -> dict[str, str]:
        return {
            "VAULT_AUTH_METHOD": "kubernetes",
            "KUBERNETES_AUTH_MOUNT": self.mount,
            "KUBERNETES_AUTH_ROLE": self.name,
            "KUBERNETES_AUTH_TOKEN_FILE": self.path,
        }

    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        bound = {"bound_service_account_names": self.name, "bound_service_account_namespaces": "shop"}
        token = {"token_policies": self.policies, "token_ttl": ttl, "token_max_ttl": max_ttl}
        role = {**bound, **token, "audience": AUDIENCE, "alias_name_source": "serviceaccount_name"}
        self.root.adapter.post(f"/v1/auth/{self.mount}/role/{self.name}", json=role)

    def refuse(self) -> None:
        self.root.adapter.delete(f"/v1/auth/{self.mount}/role/{self.name}")


class PreparedJwt(Prepared):
    """A JWT in a file."""

    def __init__(self, *place: Any, signer: Signer, mount: str = "jwt") -> None:
        self.signer, self.mount = signer, mount
        super().__init__(*place)
        self.path = ""
        self.hand_over()

    def hand_over(self, *, lasts: float = 3600.0) -> str:
        jwt = self._give(self.signer.sign({"iss": "tests", "sub": self.name, "aud": AUDIENCE}, lasts=lasts))
        self.path = self.write("jwt", jwt)
        return jwt

    @property
    def environ(self) -> dict[str, str]:
        return {**self.role, "JWT_AUTH_JWT_FILE": self.path}

    @property
    def role(self) -> dict[str, str]:
        return {"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_MOUNT": self.mount, "JWT_AUTH_ROLE": self.name}

    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": AUDIENCE, "bound_subject": self.name}
        leeway = {"clock_skew_leeway": -1, "expiration_leeway": -1, "not_before_leeway": -1}
        token = {"token_policies": self.policies, "token_ttl": ttl, "token_max_ttl": max_ttl}
        self.root.adapter.post(f"/v1/auth/{self.mount}/role/{self.name}", json={**role, **leeway, **token})

    def refuse(self) -> None:
        self.root.adapter.delete(f"/v1/auth/{self.mount}/role/{self.name}")


class PreparedToken(Prepared):
    """A token that was handed over, in a file."""

    survives_close = True
    path = ""

    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        self._token = {"ttl": ttl, **({"explicit_max_ttl": max_ttl} if max_ttl != "0" else {})}
        self.hand_over()

    def hand_over(self, **options: Any) -> str:
        """Another token, into the file."""
        answer = self.root.auth.token.create(**{"policies": self.policies, **self._token, **options})
        self.token = self._give(str(answer["auth"]["client_token"]))
        self.path = self.write("token", self.token)
        return self.token

    @property
    def environ(self) -> dict[str, str]:
        return {"VAULT_AUTH_METHOD": "token", "TOKEN_AUTH_TOKEN_FILE": self.path}

    def refuse(self) -> None:
        self.root.auth.token.revoke(self.token)


class PreparedTokenRole(PreparedToken):
    """A token that may do nothing but create others."""

    survives_close = False

    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        self.root.sys.create_or_update_policy(
            self.name, f'path "auth/token/create/{self.name}" {{ capabilities = ["update"] }}'
        )
        role = {"allowed_policies": self.policies, "orphan": True, "renewable": True, "token_explicit_max_ttl": max_ttl}
        self.root.adapter.post(f"/v1/auth/token/roles/{self.name}", json={**role, "token_period": ttl})
        answer = self.root.auth.token.create(policies=[self.name], no_default_policy=True, ttl="1h")
        self.token = self._give(str(answer["auth"]["client_token"]))
        self.path = self.write("token", self.token)

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "TOKEN_AUTH_ROLE": self.name}


class PreparedCert(Prepared):
    """A client certificate, on a server that speaks TLS."""

    A_MOMENT = timedelta(seconds=5)

    def __init__(self, *place: Any, ca_file: str) -> None:
        self._server_ca, self._authority = ca_file, trustme.CA()
        super().__init__(*place)
        self.hand_over()

    def hand_over(self, *, lasts: timedelta = FAR) -> None:
        """A new certificate, with its key in the same file."""
        now = datetime.now(timezone.utc)
        issued = self._authority.issue_cert(
            f"{self.name}.test", common_name=self.name, not_before=now - FAR, not_after=now + lasts
        )
        key = issued.private_key_pem.bytes().decode()
        self.given += key.splitlines()[1:-1]
        self.path = self.write("both.pem", issued.cert_chain_pems[0].bytes().decode() + key)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "VAULT_URL": self.root.url,
            "VAULT_CA_FILE": self._server_ca,
            "VAULT_AUTH_METHOD": "cert",
            "VAULT_CLIENT_CERT": self.path,
            "CERT_AUTH_ROLE": self.name,
        }

    def set_token(self, ttl: str, max_ttl: str = "0") -> None:
        token = {"token_policies": self.policies, "token_ttl": ttl, "token_max_ttl": max_ttl}
        role = {"certificate": self._authority.cert_pem.bytes().decode(), **token}
        self.root.adapter.post(f"/v1/auth/cert/certs/{self.name}", json=role)

    def refuse(self) -> None:
        self.root.adapter.delete(f"/v1/auth/cert/certs/{self.name}")


# ── The servers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[hvac.Client, str]]:
    """An OpenBao that speaks TLS and asks for client certificates: its root, and the file of its CA."""
    url, token = f"https://{HOST}:{free_port(0)}", "root-of-the-tls-server"
    command: list[str | Path] = [bao_folder() / "bao", "server", "-dev", "-dev-tls", f"-dev-tls-cert-dir={folder}"]
    address = f"-dev-listen-address={url.removeprefix('https://')}"
    environ = {"HOME": str(folder), "BAO_DEV_ROOT_TOKEN_ID": token}
    process = Process("OpenBao", [*command, "-dev-no-store-token", address], log=folder / "log", env=environ)
    try:
        process.wait_until(lambda: "Root Token" in (folder / "log").read_text(), 30, lambda: None)
        ca_file = str(next(folder.glob("*ca*.pem")))
        root = hvac.Client(url=url, token=token, verify=ca_file)
        root.sys.enable_auth_method("cert")
        yield root, ca_file
    finally:
        process.stop()


@contextmanager
def prepared_server(root: hvac.Client, of: str = "") -> Iterator[tuple[TokenReviews, Signer]]:
    """auth/kubernetes and auth/jwt on the server of all tests; `of` somebody, with the name behind theirs."""
    signer = Signer()
    with TokenReviews().running() as reviews, ExitStack() as stack:
        root.sys.create_or_update_policy("login-tests", POLICY)
        for method in ("kubernetes", "jwt"):
            root.sys.enable_auth_method(method, path=f"{method}{of}")
            stack.callback(root.sys.disable_auth_method, f"{method}{of}")
        api_server = {"kubernetes_host": reviews.url, "kubernetes_ca_cert": reviews.ca, "token_reviewer_jwt": "x.y.z"}
        root.adapter.post(f"/v1/auth/kubernetes{of}/config", json={**api_server, "disable_local_ca_jwt": True})
        root.adapter.post(f"/v1/auth/jwt{of}/config", json={"jwt_validation_pubkeys": [signer.public_key]})
        yield reviews, signer
