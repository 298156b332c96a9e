"""Digests, platforms, identifiers and states."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

import pytest

from tare.errors import InvalidArgument
from tare.model import ContainerStatus, Digest, Platform, new_id, short_id

HEX = hashlib.sha256(b"").hexdigest()


def test_digest_of_bytes() -> None:
    assert str(Digest.of(b"")) == f"sha256:{HEX}"
    assert Digest.parse(f"sha256:{HEX}") == Digest(HEX)
    assert sorted([Digest("f" * 64), Digest("0" * 64)])[0] == Digest("0" * 64)


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", HEX, f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"sha512:{HEX * 2}",
     f"md5:{HEX}", f"sha256:{HEX}\n", f"sha256:../{HEX[3:]}", f"SHA256:{HEX}", f" sha256:{HEX}"],
)  # fmt: skip
def test_invalid_digest(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid digest"):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("linux/arm64", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("amd64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platform(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "linux//v7", "a/b/c/d", "linux/arm/"])
def test_invalid_platform(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid platform"):
        Platform.parse(text)


def test_platform_of_this_machine() -> None:
    assert Platform.host().os == "linux"
    assert Platform.parse(str(Platform.host())) == Platform.host()


def test_identifiers_are_random_hex() -> None:
    made = {new_id() for _ in range(50)}
    assert len(made) == 50
    assert all(len(item) == 64 and int(item, 16) >= 0 for item in made)


def test_identifier_never_looks_like_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Iterator[str] = iter(["1" * 64, "123456789012" + "a" * 52, "12345678901a" + "1" * 52])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(values))
    assert new_id() == "12345678901a" + "1" * 52


def test_short_form() -> None:
    assert short_id("sha256:" + HEX) == HEX[:12]
    assert short_id(HEX) == HEX[:12]


@pytest.mark.parametrize(
    ("status", "live", "start", "execute", "remove"),
    [
        ("created", False, True, False, True),
        ("running", True, False, True, False),
        ("paused", True, False, False, False),
        ("restarting", False, False, False, False),
        ("removing", False, False, False, False),
        ("exited", False, True, False, True),
        ("dead", False, False, False, True),
    ],
)
def test_what_a_state_allows(status: str, live: bool, start: bool, execute: bool, remove: bool) -> None:
    state = ContainerStatus(status)
    assert (state.is_live, state.can_start, state.can_exec, state.can_remove) == (live, start, execute, remove)
