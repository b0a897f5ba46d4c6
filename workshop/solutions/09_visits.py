"""Lab 9: adds one to the number `visits` of a secret, over the gateway; of many that do so at once, none is lost.

scripts/demo-token alice | python workshop/solutions/09_visits.py http://127.0.0.1:8280/vault/secrets/visits
"""

from __future__ import annotations

import random
import sys
import time

import requests

TIMEOUT_SECONDS = 10
LONGEST_PAUSE_SECONDS = 0.1


def add_visit(session: requests.Session, url: str) -> int:
    """Returns the new number. Each round one of those who compete has written, so that it comes to an end."""
    while True:
        visits, condition = what_is_there(session, url)
        body = {"data": {"visits": visits + 1}}
        answer = session.put(url, json=body, headers=condition, timeout=TIMEOUT_SECONDS)
        if answer.status_code != requests.codes.precondition_failed:
            answer.raise_for_status()
            return visits + 1
        time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))


def what_is_there(session: requests.Session, url: str) -> tuple[int, dict[str, str]]:
    """The number, and the header that has a write fail once it is another."""
    answer = session.get(url, timeout=TIMEOUT_SECONDS)
    if answer.status_code == requests.codes.not_found:
        return 0, {"If-None-Match": "*"}
    answer.raise_for_status()
    return answer.json()["data"]["visits"], {"If-Match": answer.headers["ETag"]}


def main(url: str) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {sys.stdin.read().strip()}"
        print("visits:", add_visit(session, url))


if __name__ == "__main__":
    main(sys.argv[1])
