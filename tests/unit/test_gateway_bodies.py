"""What may be written: what the store would change is refused, with a place and without a value."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bodies import BodyRefused, parse
from gateway.settings import LimitsSettings

LIMITS = LimitsSettings()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)


def with_value(text: str) -> bytes:
    return f'{{"data": {{"v": {text}}}}}'.encode()


def refusal(raw: bytes, **limits: int) -> BodyRefused:
    with pytest.raises(BodyRefused) as refused:
        parse(raw, replace(LIMITS, **limits))
    return refused.value


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_what_survives_is_given_back(data: dict[str, Any]) -> None:
    assert parse(json.dumps({"data": data}).encode(), replace(LIMITS, depth=64)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("[null]", [None]), ("[]", []), ("{}", {}), ('""', ""), ('"\\u0000"', "\0"), ("true", True),
        ("0", 0), ("-7", -7), ("9007199254740992", 2**53), ("-9007199254740992", -(2**53)), ("0.1", 0.1), ("1.0", 1.0),
        ("1e2", 100.0), ("1.5E+3", 1500.0), ("5e-324", 5e-324), ("0.30000000000000004", 0.30000000000000004),
        ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"), ('{"": 1}', {"": 1}), ('"\ufffd"', "\ufffd"),
    ],
)  # fmt: skip
def test_values_that_survive(text: str, value: object) -> None:
    assert parse(with_value(text), LIMITS) == {"v": value}


LOSSY = [
    "9007199254740993", "-9007199254740993", "1152921504606846976", "1e16", "12345678901234567.0", "1e400", "-1e400",
    "1" * 5000, "1" * 300, "0." + "1" * 500, "-0", "-0.0", "-0e5", "0.10000000000000000001", "123456789.123456789",
    "1e-400", "1e-99999999999999999999", "1e99999999999999999999", '"\\ud800"', '"a\\udfffb"', '{"a": 1, "a": 1}',
    '{"\\ud800": 1}', '[{"x": [9007199254740993]}]',
]  # fmt: skip


@pytest.mark.parametrize("text", LOSSY, ids=lambda text: text[:30])
def test_values_that_would_change_are_refused(text: str) -> None:
    refused = refusal(with_value(text))
    assert (refused.status, len(refused.errors)) == (422, 1)
    assert refused.errors[0]["pointer"].startswith("/data/v")
    assert text not in str(refused.errors)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"secret", b"\xff", b'{"data": {"v": "\xff"}}', b'{"data": {"v": NaN}}',
        b'{"data": {"v": -Infinity}}',
        b'\xef\xbb\xbf{"data": {}}', '{"data": {}}'.encode("utf-16"), b'{"data": {}} x', b"{'data': {}}",
        b'{"data": {"v": 01}}', b'{"data": {"v": "a\nb"}}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    assert refusal(raw).status == 400


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b"[]", ""), (b"7", ""), (b"null", ""), (b"{}", ""), (b'{"v": 1}', ""), (b'{"data": {}, "options": {}}', ""),
        (b'{"data": {}, "data": {}}', ""), (b'{"data": null}', "/data"), (b'{"data": "x"}', "/data"),
        (b'{"data": [1]}', "/data"),
    ],
)  # fmt: skip
def test_body_is_an_object_of_data(raw: bytes, pointer: str) -> None:
    refused = refusal(raw)
    assert (refused.status, [error["pointer"] for error in refused.errors]) == (422, [pointer])


def test_size_is_bounded() -> None:
    raw = with_value('"' + "x" * 100 + '"')
    assert refusal(raw, body_size=len(raw) - 1).status == 413
    assert parse(raw, replace(LIMITS, body_size=len(raw)))


def test_depth_is_bounded() -> None:
    assert parse(with_value("[" * 7 + "]" * 7), LIMITS)
    assert refusal(with_value("[" * 8 + "]" * 8)).status == 422
    assert refusal(with_value("[" * 30_000 + "]" * 30_000)).status == 422
    assert refusal(with_value('{"a":' * 8 + "{}" + "}" * 8)).status == 422


def test_keys_are_counted_together() -> None:
    """Those of all objects, however many there are."""
    half = json.dumps({str(number): number for number in range(127)})
    raw = f'{{"data": {{"a": {half}, "b": {half}}}}}'.encode()
    assert parse(raw, LIMITS)
    assert refusal(raw, keys=255).errors == [{"pointer": "/data", "detail": "more than 255 keys"}]


def test_pointers_are_escaped_and_short() -> None:
    """They hold keys alone, in ASCII, and there are not too many of them."""
    data = json.dumps({"a/b~c\n" + "é" * 100: [1, {"x": 2**60}]})
    (error,) = refusal(f'{{"data": {data}}}'.encode()).errors
    assert error["pointer"].startswith("/data/a~1b~0c")
    assert error["pointer"].endswith("/1/x")
    assert error["pointer"].isascii()
    many = json.dumps({"data": {str(number): 2**60 for number in range(100)}}).encode()
    assert len(refusal(many).errors) == 20
