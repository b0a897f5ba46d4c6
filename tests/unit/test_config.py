"""The settings: what may stand in config.ini and the environment, and what is said when it may not."""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from config_loader import ALL_SECTIONS, DEFAULT_PATH, ENGINE_SECTIONS, VaultConfig, read
from vaultkit.errors import ConfigurationError
from vaultkit.settings import is_prefix, variable

SECRET = "475a6500-f9f8-fdd4-ec30-54fadcad926e"
Load = Callable[..., VaultConfig]
Pem = Callable[[str], str]
MINIMUM = f"[vault]\nentity = shop\nrole_id = 7fb49dd0\nsecret_id = {SECRET}\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a text as config.ini; settings may be given as environment variables, too."""

    def load(text: str = MINIMUM, **environ: str) -> VaultConfig:
        path = tmp_path / "config.ini"
        path.write_text(text, encoding="utf-8")
        return VaultConfig.load(path, environ)

    return load


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Pem:
    """Makes files: a certificate with its key behind it, each of them alone, and what looks like them and is not."""
    folder = tmp_path_factory.mktemp("pem")
    issued, other = trustme.CA().issue_cert("a.example"), trustme.CA().issue_cert("b.example")
    certificate, key = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    password = serialization.BestAvailableEncryption(b"secret")
    private = serialization.load_pem_private_key(key, None)
    encoding, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    contents = {
        "both": certificate + key,
        "certificate": certificate,
        "key": key,
        "other key": other.private_key_pem.bytes(),
        "encrypted key": private.private_bytes(encoding, format, password),
        "text": b"no PEM",
        "empty": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return lambda name: str(folder / name)


def problems_of(load: Load, *arguments: object, **environ: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, **environ)
    return str(caught.value)


class TestDefaults:
    def test_shipped_file_names_every_setting(self) -> None:
        """config.ini has each section and key that the code knows, in the same order, and no other."""
        parser = configparser.RawConfigParser()
        parser.read(DEFAULT_PATH, encoding="utf-8")
        known = {section: [f.name for f in dataclasses.fields(kind)] for section, kind in ALL_SECTIONS.items()}
        assert {section: list(parser[section]) for section in parser.sections()} == known

    def test_shipped_file_states_the_defaults(self, load: Load) -> None:
        """What config.ini says is what a file without the key means."""
        shipped = VaultConfig.load(environ={"VAULT_SECRET_ID": SECRET})
        minimal = load(VAULT_ENTITY=shipped.vault.entity, VAULT_ROLE_ID=shipped.vault.role_id)
        assert shipped == minimal

    def test_shipped_file_has_no_secret(self) -> None:
        """No secret_id is committed."""
        assert "VAULT_SECRET_ID" in problems_of(VaultConfig.load, DEFAULT_PATH, environ={})

    def test_every_key_is_explained(self) -> None:
        """Each key in config.ini has a comment right above it."""
        lines = DEFAULT_PATH.read_text().splitlines()
        keys = [number for number, line in enumerate(lines) if " =" in line and not line.startswith("#")]
        assert keys
        assert all(lines[number - 1].startswith("# ") for number in keys)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("section", "key"),
        [(section, f.name) for section, kind in ALL_SECTIONS.items() for f in dataclasses.fields(kind)],
    )
    def test_environment_wins_for_every_key(self, tmp_path: Path, pem: Pem, section: str, key: str) -> None:
        """SECTION_KEY in capitals reaches its own key and no other."""
        (tmp_path / "config.ini").write_text(MINIMUM)
        load = partial(read, tmp_path / "config.ini", to_log_in=False)
        needed = {"VAULT_CLIENT_CERT": pem("both")} if key == "client_key" else {}
        default = load(needed)
        current = getattr(default[section], key)
        other = {bool: str(not current).lower(), float: "0.5", int: "8192"}.get(type(current), "changed")
        special = {"url": "https://vault.example.com", "proxy_addr": "http://proxy:3128", "refresh_interval": "7"}
        special |= {"on_expiry": "renew"}
        special |= {"auth_method": "kubernetes", "jwt_url": "http://metadata/jwt", "jwt_headers": "Metadata: true"}
        other = pem("both") if key in ("ca_file", "client_cert", "client_key") else special.get(key, other)
        other = "7" if type(current) is float and key != "renew_jitter" else other
        changed = load({**needed, variable(section, key): other})
        differences = [
            (name, f.name)
            for name, kind in ALL_SECTIONS.items()
            for f in dataclasses.fields(kind)
            if getattr(default[name], f.name) != getattr(changed[name], f.name)
        ]
        assert differences == [(section, key)]

    def test_role_id_of_the_approle_alone(self, load: Load) -> None:
        """VAULT_ROLE_ID leaves the roles of both databases as they are."""
        config = load(VAULT_ROLE_ID="another")
        assert config.vault.role_id == "another"
        assert (config.database_dynamic.role_id, config.database_static.role_id) == (
            ("db-demo-dynamic",),
            ("db-demo-static",),
        )

    @pytest.mark.parametrize("prefix", ["VAULT", "BAO"])
    def test_names_of_the_ecosystem(self, load: Load, pem: Pem, prefix: str) -> None:
        """VAULT_ADDR and the like mean what they mean to the vault command, and so do those of bao."""
        expected = {
            "ADDR": ("url", "https://v:8200"), "CACERT": ("ca_file", pem("certificate")),
            "NAMESPACE": ("namespace", "team"),
            "CLIENT_CERT": ("client_cert", pem("certificate")), "CLIENT_KEY": ("client_key", pem("key")),
            "TLS_SERVER_NAME": ("tls_server_name", "vault.example"), "HTTP_PROXY": ("proxy_addr", "http://proxy:3128"),
            "ROLE_ID": ("role_id", "another"), "SECRET_ID": ("secret_id", "another"),
        }  # fmt: skip
        config = load(**{f"{prefix}_{name}": value for name, (_, value) in expected.items()})
        assert all(getattr(config.vault, key) == value for key, value in expected.values())
        assert load(**{f"{prefix}_SKIP_VERIFY": "true"}).vault.tls_verify is False

    @pytest.mark.parametrize(
        ("environ", "url"),
        [
            ({"VAULT_URL": "http://a", "VAULT_ADDR": "http://b", "BAO_URL": "http://c"}, "http://a"),
            ({"VAULT_ADDR": "http://b", "BAO_URL": "http://c", "BAO_ADDR": "http://d"}, "http://b"),
            ({"VAULT_ADDR": "", "BAO_ADDR": "http://d"}, "http://d"),
            ({"BAO_ADDR": ""}, "http://127.0.0.1:8200"),
        ],
    )
    def test_order_of_names(self, load: Load, environ: dict[str, str], url: str) -> None:
        """Ours, then that of the vault command, then those of bao; an empty one of theirs counts as not set."""
        assert load(**environ).vault.url == url

    @pytest.mark.parametrize(
        ("name", "near"),
        [("KV_SECRET_MAXSTALE", "KV_SECRET_MAX_STALE"), ("DATABASE_STATIC_ROLE", "DATABASE_STATIC_ROLE_ID")],
    )
    def test_unknown_variable_is_a_problem(self, load: Load, name: str, near: str) -> None:
        """Where a name begins as those of an engine's section do, it was meant for us."""
        assert f"{name}: unknown variable; did you mean {near}?" in problems_of(load, **{name: "1"})

    def test_variables_of_others_are_theirs(self, load: Load) -> None:
        """VAULT_, TOKEN_ and HTTP_ begin the names of other programs' variables, too."""
        assert load(VAULT_FORMAT="json", TOKEN_PERIOD="1m", HTTP_HOST="x", KV="1") == load()

    def test_own_name_wins(self, load: Load) -> None:
        """Where both are set, the project's own name is meant."""
        config = load(VAULT_ADDR="https://a", VAULT_URL="https://b", VAULT_SKIP_VERIFY="1", VAULT_TLS_VERIFY="true")
        assert (config.vault.url, config.vault.tls_verify) == ("https://b", True)


class TestTlsFiles:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"CA_FILE": "text"}, "in VAULT_CA_FILE, expected a file with certificates in PEM"),
            ({"CACERT": "key"}, "in VAULT_CACERT, expected a file with certificates in PEM"),
            ({"CA_FILE": "."}, "expected a file, and not a directory"),
            ({"CLIENT_CERT": "empty"}, "[vault] client_cert: found"),
            ({"CLIENT_CERT": "certificate"}, "[vault] client_cert: no client_key, expected a private key in PEM"),
            ({"CLIENT_KEY": "key"}, "[vault] client_key: found without client_cert, expected both"),
            ({"CLIENT_CERT": "both", "CLIENT_KEY": "other key"}, "expected the private key that belongs to client"),
            ({"CLIENT_CERT": "both", "CLIENT_KEY": "encrypted key"}, "expected a private key that is not encrypted"),
            ({"CLIENT_CERT": "both", "CLIENT_KEY": "text"}, "expected a private key in PEM"),
            ({"CLIENT_CERT": "both", "CLIENT_KEY": "missing"}, "expected a file that exists"),
            ({"CAPATH": "."}, "VAULT_CAPATH: a directory of CAs, expected one file that holds them: VAULT_CACERT"),
        ],
    )  # fmt: skip
    def test_h1_file_is_checked(self, load: Load, pem: Pem, environ: dict[str, str], expected: str) -> None:
        """For what it is used for, before it is used."""
        files = {f"VAULT_{key}": pem(name) for key, name in environ.items()}
        assert expected in problems_of(load, VAULT_URL="https://vault", **files)

    def test_h1_key_may_be_in_the_certificate_file(self, load: Load, pem: Pem) -> None:
        """As some tools write it."""
        assert load(VAULT_CLIENT_CERT=pem("both")).vault.client_key == ""


class TestValues:
    def test_values_are_literal(self, load: Load) -> None:
        """A % is a %, and what looks like a comment behind a value belongs to it."""
        assert load(MINIMUM.replace(SECRET, "a%(b)s%%c # d")).vault.secret_id == "a%(b)s%%c # d"

    def test_byte_order_mark_is_no_text(self, load: Load) -> None:
        """A file saved by a Windows editor is read like any other."""
        assert load("\ufeff" + MINIMUM).vault.entity == "shop"

    def test_settings_are_frozen(self, load: Load) -> None:
        """They are read once and stay."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            load().vault.url = "http://elsewhere"  # type: ignore[misc]

    def test_p1_repr_hides_the_secret(self, load: Load) -> None:
        """A config that is printed by mistake shows no secret_id, and no password of a proxy."""
        assert SECRET not in repr(load(VAULT_PROXY_ADDR=f"http://user:{SECRET}@proxy:3128"))


class TestSeveral:
    def test_several_are_separated_by_commas(self, load: Load) -> None:
        """Paths and prefixes, roles; spaces around the commas do not count."""
        config = load(KV_SECRET_PATH="database, team/* ,a b", DATABASE_STATIC_ROLE_ID="one,two")
        assert config.kv_secret.names == ("database", "team/*", "a b")
        assert config.database_static.names == ("one", "two")

    @pytest.mark.parametrize("path", ["*", "team/*", "team/deep/*"])
    def test_prefix_is_a_path_with_a_star(self, load: Load, path: str) -> None:
        """At its end, behind a slash."""
        assert load(KV_SECRET_PATH=path).kv_secret.names == (path,)
        assert is_prefix(path)

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("a,,b", "expected a path such as database or team/database, without empty parts"),
            ("a,", "; several are separated by commas"),
            ("/*", "expected a path"),
            ("team*", "expected a * at the end of a prefix alone, such as team/*"),
            ("te*m/*", "expected a * at the end of a prefix alone"),
            ("**", "expected a * at the end of a prefix alone"),
            ("../*", "expected a path"),
            ("a, b, a", "found 'a, b, a' in KV_SECRET_PATH, expected no name to stand twice"),
        ],
    )
    def test_what_is_no_list_of_paths_is_explained(self, load: Load, path: str, expected: str) -> None:
        """As any other setting."""
        assert expected in problems_of(load, KV_SECRET_PATH=path)


class TestProblems:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "[vault] entity: the section is missing; a value is required"),
            ("[vault]\nentity = shop\n", "role_id: a value is required; set it in the file or as VAULT_ROLE_ID"),
            (MINIMUM + "[http]\ntimeout = soon\n", "[http] timeout: found 'soon', expected a number from 0.1 to 3600"),
            (MINIMUM + "[http]\ntimeout = nan\n", "found 'nan'"),
            (MINIMUM + "[http]\ntimeout = -1\n", "found '-1', expected a number from"),
            (MINIMUM + "[http]\nmax_response_size = 4096.5\n", "expected a whole number from"),
            (MINIMUM + "[kv_secret]\nenabled = maybe\n", "found 'maybe', expected true or false"),
            (MINIMUM + "[kv_secret]\npath = a/../b\n", "[kv_secret] path"),
            (MINIMUM + "[database_dynamic]\non_expiry = Renew\n", "found 'Renew', expected rotate or renew"),
            (MINIMUM + "url = 127.0.0.1:8200\n", "expected an address such as http://127.0.0.1:8200"),
            (MINIMUM + "url = http://host:99999\n", "expected an address"),
            (MINIMUM + "url = ftp://host\n", "expected an address"),
            (MINIMUM + "url = http://a b\n", "expected an address"),
            (MINIMUM + f"url = http://{'x' * 64}\n", "expected an address"),
            (MINIMUM + "url = http://vault/a b\n", "expected an address"),
            (MINIMUM + "url = http://vault/\x07\n", "expected an address"),
            (MINIMUM + "url = http://vault:8200/v1/\n", "expected the address alone, without the /v1 of the API"),
            (MINIMUM + "tls_server_name = a b\n", "expected the name of a host"),
            (MINIMUM + "proxy_addr = socks5://proxy:1080\n", "expected a proxy such as http://proxy.example.com:3128"),
            (MINIMUM + "namespace = caf\u00e9\n", "expected a path such as team/shop, in ASCII"),
            (MINIMUM + "namespace = team shop\n", "expected a path such as team/shop, in ASCII and without spaces"),
            (MINIMUM + "namespace = team\x07shop\n", "expected a path such as team/shop"),
            (MINIMUM + "[database_dynamic]\nrole_id = .\n", "expected a name"),
            (MINIMUM + "[database_dynamic]\nrole_id = ..\n", "expected a name"),
            (MINIMUM + "[database_dynamic]\nrole_id = a\x07b\n", "expected a name"),
            (MINIMUM + f"ca_file = {'x' * 5000}\n", f"found '{'x' * 80}', expected a file that exists"),
            (MINIMUM + "ca_file = /nowhere/ca.pem\n", "found '/nowhere/ca.pem', expected a file that exists"),
            (MINIMUM + "[kv_secrets]\n", "[kv_secrets]: unknown section; did you mean kv_secret?"),
            (MINIMUM + "[http]\ntimeuot = 3\n", "[http] timeuot: unknown key; did you mean timeout?"),
            (MINIMUM + "[DEFAULT]\ntimeout = 3\n", "[DEFAULT]: unknown section"),
            (MINIMUM + "[http]\n[http]\n", "section [http] stands twice"),
            (MINIMUM + "entity = shop2\n", "[vault] entity stands twice"),
            ("entity = shop\n" + MINIMUM, "line 1: text before the first [section]"),
            (MINIMUM + "no equals sign\n", "line 5: neither [section] nor key = value"),
            (
                MINIMUM + "".join(f"[{engine}]\nenabled = no\n" for engine in ENGINE_SECTIONS),
                "nothing to do: set enabled = true in one of [kv_secret], [database_dynamic], [database_static]",
            ),
        ],
    )  # fmt: skip
    def test_problem_is_explained(self, load: Load, text: str, expected: str) -> None:
        """Each says where, what was found, and what was expected."""
        assert expected in problems_of(load, text)

    def test_all_problems_come_at_once(self, load: Load) -> None:
        """Nobody mends one to be told of the next."""
        text = "[vault]\nurl = x\n[http]\ntimeout = x\nsize = 1\n[extra]\n"
        with pytest.raises(ConfigurationError) as caught:
            load(text, KV_SECRET_ENABLED="x")
        assert len(caught.value.problems) == 8

    def test_missing_file_is_explained(self) -> None:
        """Its name and the reason."""
        assert "nowhere.ini: cannot be read: No such file" in problems_of(VaultConfig.load, "nowhere.ini")

    def test_undecodable_file_is_explained(self, tmp_path: Path) -> None:
        """The place of the first byte that is not UTF-8."""
        path = tmp_path / "config.ini"
        path.write_bytes(b"[vault]\nentity = caf\xe9\n")
        assert "byte 20 is not UTF-8" in problems_of(VaultConfig.load, path)

    def test_socks_proxy_of_the_process(self, load: Load) -> None:
        """It is not supported, and not shown either."""
        said = problems_of(load, HTTPS_PROXY=f"socks5://admin:{SECRET}@proxy:1080")
        assert "HTTPS_PROXY: found (not shown), expected a proxy such as" in said
        assert SECRET not in said

    @pytest.mark.parametrize(
        "text",
        [
            f"{SECRET}\n",
            f"[vault]\nsecret_id {SECRET}\n",
            f"[vault]\nsecret_id = {SECRET}\x07\n",
            f"[vault]\nurl = http://admin:{SECRET}@host\n",
            f"[vault]\nproxy_addr = socks5://admin:{SECRET}@proxy\n",
            f"[vault]\nrole_id = 7fb49dd0\n  secret_id = {SECRET}\n",
            f"[vault]\nrole_id = 7fb49dd0\n  SECRET_ID = {SECRET}\n",
        ],
    )
    def test_p1_no_secret_in_a_problem(self, load: Load, text: str) -> None:
        """A line that cannot be read may be the one with the secret: it is not quoted."""
        assert SECRET not in problems_of(load, text)
