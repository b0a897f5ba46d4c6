"""docs/SECURITY.md: each promise names its test, which is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
PAGE = (PROJECT / "docs/SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/.]+)::(\w+)`", PAGE)
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_test_is_there(file: str, test: str) -> None:
    path = PROJECT / re.sub(r"^S/", "tests/e2e/gateway_security/", file)
    assert f"def {test}(" in path.read_text(encoding="utf-8")


def test_each_promise_has_a_test() -> None:
    assert ROWS
    assert [row for row in ROWS if "::test_" not in row] == []


def test_no_attack_is_left_out() -> None:
    """Each test of tests/e2e/gateway_security/ stands on the page, but for those of what is usual."""
    usual = {
        "test_equal_paths_are_two_secrets",
        "test_spellings_of_one_path_share_an_entry",
        "test_values_come_back_as_they_went",
        "test_connections_leave_nothing",
        "test_challenge_says_what_is_missing",
        "test_signature_of_another_algorithm_is_none",
        "test_figures_agree_with_the_log",
        "test_p1_one_answer_alone_holds_the_value",
        "test_p1_what_is_misplaced_is_not_told_on",
    }
    files = (PROJECT / "tests/e2e/gateway_security").glob("test_*.py")
    tests = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}
    assert tests - {test for _, test in NAMED} - usual == set()
