"""What may stand in catalogue.yaml: whatever else does is told of with its line, and all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogue.fields import in_words
from catalogue.reading import CatalogueError, load
from catalogue.render import render

GOOD = """\
vault:
  server: https://vault.vault.svc:8200
  ca: ca.crt
environments:
  dev: {auth: kubernetes-dev}
  prod: {auth: kubernetes}
services:
  mail:
    owner: team-mail
    namespaces: {dev: mail-dev, prod: mail}
    secrets:
      smtp:
        keys: [username, password]
        refresh: 1h
        rotate: 90d
    dynamic:
      database: {connection: postgres, grant: mail_app, lease: 1h, refresh: 20m}
"""


def problems(folder: Path, text: str) -> list[str]:
    """As they are told, without the name of the file."""
    (folder / "ca.crt").write_text("")
    file = folder / "catalogue.yaml"
    file.write_text(text)
    with pytest.raises(CatalogueError) as raised:
        load(file)
    return [each.told("") for each in raised.value.problems]


def test_ten_lines_are_a_service(tmp_path: Path) -> None:
    """And everything is rendered for it, in each of its environments."""
    (tmp_path / "ca.crt").write_text("")
    (tmp_path / "catalogue.yaml").write_text(GOOD)
    lines = GOOD.splitlines()
    assert len(lines) - lines.index("  mail:") == 10
    tree = render(load(tmp_path / "catalogue.yaml"))
    for name, auth in (("dev", "kubernetes-dev"), ("prod", "kubernetes")):
        assert {
            f"synced/{name}/mail/smtp.yaml",
            f"synced/{name}/mail/database.yaml",
            f"synced/{name}/mail/store.yaml",
            f"vault/{name}/auth/{auth}/role/mail-{name}.json",
            f"vault/{name}/database/roles/mail-{name}-database.json",
            f"vault/{name}/kv/metadata/{name}/mail/smtp.json",
            f"vault/{name}/sys/policies/acl/mail-{name}-issued.hcl",
        } <= tree.keys()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("server: https", "server: http", ":2: vault.server: found 'http://vault.vault.svc:8200', expected https://"),
        ("ca: ca.crt", "ca: other.crt", ":3: vault.ca: found 'other.crt', expected a text file beside the catalogue"),
        ("  dev: {", "  de-v: {", ":5: environments.de-v: found 'de-v', expected small letters and digits alone"),
        ("owner: team-mail", "owners: team-mail", ":9: services.mail.owners: is not known here"),
        ("    owner: team-mail\n", "", ":8: services.mail.owner: is missing"),
        ("refresh: 1h", "refresh: 60", ":14: services.mail.secrets.smtp.refresh: found 60, expected a duration"),
        ("        rotate: 90d\n", "", ":12: services.mail.secrets.smtp.rotate: is missing"),
        ("keys: [username, password]", "keys: []", ":13: services.mail.secrets.smtp.keys: found [], expected a list"),
        ("keys: [username, password]", "keys: 7", ":13: services.mail.secrets.smtp.keys: found 7, expected a list"),
        (
            "keys: [username, password]",
            "keys: word",
            ":13: services.mail.secrets.smtp.keys: found 'word', expected a",
        ),
        (
            "keys:",
            "path: ../dev\n        keys:",
            ":13: services.mail.secrets.smtp.path: found '../dev', expected a",
        ),
        ("keys:", "path: sm/*\n        keys:", ":13: services.mail.secrets.smtp.path: found 'sm/*', expected a path"),
        ("refresh: 20m", "refresh: 40m", ":17: services.mail.dynamic.database.refresh: is over half the lease"),
        ("      database:", "      smtp:", ":17: services.mail: smtp is there twice"),
        ("prod: mail}", "prod: mail-dev}", ":10: services.mail: the namespace mail-dev is that of mail-dev"),
        ("        refresh: 1h\n", "        refresh: 1h\n        refresh: 2h\n", ":15: found duplicate key"),
        ("keys:", "only: [test]\n        keys:", ":13: services.mail.secrets.smtp.only: found test, where the service"),
        ("secrets:", "secrets: [", ":"),
    ],
)
def test_problem_has_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    """So an editor jumps there."""
    assert GOOD.count(old) >= 1
    told = problems(tmp_path, GOOD.replace(old, new, 1))
    assert any(each.startswith(says) for each in told), told


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Nobody mends a file line by line."""
    text = GOOD.replace("owner: team-mail", "owner:").replace("lease: 1h", "lease: never")
    assert len(problems(tmp_path, text)) == 2


def test_empty_file_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, "") != []


@pytest.mark.parametrize(("seconds", "words"), [(90, "90s"), (1200, "20m"), (3600, "1h"), (90 * 86400, "2160h")])
def test_durations_are_those_of_go(seconds: int, words: str) -> None:
    """Which knows no days."""
    assert in_words(seconds) == words


@pytest.mark.parametrize(("raw", "said"), [(b"\xff", "is no text in UTF-8"), (b"a: \1", "unacceptable character")])
def test_file_that_is_no_text_is_said_in_words(tmp_path: Path, raw: bytes, said: str) -> None:
    """And not with a traceback."""
    file = tmp_path / "catalogue.yaml"
    file.write_bytes(raw)
    with pytest.raises(CatalogueError, match=said):
        load(file)
