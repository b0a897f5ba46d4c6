"""An identity provider that does as it is told: OpenBao's own makes good tokens only.

It has key pairs of its own, and a JWKS on a real socket that fails when it is told to.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gateway.settings import IdentitySettings
from tests.servers import Answer, ScriptedServer, respond

AUDIENCE = "secrets-gateway"
WITHOUT: Any = type("Without", (), {"__repr__": lambda _: "WITHOUT"})()
"""A claim, or a part of the header, that is to be left out."""


class Provider:
    """Signs by ES256 as `current`; publishes what `jwks` says, at the next answer of its server."""

    def __init__(self) -> None:
        self.pairs: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.server = ScriptedServer(respond(200, {"keys": []}))
        self.issuer = self.server.url
        self.current = self.add_key("key-1")

    def add_key(self, kid: str) -> str:
        self.pairs[kid] = ec.generate_private_key(ec.SECP256R1())
        self.answer(respond(200, self.jwks()))
        return kid

    def withdraw(self, kid: str) -> None:
        del self.pairs[kid]
        self.answer(respond(200, self.jwks()))

    def answer(self, answer: Answer) -> None:
        """What the server answers from now on."""
        self.server.script = [answer]

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk(kid) for kid in self.pairs]}

    def jwk(self, kid: str) -> dict[str, Any]:
        public = ECAlgorithm.to_jwk(self.pairs[kid].public_key(), as_dict=True)
        return {**public, "kid": kid, "use": "sig", "alg": "ES256"}

    @property
    def fetches(self) -> int:
        return len(self.server.requests)

    @contextmanager
    def running(self) -> Iterator[Provider]:
        with self.server.running():
            yield self

    def settings(self, **changes: Any) -> IdentitySettings:
        given = {"issuer": self.issuer, "jwks_url": f"{self.issuer}/keys", "leeway": 5.0, **changes}
        return IdentitySettings(**given)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of alice, who writes for acme; of a clock that may be another than the machine's."""
        now = changes.pop("now", int(time.time()))
        claims = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "5f1c9a", "exp": now + 300, "iat": now, "nbf": now,
            "tenant": "acme", "username": "alice", "groups": ["acme-writers", "acme-readers"],
        }  # fmt: skip
        return {name: value for name, value in {**claims, **changes}.items() if value is not WITHOUT}

    def token(self, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A token; a good one, but for what is changed."""
        head = {"alg": "ES256", "kid": self.current, **(header or {})}
        key = self.pairs.get(str(head.get("kid")), self.pairs[self.current])
        signed = f"{encoded(present(head))}.{encoded(self.claims(**changes))}"
        signature = ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), key)
        return f"{signed}.{base64url(signature)}"


def present(header: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header.items() if value is not WITHOUT}


def encoded(value: Any) -> str:
    return base64url(json.dumps(value).encode())


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def bearer(token: str) -> list[bytes]:
    """The Authorization headers of a request with this token."""
    return [b"Bearer " + token.encode()]


def signature_by(key: Any, algorithm: str, claims: dict[str, Any], **header: Any) -> str:
    """A token as PyJWT makes it, for algorithms that are not the provider's own."""
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)
