"""A program that forks, for test_login_methods.py: reads how to log in from stdin, prints whose token a child uses."""

from __future__ import annotations

import json
import os
import sys

from config_loader import VaultConfig
from vault_client import VaultClient


def accessor(client: VaultClient) -> str:
    return str(client.ask(lambda api: api.auth.token.lookup_self())["data"]["accessor"])


def whose_token(environ: dict[str, str]) -> str:
    """Whether a child that logs in and closes has a token of its own, and the parent's lives on."""
    client = VaultClient(VaultConfig.load(environ=environ))
    before = accessor(client)
    reader, writer = os.pipe()
    if os.fork() == 0:
        with client:
            os.write(writer, accessor(client).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        in_child = pipe.read()
    os.wait()
    with client:
        if accessor(client) != before or not in_child:
            return "WRONG"
        return "shared" if in_child == before else "own"


if __name__ == "__main__":
    print(json.dumps({way: whose_token(environ) for way, environ in json.load(sys.stdin).items()}))
