"""JWTs that the tests sign, and a stand-in for the API server of Kubernetes that reviews them.

It is no Kubernetes: it speaks HTTPS on a real socket and knows TokenReview alone, which is all that auth/kubernetes
asks for. It can be told to be down, to hang, and to forget an account.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.servers import Server

AUDIENCE = "vault"
AN_HOUR = 3600.0
HALF_OF_SIGNATURE = 32


class Signer:
    """Signs JWTs with a key of its own, ES256."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_key(self) -> str:
        encoding, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(encoding, kind).decode()

    def sign(self, claims: dict[str, Any], *, lasts: float = AN_HOUR) -> str:
        now = int(time.time())
        times = {"iat": now - 1, "nbf": now - 1, "exp": int(now + lasts)}
        signed = ".".join(map(_encoded, ({"alg": "ES256", "typ": "JWT"}, {**times, **claims})))
        halves = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(b''.join(half.to_bytes(HALF_OF_SIGNATURE, 'big') for half in halves))}"

    def of_account(self, name: str, *, audience: str = AUDIENCE, lasts: float = AN_HOUR) -> str:
        """As the kubelet projects it into a pod of this service account."""
        account = {"namespace": "shop", "serviceaccount": {"name": name, "uid": f"uid-of-{name}"}}
        subject = f"system:serviceaccount:shop:{name}"
        return self.sign(
            {"iss": "kubernetes", "sub": subject, "aud": [audience], "kubernetes.io": account}, lasts=lasts
        )


def _encoded(part: dict[str, Any]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(jwt: str) -> dict[str, Any]:
    middle = jwt.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))))


class TokenReviews:
    """The stand-in. `state` is well, down (it hangs up) or hanging; accounts in `deleted` are not known any more."""

    def __init__(self) -> None:
        self.state = "well"
        self.deleted: set[str] = set()
        self.reviews = 0
        self._closing = threading.Event()
        authority = trustme.CA()
        self.ca = authority.cert_pem.bytes().decode()
        self._server = Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[TokenReviews]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _handler(reviews) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reviews.reviews += 1
                if reviews.state == "hanging":
                    reviews._closing.wait(60)
                if reviews.state != "well":
                    return
                body = json.dumps({**asked, "status": reviews._status(asked["spec"])}).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _status(self, spec: dict[str, Any]) -> dict[str, Any]:
        claims = claims_of(spec["token"])
        name = claims["sub"].rpartition(":")[2]
        audiences = sorted({*claims["aud"]} & {*spec.get("audiences", claims["aud"])})
        if name in self.deleted or claims["exp"] < time.time() or not audiences:
            return {"authenticated": False, "error": "the token is no good"}
        user = {"username": claims["sub"], "uid": f"uid-of-{name}", "groups": ["system:serviceaccounts"]}
        return {"authenticated": True, "user": user, "audiences": audiences}
