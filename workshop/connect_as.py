"""Logs in to PostgreSQL with a username and password that Vault gave, and says who the database takes us for.

    bao read -format=json my-vault-app-database/creds/db-demo-dynamic > workshop/.run/login.json
    python workshop/connect_as.py workshop/.run/login.json

From a file: a password on a command line is there for everybody on this machine to see. PGHOST and the like, which
`source workshop/begin` sets, say where the database is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psycopg


def main(file: str) -> int:
    login = json.loads(Path(file).read_text(encoding="utf-8"))["data"]
    try:
        with psycopg.connect(user=login["username"], password=login["password"]) as connection:
            row = connection.execute("SELECT current_user").fetchone()
    except psycopg.OperationalError:
        print("the database refuses", login["username"])
        return 1
    print("the database takes us for", *row or ())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
