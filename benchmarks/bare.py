"""What the gateway is measured against: routes that verify a JWT and do nothing else. Served by uvicorn.

`starlette` verifies a token once and remembers it by its hash, which no gateway can do without; `fastapi` verifies each
time, as most examples do. Both answer with what the gateway answers. ISSUER says who has signed.
"""

from __future__ import annotations

import hashlib
import json
import os

import jwt
from fastapi import FastAPI, Header
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ISSUER = os.environ["ISSUER"]
KEYS = jwt.PyJWKClient(f"{ISSUER}/.well-known/keys")
ANSWER = {
    "data": {"api_key": "api-key-of-acme-3", "owner": "acme"},
    "version": 3,
    "created": "2026-11-28T12:36:17.724837684Z",
    "stale": False,
}
remembered: set[bytes] = set()


def verify(authorization: str) -> None:
    token = authorization.removeprefix("Bearer ")
    jwt.decode(token, KEYS.get_signing_key_from_jwt(token).key, ["ES256"], audience="secrets-gateway", issuer=ISSUER)


async def cached(request: Request) -> Response:
    authorization = request.headers["authorization"]
    digest = hashlib.sha256(authorization.encode()).digest()
    if digest not in remembered:
        verify(authorization)
        remembered.add(digest)
    return Response(json.dumps(ANSWER), media_type="application/json")


starlette = Starlette(routes=[Route("/vault/secrets/{path:path}", cached)])
fastapi = FastAPI()


@fastapi.get("/vault/secrets/{path:path}")
async def verified(authorization: str = Header()) -> dict[str, object]:
    verify(authorization)
    return ANSWER
