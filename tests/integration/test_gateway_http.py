"""The API by its contract, on a gateway that runs: reading, writing, on which condition, and what was before.

Each answer in here is held to gateway/api/openapi.json as well, by `Running.request`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from urllib.parse import quote

import hvac
import pytest

from tests.gateway_process import MOUNT, Answer, Prepared, Running

SECRETS, OTHER = "/vault/secrets/", '"7-0123456789ab"'
WRITERS = 50


@pytest.fixture(scope="module")
def gateway(gateway_server: Prepared) -> Iterator[Running]:
    with gateway_server.gateway() as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The path of a secret of this test's own, which is not there yet."""
    return f"http/{request.node.name}".replace("[", "-").rstrip("]").translate(str.maketrans('*"', "xx"))


def put(gateway: Running, name: str, value: Any, **headers: str | None) -> Answer:
    return gateway.request("PUT", SECRETS + name, "alice", body={"data": {"value": value}}, **headers)


def get(gateway: Running, name: str, **headers: str | None) -> Answer:
    return gateway.request("GET", SECRETS + name, "alice", **headers)


def delete(gateway: Running, name: str, **headers: str | None) -> Answer:
    return gateway.request("DELETE", SECRETS + name, "alice", **headers)


def roll_back(gateway: Running, name: str, version: Any, who: str = "oscar", **headers: str | None) -> Answer:
    return gateway.request("POST", f"/vault/rollback/{name}", who, body={"version": version}, **headers)


def value_of(answer: Answer) -> Any:
    assert answer.status == 200
    return answer.json["data"]["value"]


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_secret_is_read(gateway: Running) -> None:
    """By all who may, and then from the cache; in another tenant the same path is another secret."""
    first = gateway.request("GET", f"{SECRETS}app", "alice")
    assert first.json["data"] == {"owner": "acme", "api_key": "api-key-of-acme-3"}
    assert (first.json["version"], first.json["stale"]) == (3, False)
    second = gateway.request("GET", f"{SECRETS}app", "bob")
    assert second.json == first.json
    assert second.headers["cache-status"].startswith("gateway; hit; ttl=")
    assert second.etag == first.etag
    assert gateway.request("GET", f"{SECRETS}app", "mallory").json["data"]["owner"] == "globex"


def test_cache_says_what_it_did(gateway: Running, name: str) -> None:
    put(gateway, name, "one")
    answers = [get(gateway, name), get(gateway, name), get(gateway, f"{name}?version=1")]
    assert [answer.headers["cache-status"].split("; ttl")[0] for answer in answers] == [
        "gateway; fwd=miss; stored",
        "gateway; hit",
        "gateway; fwd=bypass",
    ]
    assert all(0 <= int(answer.headers["age"]) <= 5 for answer in answers)


def test_head_is_a_get_without_its_body(gateway: Running) -> None:
    got, head = get(gateway, "app"), gateway.request("HEAD", f"{SECRETS}app", "alice")
    assert (head.status, head.body, head.etag) == (200, b"", got.etag)
    assert head.headers["content-length"] == got.headers["content-length"]
    assert gateway.request("HEAD", f"{SECRETS}nothing", "alice").status == 404


def test_known_version_is_not_sent_again(gateway: Running) -> None:
    """Alone or among others; and who may not read is not told that it is the one."""
    etag = get(gateway, "app").etag
    for known in (etag, f"{OTHER}, {etag}", f"W/{etag}", "*"):
        answer = get(gateway, "app", If_None_Match=known)
        assert (answer.status, answer.body, answer.etag) == (304, b"", etag)
    assert get(gateway, "app", If_None_Match=OTHER).status == 200
    assert gateway.request("GET", f"{SECRETS}app", "oscar", If_None_Match=etag).problem == "forbidden"


def test_path_is_escaped_once(gateway: Running, name: str) -> None:
    """What Location says leads there."""
    path = f"{name}/{quote('café au lait')}"
    written = put(gateway, path, "one")
    assert (written.status, written.headers["location"]) == (201, SECRETS + path)
    assert value_of(gateway.request("GET", written.headers["location"], "bob")) == "one"
    names = gateway.request("GET", f"/vault/list/{name}/", "alice").json["names"]
    assert names == ["café au lait"]


@pytest.mark.parametrize(
    "query", ["version=0", "version=x", "version=1&version=1", "version=", "v=1", "min_version=-1"]
)
def test_query_is_understood_or_refused(gateway: Running, query: str) -> None:
    assert get(gateway, f"app?{query}").problem == "query-refused"


# ── Versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_older_version_is_read(gateway: Running, name: str) -> None:
    for value in ("one", "two"):
        put(gateway, name, value)
    first = get(gateway, f"{name}?version=1")
    assert (value_of(first), first.json["version"]) == ("one", 1)
    assert get(gateway, f"{name}?version=3").problem == "version-not-found"
    delete(gateway, name)
    assert get(gateway, f"{name}?version=2").problem == "secret-deleted"
    assert value_of(get(gateway, f"{name}?version=1")) == "one"


def test_at_least_this_version_is_read(gateway: Running, name: str, root: hvac.Client) -> None:
    """Also where an older one is cached; one that is not there yet is worth another try."""
    put(gateway, name, "one")
    get(gateway, name)
    root.secrets.kv.v2.create_or_update_secret(f"acme/{name}", {"value": "elsewhere"}, mount_point=MOUNT)
    assert value_of(get(gateway, name)) == "one"
    assert value_of(get(gateway, f"{name}?min_version=2")) == "elsewhere"
    assert value_of(get(gateway, name)) == "elsewhere"
    early = get(gateway, f"{name}?min_version=3")
    assert (early.status, early.problem, early.headers["retry-after"]) == (503, "version-not-reached", "1")


def test_history_is_told_without_values(gateway: Running, name: str) -> None:
    written = [put(gateway, name, f"canary-{number}") for number in (1, 2)]
    delete(gateway, name)
    answer = gateway.request("GET", f"/vault/versions/{name}", "oscar")
    assert [(each["version"], bool(each["deleted"]), each["destroyed"]) for each in answer.json["versions"]] == [
        (1, False, False),
        (2, True, False),
    ]
    assert [each["created"] for each in answer.json["versions"]] == [each.json["created"] for each in written]
    assert b"canary" not in answer.body
    assert gateway.request("GET", "/vault/versions/http/nothing", "bob").problem == "secret-not-found"


def test_old_version_is_put_back(gateway: Running, name: str) -> None:
    """By an operator, who may not read it, neither before nor after."""
    for value in ("one", "two"):
        put(gateway, name, value)
    back = roll_back(gateway, name, 1)
    assert (back.status, back.json["version"], b"one" in back.body) == (200, 3, False)
    assert gateway.request("GET", SECRETS + name, "oscar").problem == "forbidden"
    read = get(gateway, name)
    assert (value_of(read), read.etag) == ("one", back.etag)
    assert roll_back(gateway, name, 9).problem == "version-not-found"
    assert roll_back(gateway, f"{name}/nothing", 1).problem == "version-not-found"
    assert roll_back(gateway, name, 2, If_Match=OTHER).problem == "precondition-failed"
    assert roll_back(gateway, name, 2, If_Match=back.etag).json["version"] == 4
    assert roll_back(gateway, name, 1, who="bob").problem == "forbidden"


def test_what_was_deleted_is_put_back(gateway: Running, name: str) -> None:
    """From a version that is there still; the deleted one cannot be."""
    for value in ("one", "two"):
        put(gateway, name, value)
    delete(gateway, name)
    assert roll_back(gateway, name, 2).problem == "secret-deleted"
    assert roll_back(gateway, name, 1).status == 200
    assert value_of(get(gateway, name)) == "one"


@pytest.mark.parametrize("version", [0, -1, 1.5, "1", True, None, [1], 2**40])
def test_number_of_a_version_is_one(gateway: Running, version: Any) -> None:
    answer = roll_back(gateway, "app", version)
    assert (answer.problem, answer.json["errors"][0]["pointer"]) == ("body-refused", "/version")


# ── Writing, and on which condition ──────────────────────────────────────────────────────────────────────────────────


def test_write_gives_a_version(gateway: Running, name: str) -> None:
    """201 and where, and then 200; the ETag is that of a read, and no value comes back."""
    first, second = put(gateway, name, "canary"), put(gateway, name, "canary")
    assert [(answer.status, answer.json["version"]) for answer in (first, second)] == [(201, 1), (200, 2)]
    assert first.headers["location"] == SECRETS + name
    assert b"canary" not in first.body + second.body
    assert get(gateway, name).etag == second.etag != first.etag


@pytest.mark.parametrize("change", [put, delete, roll_back])
def test_change_is_of_the_version_that_is_named(gateway: Running, name: str, change: Any) -> None:
    """Else 412, and nothing is changed; * is whatever there is, which nothing is not."""
    arguments: dict[Any, tuple[Any, ...]] = {put: ("new",), delete: (), roll_back: (1,)}
    first = put(gateway, name, "one")
    second = put(gateway, name, "two")
    for wrong in (first.etag, OTHER):
        assert change(gateway, name, *arguments[change], If_Match=wrong).problem == "precondition-failed"
    assert get(gateway, name).etag == second.etag
    assert change(gateway, name, *arguments[change], If_Match=second.etag).status in (200, 204)
    put(gateway, name, "three")
    assert change(gateway, name, *arguments[change], If_Match="*").status in (200, 204)
    delete(gateway, name)
    if change is not roll_back:
        assert change(gateway, f"{name}/none", *arguments[change], If_Match="*").problem == "precondition-failed"
    assert change(gateway, name, *arguments[change], If_Match="*").problem == "precondition-failed"


def test_secret_is_created_once(gateway: Running, name: str) -> None:
    """One that was deleted is none, so it is created anew; its next version shows that it has a past."""
    assert put(gateway, name, "one", If_None_Match="*").status == 201
    assert put(gateway, name, "two", If_None_Match="*").problem == "precondition-failed"
    assert value_of(get(gateway, name)) == "one"
    delete(gateway, name)
    anew = put(gateway, name, "three", If_None_Match="*")
    assert (anew.status, anew.json["version"]) == (200, 2)


@pytest.mark.parametrize(
    "headers",
    [{"If_Match": "7"}, {"If_Match": f"W/{OTHER}"}, {"If_Match": f"{OTHER}, {OTHER}"}, {"If_None_Match": OTHER},
     {"If_Match": "*", "If_None_Match": "*"}],
)  # fmt: skip
def test_condition_is_understood_or_refused(gateway: Running, name: str, headers: dict[str, str]) -> None:
    assert put(gateway, name, "one", **headers).problem == "header-refused"
    assert get(gateway, name).status == 404


def test_of_many_writers_one_wins(gateway: Running, name: str) -> None:
    """All with the same ETag, at once; nothing that was written is lost."""
    etag, together = put(gateway, name, "first").etag, Barrier(WRITERS)

    def write(number: int) -> Answer:
        together.wait(60)
        return put(gateway, name, number, If_Match=etag)

    with ThreadPoolExecutor(WRITERS) as pool:
        answers = list(pool.map(write, range(WRITERS)))
    assert Counter(answer.status for answer in answers) == {200: 1, 412: WRITERS - 1}
    winner = next(number for number, answer in enumerate(answers) if answer.status == 200)
    read = get(gateway, name)
    assert (value_of(read), read.json["version"]) == (winner, 2)


def test_secret_that_was_made_anew_is_another(gateway: Running, name: str, root: hvac.Client) -> None:
    """Though it is version 1 again: nobody takes it for the one that they knew."""
    old = put(gateway, name, "one")
    root.secrets.kv.v2.delete_metadata_and_all_versions(f"acme/{name}", mount_point=MOUNT)
    new = put(gateway, name, "two")
    assert (old.json["version"], new.json["version"], new.status) == (1, 1, 201)
    assert old.etag != new.etag
    assert get(gateway, name, If_None_Match=old.etag).status == 200
    assert put(gateway, name, "three", If_Match=old.etag).problem == "precondition-failed"


def test_delete_is_repeatable(gateway: Running, name: str) -> None:
    """Of what is there, of what was, and of what never was."""
    put(gateway, name, "one")
    assert [delete(gateway, path).status for path in (name, name, f"{name}/none")] == [204, 204, 204]
    assert get(gateway, name).problem == "secret-deleted"
    assert get(gateway, f"{name}/none").problem == "secret-not-found"


def test_own_writes_are_read(gateway: Running, name: str) -> None:
    """At once, whatever was cached before: a value, another one, that it is gone, or that there is none."""
    for number in range(10):
        path = f"{name}/{number}"
        assert get(gateway, path).status == 404
        put(gateway, path, "one")
        assert value_of(get(gateway, path)) == "one"
        put(gateway, path, "two")
        assert value_of(get(gateway, path)) == "two"
        roll_back(gateway, path, 1)
        assert value_of(get(gateway, path)) == "one"
        delete(gateway, path)
        assert get(gateway, path).problem == "secret-deleted"
        put(gateway, path, "three")
        assert value_of(get(gateway, path)) == "three"


def test_own_writes_are_read_while_others_read(gateway: Running, name: str) -> None:
    """Readers are under way at every moment, so some reads begin before a write and end after it."""
    put(gateway, name, 0)
    with ThreadPoolExecutor(4) as pool:
        numbers = itertools.count()
        ends: list[bool] = []

        def read_on() -> None:
            while not ends and next(numbers) < 2000:
                get(gateway, f"{name}?min_version=1")

        readers = [pool.submit(read_on) for _ in range(4)]
        try:
            for number in range(1, 30):
                put(gateway, name, number)
                assert value_of(get(gateway, name)) == number
        finally:
            ends.append(True)
        for reader in readers:
            reader.result()


# ── Several ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_come_in_pages(gateway: Running, name: str) -> None:
    """In order, each once; a secret that has others below it is there twice, once as a folder."""
    for path in ("a", "b", "b/c", "d", "e/f"):
        put(gateway, f"{name}/{path}", "one")
    pages, after = [], ""
    while True:
        page = gateway.request("GET", f"/vault/list/{name}?limit=2{after}", "bob").json
        pages.append(page["names"])
        if "next" not in page:
            break
        after = f"&after={page['next']}"
    assert pages == [["a", "b"], ["b/", "d"], ["e/"]]
    assert gateway.request("GET", f"/vault/list/{name}/nothing", "bob").json == {"names": []}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=!", "after=Li4", "after=a&after=b", "x=1"]
)
def test_page_is_understood_or_refused(gateway: Running, query: str) -> None:
    assert gateway.request("GET", f"/vault/list/?{query}", "alice").problem == "query-refused"


def test_batch_has_a_status_for_each(gateway: Running, name: str) -> None:
    """In the order of the question; one that is missing harms no other."""
    put(gateway, f"{name}/deleted", "one")
    delete(gateway, f"{name}/deleted")
    paths = ["app", f"{name}/none", "../globex/app", f"{name}/deleted", "app"]
    answer = gateway.request("POST", "/vault/batch", "bob", body={"paths": paths})
    found = answer.json["secrets"]
    assert [(each["path"], each["status"]) for each in found] == list(
        zip(paths, [200, 404, 400, 404, 200], strict=True)
    )
    kinds = [each["problem"]["type"].rpartition(":")[2] for each in found if "problem" in each]
    assert kinds == ["secret-not-found", "path-refused", "secret-deleted"]
    assert found[0]["etag"] == get(gateway, "app").etag
    refused = gateway.request("POST", "/vault/batch", "oscar", body={"paths": ["app"]}).json["secrets"][0]
    assert (refused["status"], "data" in refused) == (403, False)


@pytest.mark.parametrize(
    ("body", "problem"),
    [({"paths": []}, "body-refused"), ({"paths": ["a"] * 51}, "body-refused"), ({"paths": [1]}, "body-refused"),
     ({"paths": "app"}, "body-refused"), ({}, "body-refused"), ([], "body-refused"), (b"{", "media-type-unsupported")],
)  # fmt: skip
def test_batch_is_understood_or_refused(gateway: Running, body: Any, problem: str) -> None:
    assert gateway.request("POST", "/vault/batch", "bob", body=body).problem == problem
