from __future__ import annotations

import pytest

from tare.build.ops.patterns import has_wildcard, matches
from tare.errors import InvalidArgument


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*.go", "main.go", True),
        ("*.go", ".go", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("[!a]x", "!x", True),  # Go negates with ^ only
        ("[]a]", "]", None),
        ("[\\]]", "]", True),
        ("[z-a]", "m", False),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("src/*/x", "src/a/x", True),
        ("src/*/x", "src/a/b/x", False),
        ("a.b", "aXb", False),
        ("*", "new\nline", True),
    ],
)
def test_matches_as_go_does(pattern: str, path: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(InvalidArgument):
            matches(pattern, path)
    else:
        assert matches(pattern, path) is expected


@pytest.mark.parametrize("pattern", ["[", "[a", "[a-", "a\\", "[^", "[-a]"])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        matches(pattern, "x")


def test_a_plain_name_is_no_pattern() -> None:
    assert not has_wildcard("src/main.go")
    assert has_wildcard("src/ma?n.go")
