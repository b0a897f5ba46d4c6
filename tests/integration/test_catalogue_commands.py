"""python -m catalogue: what each command prints, and with which status it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalogue.__main__ import FAILED, MISCONFIGURED, OK, main
from catalogue.checking import with_tools
from catalogue.kv import Version
from catalogue.reading import load
from tests.backends import Backend
from tests.catalogue_server import catalogue_in, write_by_path
from tests.e2e.conftest import PROJECT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A catalogue that was rendered."""
    catalogue_in(tmp_path)
    (tmp_path / "vault/apply.sh").unlink()
    return tmp_path / "catalogue.yaml"


@pytest.fixture
def server(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that Vault was told of."""
    found = catalogue_in(tmp_path)
    backend.root.sys.enable_secrets_engine("kv-v2", path=found.vault.kv)
    write_by_path(backend, found, "prod", but=("auth", found.vault.database, found.vault.pki))
    environ = {"VAULT_URL": backend.url, "VAULT_AUTH_METHOD": "token", "TOKEN_AUTH_TOKEN": backend.root_token}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    yield tmp_path / "catalogue.yaml"
    backend.root.sys.disable_secrets_engine(found.vault.kv)


def test_files_that_are_right(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--catalogue", str(file), "check"]) == OK
    assert "11 secrets in 4 places" in capsys.readouterr().out


def test_check_says_what_it_would_do_more(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fresh clone there is neither."""
    monkeypatch.setenv("PATH", "")
    assert main(["--catalogue", str(file), "check"]) == OK
    out = capsys.readouterr().out
    assert "with kubectl it would also check" in out
    assert "with promtool it would also check" in out


@pytest.mark.tools("kubectl", "promtool")
def test_tools_find_what_only_they_can(file: Path) -> None:
    """kustomize builds what was checked, and Prometheus takes the alerts; else each tells."""
    found, folder = load(file), file.parent
    assert with_tools(found, folder) == []
    alerts, store = folder / "alerts/prod.yaml", folder / "synced/prod/llm/kustomization.yaml"
    alerts.write_text(alerts.read_text().replace("> 0", "> > 0"))
    store.write_text(f"{store.read_text()}namePrefix: other-\n")
    assert [each.file for each in with_tools(found, folder)] == ["synced/prod", "alerts/prod.yaml"]


def test_file_that_was_changed_by_hand(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named; rendering puts it right."""
    store = file.parent / "synced/prod/llm/store.yaml"
    store.write_text(store.read_text().replace("role: llm-prod", "role: llm-dev"))
    assert main(["--catalogue", str(file), "check"]) == FAILED
    err = capsys.readouterr().err
    assert f"{file}: synced/prod/llm/store.yaml: is not what is rendered" in err
    assert "found role llm-dev, expected llm-prod" in err
    assert main(["--catalogue", str(file), "render"]) == OK
    assert main(["--catalogue", str(file), "check"]) == OK


def test_catalogue_that_is_wrong(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the line, as an editor wants it."""
    file.write_text(file.read_text().replace("rotate: 90d", "rotate: soon"))
    line = file.read_text().splitlines().index("        rotate: soon") + 1
    assert main(["--catalogue", str(file), "render"]) == MISCONFIGURED
    assert f"{file}:{line}: services.llm.secrets.openai-api-key.rotate: found 'soon'" in capsys.readouterr().err


def test_overdue_and_noted(server: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was never written is late; what people have replaced is not, once they say so."""
    metrics = tmp_path / "overdue.prom"
    assert main(["--catalogue", str(server), "overdue", "--environment", "prod", "--metrics", str(metrics)]) == FAILED
    assert "prod/llm/openai  team-llm  was never written" in capsys.readouterr().out
    assert 'secrets_catalogue_overdue_seconds{path="prod/llm/openai",owner="team-llm"}' in metrics.read_text()
    assert main(["--catalogue", str(server), "noted", "prod/llm/openai"]) == OK


def test_rotation_of_what_has_no_provider_here(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said which there are; and a path of no entry is a mistake in calling."""
    assert main(["--catalogue", str(server), "rotate", "prod/llm/openai"]) == FAILED
    assert "there is no provider openai; there are postgres" in capsys.readouterr().err
    assert main(["--catalogue", str(server), "rotate", "prod/llm/other"]) == MISCONFIGURED
    assert "prod/llm/other is of no entry" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["overdue", "drift", "rotate"])
def test_environment_must_be_known(file: Path, command: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--catalogue", str(file), command, "--environment", "test"])
    assert raised.value.code == MISCONFIGURED


def test_service_that_the_catalogue_does_not_know(file: Path) -> None:
    assert main(["--catalogue", str(file), "scopes", "lllm"]) == MISCONFIGURED


def test_version_shows_no_value() -> None:
    assert "hidden" not in repr(Version(3, {"password": "hidden"}))


def test_image_has_what_is_imported() -> None:
    """What the Dockerfile copies is what the build is given, and is there."""
    given = (PROJECT / "catalogue/Dockerfile.dockerignore").read_text(encoding="utf-8")
    names = {line[1:] for line in given.splitlines() if line.startswith("!")}
    text = (PROJECT / "catalogue/Dockerfile").read_text(encoding="utf-8")
    assert [name for name in names if name not in text or not (PROJECT / name).exists()] == []
