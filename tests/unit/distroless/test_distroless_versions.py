from __future__ import annotations

import itertools

import pytest
from debian.debian_support import NativeVersion
from hypothesis import given
from hypothesis import strategies as st

from tare.distroless.relations import Relation, parse_relations
from tare.distroless.versions import compare, satisfies
from tare.errors import DataCorrupt

ASCENDING = [
    "0~~",
    "0~",
    "0",
    "0.0~rc1-1",
    "0.0-1",
    "1.0~rc1",
    "1.0",
    "1.0+b1",
    "1.0.1",
    "1.2",
    "1.10",
    "2a",
    "2-1",
    "1:0",
]


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise(ASCENDING)))
def test_order(older: str, newer: str) -> None:
    expected = compare(older, newer)
    native = (NativeVersion(older) > NativeVersion(newer)) - (NativeVersion(older) < NativeVersion(newer))
    assert expected == native == -compare(newer, older)


@pytest.mark.parametrize(("left", "right"), [("1.0", "1.0-0"), ("0:1", "1"), ("1.0.", "1.0.0"), ("01", "1")])
def test_equal(left: str, right: str) -> None:
    assert compare(left, right) == 0
    assert satisfies(left, "=", right)


_part = st.text("019.+~ab", min_size=1, max_size=6)
_version = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "0:", "1:"]),
    _part.map(lambda text: "1" + text) | _part.map(lambda text: "0" + text),
    st.one_of(st.just(""), _part.map(lambda text: "-1" + text)),
)


@given(_version, _version)
def test_agrees_with_another_implementation(left: str, right: str) -> None:
    a, b = NativeVersion(left), NativeVersion(right)
    assert compare(left, right) == (a > b) - (a < b)


@pytest.mark.parametrize(
    ("operator", "result"), [("<<", False), ("<=", True), ("=", True), (">=", True), (">>", False), ("!!", False)]
)
def test_satisfies(operator: str, result: bool) -> None:
    assert satisfies("1.0", operator, "1.0") is result


def test_relations() -> None:
    parsed = parse_relations("libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, python3:any, foo [amd64] <!nocheck>")
    assert parsed == (
        (Relation("libc6", ">=", "2.34"),),
        (Relation("debconf", ">=", "0.5"), Relation("debconf-2.0")),
        (Relation("python3"),),
        (Relation("foo"),),
    )
    assert parse_relations("") == ()


@pytest.mark.parametrize("text", ["libc6 (>=)", "Upper", "a b", "x (1)", "| y"])
def test_relations_refuse(text: str) -> None:
    with pytest.raises(DataCorrupt, match=r"not a package relation"):
        parse_relations(text)
