"""The catalogue's checks: each finds the mistake that it exists for, and names the line where that is put right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from catalogue.checking import check, of_environment, of_objects
from catalogue.cross_checks import CHECKS, cross_checks
from catalogue.entries import Catalogue
from catalogue.reading import load
from catalogue.render import render
from catalogue.rendered import Tree, write
from catalogue.seen import seen_in
from tests.e2e.conftest import PROJECT

FILE = PROJECT / "kubernetes/catalogue.yaml"
STORE = "synced/prod/llm/store.yaml"
SECRET = "synced/prod/llm/openai-api-key.yaml"
GENERATOR = "synced/prod/user/database.yaml"
READER = "synced/base/reader.yaml"
POLICY = "vault/prod/sys/policies/acl/llm-prod.hcl"
OTHERS = "vault/prod/sys/policies/acl/user-prod.hcl"
ROLE = "vault/prod/auth/kubernetes/role/llm-prod.json"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(FILE)


@pytest.fixture(scope="module")
def rendered(catalogue: Catalogue) -> Tree:
    return render(catalogue)


@pytest.fixture
def tree(rendered: Tree) -> Tree:
    """A copy, to make mistakes in."""
    return dict(rendered)


def line(text: str, after: str = "") -> int:
    """That of the catalogue which has this text, behind the one that has another."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, each in enumerate(lines) if after in each)
    return next(number for number, each in enumerate(lines, 1) if text in each and number > start)


def replaced(file: str, old: str, new: str) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        assert old in tree[file]
        tree[file] = tree[file].replace(old, new, 1)

    return change


def without(*files: str, text: str, of: str) -> Callable[[Tree], None]:
    """Files that are not there, and are not named where they were."""

    def change(tree: Tree) -> None:
        for file in files:
            del tree[file]
        tree[of] = tree[of].replace(text, "")

    return change


def changed(file: str, **values: object) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        tree[file] = json.dumps({**json.loads(tree[file]), **values})

    return change


class Mistake(NamedTuple):
    """Something that every validator takes."""

    what: str
    make: Callable[[Tree], None]
    check: str
    """The one that finds it."""
    says: str
    line: tuple[str, str]
    """A text of the line that is named, and one before it."""
    environment: str = "prod"


LLM = ("namespaces:", "  llm:")
USER = ("namespaces:", "  user:")
KEY = ("openai-api-key:", "")
LEASE = ("database: {connection", "")
LAST_ROLE = 'path "kv/data/prod/llm/openai" { capabilities = ["read"] }'

MISTAKES = [
    Mistake("dev role in the prod overlay", replaced(STORE, "role: llm-prod", "role: llm-dev"), "logins_are_their_own",
            "found role llm-dev, expected llm-prod", LLM),
    Mistake("dev role of a generator", replaced(GENERATOR, "role: user-prod-issued", "role: user-dev-issued"),
            "logins_are_their_own", "found role user-dev-issued, expected user-prod-issued", LEASE),
    Mistake("store that logs in as External Secrets", replaced(STORE, "name: vault-reader", "name: other"),
            "logins_are_their_own", "found serviceAccountRef other, expected vault-reader", LLM),
    Mistake("account of another namespace",
            replaced(STORE, "name: vault-reader", "name: vault-reader\n            namespace: user"),
            "logins_are_their_own", "found serviceAccountRef.namespace user, expected llm", LLM),
    Mistake("path of the document's store", replaced(STORE, "path: kv\n", "path: kv/data\n"),
            "logins_are_their_own", "found path kv/data, expected kv", LLM),
    Mistake("store in another namespace",
            without("synced/prod/llm/store.yaml", text="  - store.yaml\n", of="synced/prod/llm/kustomization.yaml"),
            "stores_are_near", "there is no SecretStore vault-store in llm", KEY),
    Mistake("store of the whole cluster", replaced(SECRET, "kind: SecretStore", "kind: ClusterSecretStore"),
            "stores_are_near", "asks a ClusterSecretStore, expected a SecretStore", KEY),
    Mistake("namespace of another environment",
            replaced("synced/prod/llm/kustomization.yaml", "namespace: llm", "namespace: llm-dev"),
            "namespaces_are_those_of_the_catalogue", "is in llm-dev, no namespace of prod", ("prod: {", "")),
    Mistake("secret that an overlay forgot",
            without(SECRET, text="  - openai-api-key.yaml\n", of="synced/prod/llm/kustomization.yaml"),
            "all_is_there", "llm-prod has no ExternalSecret openai-api-key", KEY),
    Mistake("secret that is of no entry", replaced(SECRET, "  name: openai-api-key", "  name: other"),
            "all_is_there", "ExternalSecret other is of no entry of llm-prod", LLM),
    Mistake("accounts without a name", replaced(READER, "    resourceNames:\n      - vault-reader\n", ""),
            "accounts_may_no_more", "Role external-secrets-logs-in: found rules", LLM),
    Mistake("tokens for all accounts", replaced(READER, "  - kind: ServiceAccount\n    name: external-secrets\n",
                                                "  - kind: ServiceAccount\n    name: default\n"),
            "accounts_may_no_more", "RoleBinding external-secrets-logs-in: found subjects", LLM),
    Mistake("path of another service", replaced(SECRET, "key: prod/llm/openai", "key: prod/user/session-signing"),
            "paths_are_allowed", "asks for kv/data/prod/user/session-signing, which is another's", KEY),
    Mistake("path that no policy allows", replaced(POLICY, LAST_ROLE, ""),
            "paths_are_allowed", "which the policy llm-prod does not allow", KEY),
    Mistake("path that another policy allows, too",
            replaced(OTHERS, "kv/data/prod/user/reporting", "kv/data/prod/+/openai"),
            "paths_are_allowed", "is allowed by the policy user-prod, too", KEY),
    Mistake("policy with a pattern", replaced(POLICY, "kv/data/prod/llm/openai", "kv/data/prod/llm/*"),
            "policies_are_no_wider", "allows read at kv/data/prod/llm/*", LLM),
    Mistake("policy that lets write", replaced(POLICY, '["read"]', '["read", "update"]'),
            "policies_are_no_wider", "allows update at kv/data/prod/llm/openai", LLM),
    Mistake("policy of nobody", lambda tree: tree.update({"vault/prod/sys/policies/acl/old.hcl": ""}),
            "policies_are_no_wider", "the policy old is of no service", ("prod: {", "")),
    Mistake("role without an audience", changed(ROLE, audience=""),
            "roles_let_in_their_reader_alone", "found audience , expected vault", LLM),
    Mistake("role for every namespace", changed(ROLE, bound_service_account_namespaces=["*"]),
            "roles_let_in_their_reader_alone", "found bound_service_account_namespaces ['*'], expected ['llm']", LLM),
    Mistake("role with a policy more", changed(ROLE, token_policies=["llm-prod", "admin"]),
            "roles_let_in_their_reader_alone", "found token_policies", LLM),
    Mistake("refresh that is longer than the lease", replaced(GENERATOR, "refreshInterval: 20m", "refreshInterval: 2h"),
            "refresh_is_soon_enough", "is refreshed every 2h, expected 30m at most", LEASE),
    Mistake("lease that is shorter than the refresh",
            changed("vault/prod/database/roles/user-prod-database.json", default_ttl=600),
            "refresh_is_soon_enough", "is refreshed every 20m, expected 5m at most", LEASE),
    Mistake("lease under a token that ends before",
            changed("vault/prod/auth/kubernetes/role/user-prod-issued.json", token_ttl=600),
            "refresh_is_soon_enough", "lives 600 s, its lease 3600 s", LEASE),
    Mistake("certificate that is renewed too late",
            replaced("synced/prod/user/web-tls.yaml", "refreshInterval: 48h", "refreshInterval: 72h"),
            "refresh_is_soon_enough", "is refreshed every 72h, expected 48h at most", ("web-tls:", "")),
    Mistake("path of prod in dev", replaced("synced/dev/llm/openai-api-key.yaml", "key: dev/llm", "key: prod/llm"),
            "environments_are_apart", "names prod, which is not of dev", KEY, "dev"),
    Mistake("namespace of dev in a role of prod", changed(ROLE, bound_service_account_namespaces=["llm", "llm-dev"]),
            "environments_are_apart", "names llm-dev, which is not of prod", ("prod: {", "")),
    Mistake("secret without an owner", changed("vault/prod/kv/metadata/prod/llm/openai.json", custom_metadata={}),
            "secrets_are_owned_and_scheduled", "found owner None, expected team-llm", KEY),
    Mistake("secret without a schedule",
            changed("vault/prod/kv/metadata/prod/llm/openai.json", custom_metadata={"owner": "team-llm"}),
            "secrets_are_owned_and_scheduled", "found rotate_every None", KEY),
    Mistake("writes without check-and-set", changed("vault/prod/kv/config.json", cas_required=False),
            "secrets_are_owned_and_scheduled", "takes writes without check-and-set", ("vault:", "")),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_mistake_is_found(catalogue: Catalogue, tree: Tree, mistake: Mistake) -> None:
    """By the check that is there for it, at the line of the catalogue."""
    mistake.make(tree)
    [one] = [each for each in CHECKS if each.__name__ == mistake.check]
    found = list(one(catalogue, seen_in(tree, mistake.environment)))
    places = [each.line for each in found if mistake.says in each.text]
    assert line(*mistake.line) in places, found


def test_each_check_has_its_mistake() -> None:
    """A check that nothing sets off checks nothing."""
    assert {mistake.check for mistake in MISTAKES} == {each.__name__ for each in CHECKS}


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_rendered_files_are_right(catalogue: Catalogue, tree: Tree, environment: str) -> None:
    """By every schema and every check."""
    assert of_environment(catalogue, seen_in(tree, environment)) == []


def test_committed_files_are_the_rendered_ones(catalogue: Catalogue) -> None:
    """On failure: `python -m catalogue render`."""
    assert check(catalogue, FILE.parent) == []


def test_overlay_of_ones_own_is_checked(catalogue: Catalogue, tree: Tree) -> None:
    """The mistake of the study: a patch upon what is rendered, which here is what kubectl kustomize would print."""
    seen = seen_in(tree, "prod")
    objects = json.loads(json.dumps([each.object for each in seen.objects]))
    text = "\n---\n".join(map(json.dumps, objects))
    assert of_objects(catalogue, "prod", text, FILE.parent) == []
    wrong = text.replace('"user-prod-issued"', '"user-dev-issued"', 1)
    assert [each.line for each in of_objects(catalogue, "prod", wrong, FILE.parent)] == [line(*LEASE)] * 2


def test_a_kind_that_is_never_rendered_is_told_of(catalogue: Catalogue) -> None:
    """A PushSecret would write to Vault with whatever the store may do."""
    pushed = "apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {name: out, namespace: llm}\n"
    [problem] = of_objects(catalogue, "prod", pushed, FILE.parent)
    assert "PushSecret out" in problem.text


class TestFormat:
    @pytest.mark.parametrize(
        ("file", "old", "new", "says"),
        [
            (SECRET, "io/v1\n", "io/v1beta1\n", "'external-secrets.io/v1' was expected"),
            (STORE, "mountPath", "mountpath", "'mountpath' was unexpected"),
            (SECRET, "deletionPolicy: Retain", "deletionPolicy: Keep", "'Keep' is not one of"),
            (READER, "automountServiceAccountToken", "automountToken", "'automountToken' was unexpected"),
        ],
    )  # fmt: skip
    def test_wrong_word_is_found(
        self, catalogue: Catalogue, tree: Tree, file: str, old: str, new: str, says: str
    ) -> None:
        """An API server would drop it, and take the default."""
        replaced(file, old, new)(tree)
        found = of_environment(catalogue, seen_in(tree, "prod"))
        assert found[0].file == file
        assert says in found[0].text

    def test_policy_in_another_form_is_not_guessed_at(self, catalogue: Catalogue, tree: Tree) -> None:
        """HCL can be written in ways that a line does not show."""
        replaced(POLICY, "path", 'path "sys/*" {\n  policy = "sudo"\n}\npath')(tree)
        found = cross_checks(catalogue, seen_in(tree, "prod"))
        assert [each.text for each in found if "is not understood" in each.text]


def test_rendering_converges(tree: Tree, tmp_path: Path) -> None:
    """The second time nothing is written; what is no longer of the catalogue is gone."""
    old = tmp_path / "synced/prod/gone/store.yaml"
    old.parent.mkdir(parents=True)
    old.write_text("")
    assert "synced/prod/gone/store.yaml" in write(tree, tmp_path)
    assert not old.parent.exists()
    assert write(tree, tmp_path) == []


def test_nothing_that_is_rendered_is_a_secret(tree: Tree) -> None:
    """Names and paths alone."""
    assert not re.search("BEGIN .*PRIVATE|hvs\\.|token:", "".join(tree.values()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Secret\nkind: hunter2\n", 'objects: is no YAML, line 2: found duplicate key "kind"'),
        ("kind: [hunter2\n", "objects: is no YAML, line 2: expected ',' or ']', but got '<stream end>'"),
        ("kind: \0hunter2\n", "objects: is no YAML, line 0: unacceptable character #x0000"),
    ],
)
def test_objects_that_are_no_yaml_are_said_in_words(text: str, said: str) -> None:
    """With the line, and without what stands there, which may be a value (P1)."""
    [problem] = of_objects(load(FILE), "prod", text, FILE.parent)
    assert said in problem.told("")
    assert "hunter2" not in problem.told("")


def test_objects_of_another_kind_are_left_alone() -> None:
    """Also what is no object at all."""
    told = [problem.told("") for problem in of_objects(load(FILE), "prod", "hello\n---\n- 1\n", FILE.parent)]
    assert [each for each in told if "hello" in each] == []
