"""Stands in for a CI system: makes a signing key, publishes its public half, and prints the JWT of one job.

python -m workshop.ci_job workshop/.run/ci.pem >workshop/.run/jwt
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LASTS_SECONDS = 300


def main(public_key_file: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    published = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Path(public_key_file).write_bytes(published)
    now = int(time.time())
    claims = {"iss": "ci", "sub": "deploy-job", "aud": "vault", "iat": now, "exp": now + LASTS_SECONDS}
    print(jwt.encode(claims, key, algorithm="ES256"))


if __name__ == "__main__":
    main(*sys.argv[1:])
