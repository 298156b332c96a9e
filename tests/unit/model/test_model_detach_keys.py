"""Detach keys: how they are written and found in input."""

from __future__ import annotations

import pytest

from tare.errors import InvalidArgument
from tare.model.detach_keys import Detached, DetachFilter, parse_detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@,ctrl-a,ctrl-z", b"\x00\x01\x1a"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("a,Z,DEL", b"aZ\x7f"),
    ],
)
def test_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-A", "ctrl-", "ab", "a,", ",", "ü", "ctrl-p ctrl-q"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_detach_keys(text)
    assert raised.value.message == f"Invalid detach keys ({text}) provided"


def test_half_of_the_keys_is_held_back() -> None:
    keys = DetachFilter()
    assert keys.feed(b"abc") == b"abc"
    assert keys.feed(b"\x10") == b""
    assert keys.feed(b"x") == b"\x10x"
    assert keys.feed(b"y\x10") == b"y"
    with pytest.raises(Detached):
        keys.feed(b"\x11")


def test_at_the_end_of_input_nothing_is_held_back() -> None:
    keys = DetachFilter(b"ab")
    assert (keys.feed(b"xa"), keys.flush(), keys.flush()) == (b"x", b"a", b"")
