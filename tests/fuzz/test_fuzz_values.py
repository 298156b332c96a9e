"""What users type: any text is either read or refused with an error of ours, and what was read can be read again."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tare.engine.clock import format_ns, to_nanoseconds
from tare.engine.creation import parse_port
from tare.engine.mount_plan import parse_bind
from tare.errors import InvalidArgument
from tare.model import Digest, Platform, Reference
from tare.model.signals import HIGHEST, parse_signal

NEAR = st.text(alphabet=string.ascii_lowercase + "AZ09/:@._-[]%\n \u0660\u00e9", max_size=40)
ANY = st.one_of(NEAR, st.text(max_size=60))
BOUNDED = settings(max_examples=300, deadline=None)


@BOUNDED
@given(ANY)
def test_references(text: str) -> None:
    try:
        read = Reference.parse(text)
    except InvalidArgument as error:
        assert str(error).startswith("invalid reference format")
        return
    assert Reference.parse(str(read)) == read
    assert Reference.parse(read.familiar()) == read
    assert str(read).isascii()
    assert not any(character.isspace() for character in str(read))


@BOUNDED
@given(ANY)
def test_bind_options(text: str) -> None:
    try:
        mount = parse_bind(text)
    except InvalidArgument:
        return
    assert mount.destination.startswith("/")
    assert ".." not in mount.destination.split("/")
    assert mount.destination.strip("/")
    assert mount.type == ("bind" if mount.source.startswith("/") else "volume")
    assert "/" not in mount.source or mount.type == "bind"


@BOUNDED
@given(ANY)
def test_small_values(text: str) -> None:
    for parse in (Digest.parse, Platform.parse, parse_port, parse_signal):
        try:
            read = parse(text)  # type: ignore[operator]
        except InvalidArgument:
            continue
        if parse is parse_signal:
            assert 0 < read <= HIGHEST


@BOUNDED
@given(st.integers(min_value=0, max_value=4_000_000_000 * 10**9))
def test_times(nanoseconds: int) -> None:
    assert to_nanoseconds(format_ns(nanoseconds)) == nanoseconds


@BOUNDED
@given(ANY)
def test_wrong_times(text: str) -> None:
    try:
        assert isinstance(to_nanoseconds(text), int)
    except ValueError:
        return
    except Exception as error:
        pytest.fail(f"{text!r}: {error!r}")
