"""One canonical path: whatever has a second spelling is refused, and what is not comes out as it went in."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.paths import PathRefused, canonical, canonical_prefix, checked

GOOD = {
    b"app": "app",
    b"team/database": "team/database",
    b"Acme/app": "Acme/app",
    b"%61pp": "app",
    b"caf%C3%A9": "café",
    b"a%20b": "a b",
    b"...": "...",
    b".hidden/..a": ".hidden/..a",
    b"a:b@c,d=e&f!g~h_i-j'(k)[l]": "a:b@c,d=e&f!g~h_i-j'(k)[l]",
    b"/".join([b"s"] * 16): "/".join(["s"] * 16),
    b"a" * 128: "a" * 128,
}
BAD = [
    b"", b"/", b"/app", b"app/", b"a//b", b"//", b".", b"..", b"./app", b"app/.", b"../globex/app",
    b"acme/../globex/app", b"%2e%2e/globex", b"%2E", b"a/%2e%2e/b", b".%2e/b",
    b"a%2fb", b"a%2Fb", b"..%2fglobex", b"a%5cb", b"a%5Cb", b"a\\b", b"%00", b"app%00",
    b"%252e%252e/b", b"a%252fb", b"100%25", b"%", b"a%", b"a%2", b"a%zz", b"%u002e",
    b"a%0d%0aX", b"a%0a", b"a\r\nb", b"a\tb", b"a b", b"a%7f", b"a%1b", b"a%c2%85",
    b"%ff", b"%c3", b"%c0%ae%c0%ae/b", b"%ed%a0%80", b"caf\xc3\xa9",
    b"a;b", b"a%3bb", b"a?b", b"a%3fb", b"a#b", b"a%23b", b"a*", b"a/%2a", b"a+b", b"a%2bb", b"%7btenant%7d", b"{a}",
    b"%e2%80%a4%e2%80%a4/b", b"%ef%bc%8e%ef%bc%8e/b", b"a%ef%bc%8fb", b"%ef%bc%a1", b"cafe%cc%81", b"%e2%80%a5/b",
    b"a%e2%80%8bb", b"a%e2%80%ae", b"a%c2%adb", b"%ef%bb%bfa", b"a%e2%80%a8b", b"a%c2%a0b", b"%ee%80%80",
    b"%20a", b"a%20", b"a%20/b", b"a" * 129, b"/".join([b"s"] * 17), b"/".join([b"a" * 100] * 6), b"%61" * 513,
]  # fmt: skip


@pytest.mark.parametrize(("raw", "path"), GOOD.items(), ids=repr)
def test_path_is_decoded_once(raw: bytes, path: str) -> None:
    """A secret's path is what its percent-encoding says, its case kept."""
    assert canonical(raw) == path


@pytest.mark.parametrize("raw", BAD, ids=lambda raw: repr(raw[:30]))
def test_other_spellings_are_refused(raw: bytes) -> None:
    """With a reason in ASCII that quotes nothing of the path."""
    with pytest.raises(PathRefused) as refused:
        canonical(raw)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "prefix"), {b"": "", b"team": "team", b"team/": "team", b"a/b/": "a/b"}.items(), ids=repr
)
def test_prefix_may_end_with_a_slash(raw: bytes, prefix: str) -> None:
    assert canonical_prefix(raw) == prefix


@pytest.mark.parametrize("raw", [b"/", b"//", b"team//", b"/team", b"..", b"../", b"team/../", b"%2f"], ids=repr)
def test_prefix_is_as_strict(raw: bytes) -> None:
    with pytest.raises(PathRefused):
        canonical_prefix(raw)


@given(st.binary(max_size=40) | st.text("./%\\;\0aé2eEfF ", max_size=20).map(lambda text: quote(text, "/.%").encode()))
@example(b"%2e%2e%2fglobex")
def test_accepted_path_has_one_spelling(raw: bytes) -> None:
    """What is accepted stays below the tenant, is in normal form, and means itself, however often decoded."""
    try:
        path = canonical(raw)
    except PathRefused:
        return
    assert not {"", ".", ".."} & set(path.split("/"))
    assert unicodedata.normalize("NFKC", path) == path
    assert path.isprintable()
    assert unquote_to_bytes(path) == path.encode()
    assert canonical(quote(path).encode()) == checked(path) == path


@given(st.text(min_size=1, max_size=12), st.data())
def test_escaping_makes_no_other_path(text: str, data: st.DataObject) -> None:
    """However much of a path is percent-encoded that need not be, it is the same path, or none."""
    try:
        path = canonical(quote(text, "/").encode())
    except (PathRefused, UnicodeEncodeError):
        return
    escaped = "".join(
        f"%{byte:02x}" if chr(byte) != "/" and (byte > 126 or byte == 32 or data.draw(st.booleans())) else chr(byte)
        for byte in path.encode()
    )
    assert canonical(escaped.encode()) == path
