"""Which proxy is used for which address, as programs in Go have it."""

from __future__ import annotations

import pytest

from vaultkit.errors import ConfigurationError
from vaultkit.transport.proxies import Proxies

COMPANY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8200", "https://127.8.9.10", "http://localhost:8200", "http://LOCALHOST", "http://[::1]:8200",
        "http://[::ffff:127.0.0.1]:8200", "http://localhost.", "http://0.0.0.0:8200",
    ],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "HTTPS_PROXY", "[vault] proxy_addr"])
def test_h1_loopback_is_never_proxied(url: str, variable: str) -> None:
    """Whatever is set."""
    proxies = Proxies(COMPANY if variable.startswith("[") else "", {variable: COMPANY, variable.lower(): COMPANY})
    assert proxies.of(url) is None


@pytest.mark.parametrize(
    ("environ", "url", "named_by"),
    [
        ({"HTTP_PROXY": COMPANY}, "http://vault", "HTTP_PROXY"),
        ({"http_proxy": COMPANY}, "http://vault", "http_proxy"),
        ({"HTTPS_PROXY": COMPANY, "https_proxy": "http://other"}, "https://vault", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "", "https_proxy": COMPANY}, "https://vault", "https_proxy"),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "https://vault", "HTTPS_PROXY"),
    ],
)
def test_h1_proxy_of_the_process(environ: dict[str, str], url: str, named_by: str) -> None:
    """By the scheme of the address; in capitals first; the scheme of the proxy may be left out."""
    proxy = Proxies("", environ).of(url)
    assert proxy is not None
    assert (proxy.url, proxy.named_by) == (COMPANY, named_by)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"HTTP_PROXY": COMPANY}, "https://vault"),
        ({"ALL_PROXY": COMPANY}, "https://vault"),
        ({"HTTP_PROXY": COMPANY, "REQUEST_METHOD": "GET"}, "http://vault"),
    ],
)
def test_h1_not_meant_for_it(environ: dict[str, str], url: str) -> None:
    """One for the other scheme, one that Go's programs do not know, one that a web client may have set."""
    assert Proxies("", environ).of(url) is None


@pytest.mark.parametrize("url", ["http://vault", "https://vault"])
def test_h1_vault_proxy_overrides_all(url: str) -> None:
    """Also NO_PROXY, as with the vault command."""
    everything = {"HTTP_PROXY": "http://other", "HTTPS_PROXY": "http://other", "NO_PROXY": "*"}
    proxy = Proxies(COMPANY, everything).of(url)
    assert proxy is not None
    assert proxy.named_by == "[vault] proxy_addr"


@pytest.mark.parametrize(
    ("rules", "url", "exempt"),
    [
        ("*", "http://vault.example", True),
        ("vault.example", "http://vault.example", True),
        ("other, Vault.Example", "http://VAULT.example", True),
        ("example", "http://vault.example", True),
        (".example", "http://vault.example", True),
        ("*.example", "http://vault.example", True),
        (".vault.example", "http://vault.example", False),
        ("ault.example", "http://vault.example", False),
        ("vault.example:8200", "http://vault.example:8200", True),
        ("vault.example:8200", "http://vault.example", False),
        ("vault.example:443", "https://vault.example", True),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.0.0.0/8", "http://ten.example", False),
        ("fd00::/8", "http://[fd12::1]:8200", True),
        ("10.1.2.3", "http://10.1.2.3:8200", True),
        ("10.1.2.3:8201", "http://10.1.2.3:8200", False),
        ("[fd12::1]:8200", "http://[fd12:0::1]:8200", True),
        ("fd12::1", "http://[fd12::1]:8200", True),
        ("", "http://vault.example", False),
        (",,nonsense/33/x", "http://vault.example", False),
    ],
)
def test_h1_no_proxy(rules: str, url: str, exempt: bool) -> None:
    """Domains with what is below them, addresses, networks, with a port or not."""
    proxies = Proxies("", {"HTTP_PROXY": COMPANY, "HTTPS_PROXY": COMPANY, "no_proxy": rules})
    assert (proxies.of(url) is None) is exempt


@pytest.mark.parametrize("value", ["socks5://proxy", "http://", "http://a b", "http://a:port", f"http://{'x' * 64}"])
def test_h1_what_is_no_proxy_is_explained(value: str) -> None:
    """With the name of the variable."""
    with pytest.raises(ConfigurationError, match=r"HTTPS_PROXY: found .* expected a proxy such as"):
        Proxies("", {"HTTPS_PROXY": value})


def test_p1_proxy_shows_no_password() -> None:
    """It is named in messages."""
    proxy = Proxies("", {"HTTP_PROXY": "http://user:secret@proxy:3128"}).of("http://vault")
    assert str(proxy) == "http://proxy:3128 (from HTTP_PROXY)"
    assert "secret" not in repr(proxy)
