"""Logs somebody in whom the demo of the gateway knows, and prints the JWT that a caller of the gateway shows.

    scripts/demo-token --header alice | curl --header @- http://127.0.0.1:8280/vault/secrets/app

By stdin, the JWT is on no command line, where every user of the machine could read it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import hvac
import requests

from devserver.running import NothingRuns, find
from listeners.usage import CommandLine

PEOPLE = ("alice", "bob", "mallory", "oscar")
SECONDS = 10
NOBODY = "`make gateway` does not run; start it in another terminal, in this folder"


class NoJwt(Exception):
    """Why there is none, in words for people. Says nothing of a password or a token."""


def jwt_of(name: str) -> str:
    """A JWT of this person, good for five minutes. Raises: NoJwt."""
    try:
        running = find("gateway")
        password = (Path(running.secrets) / f"{name}.password").read_text(encoding="utf-8").strip()
    except (NothingRuns, OSError):
        raise NoJwt(NOBODY) from None
    with requests.Session() as session:
        session.trust_env = False  # no proxy: the demo is on loopback
        return log_in(hvac.Client(url=running.vault, token="", timeout=SECONDS, session=session), name, password)


def log_in(client: hvac.Client, name: str, password: str) -> str:
    try:
        client.auth.userpass.login(name, password)
        return str(client.read("identity/oidc/token/gateway")["data"]["token"])
    except requests.RequestException:
        raise NoJwt(NOBODY) from None  # what it has left, and its server is gone
    except hvac.exceptions.VaultError as error:
        raise NoJwt(f"{name} was refused ({type(error).__name__}); start `make gateway` anew") from None


def main() -> int:
    parser = CommandLine(
        prog="demo-token",
        example="scripts/demo-token --header alice | curl --header @- http://127.0.0.1:8280/vault/secrets/app",
        description="Prints a JWT of somebody in the gateway's demo.",
    )
    parser.add_argument("name", metavar="NAME", choices=PEOPLE, help=", ".join(PEOPLE))
    parser.add_argument("--header", action="store_true", help="as the line of a request, for curl --header @-")
    options = parser.parse_args()
    try:
        jwt = jwt_of(options.name)
    except NoJwt as why:
        print(f"demo-token: {why}", file=sys.stderr)
        return 1
    print(f"Authorization: Bearer {jwt}" if options.header else jwt)
    return 0


if __name__ == "__main__":
    sys.exit(main())
