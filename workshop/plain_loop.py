"""The nineteen lines as a service would use them: the secrets are read once, at the start, and used again and again.

A line every two seconds says what still works. It ends when nothing does, or after a minute.
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hvac
import psycopg
import requests

PAUSE_SECONDS = 2.0
LONGEST_SECONDS = 60.0


def main() -> None:
    plain = runpy.run_path(str(Path(__file__).with_name("plain_hvac.py")))
    started, now, works = time.monotonic(), 0.0, True
    while works and now < LONGEST_SECONDS:
        now = time.monotonic() - started
        kv, dynamic, static = kv_state(plain["api"]), login_state(plain["dynamic"]), login_state(plain["static"])
        print(f"{now:3.0f} s  KV {kv}, dynamic user {dynamic}, static user {static}", flush=True)
        works = kv.startswith("version") or "let in" in (dynamic, static)
        time.sleep(PAUSE_SECONDS)
    print("something still works" if works else "nothing works any more")


def kv_state(api: hvac.Client) -> str:
    try:
        answer = api.secrets.kv.v2.read_secret_version(
            path="database", mount_point="my-vault-app-kv", raise_on_deleted_version=True
        )
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        return type(error).__name__
    return f"version {answer['data']['metadata']['version']}"


def login_state(answer: Mapping[str, Any]) -> str:
    """What the database says to the username and password of this answer."""
    try:
        psycopg.connect(user=answer["data"]["username"], password=answer["data"]["password"]).close()
    except psycopg.OperationalError:
        return "refused"
    return "let in"


if __name__ == "__main__":
    main()
