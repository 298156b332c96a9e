"""What addresses mean."""

from __future__ import annotations

import pytest

from tare.build.named import context_names, lookup_name
from tare.build.sources.addresses import (
    GitAddress,
    HttpAddress,
    parse_git,
    parse_http,
    parse_remote,
    redact,
    with_checksum,
)
from tare.errors import InvalidArgument, TareError, Unsupported

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://h/r.git", GitAddress(remote="https://h/r.git")),
        ("http://h:8080/a/r.git#main", GitAddress(remote="http://h:8080/a/r.git", ref="main")),
        ("https://h/r.git#:sub/dir", GitAddress(remote="https://h/r.git", subdir="sub/dir")),
        ("https://h/r.git#a/b:sub", GitAddress(remote="https://h/r.git", ref="a/b", subdir="sub")),
        ("git://h/r", GitAddress(remote="git://h/r")),
        ("ssh://git@h:22/r#v1", GitAddress(remote="ssh://git@h:22/r", ref="v1")),
        ("git@h:a/r.git#v1:d", GitAddress(remote="git@h:a/r.git", ref="v1", subdir="d")),
        ("me@h:r", GitAddress(remote="me@h:r")),
        ("git@h:r.git?branch=x", GitAddress(remote="git@h:r.git", ref="refs/heads/x")),
        ("https://h/r.git?ref=v1&subdir=d", GitAddress(remote="https://h/r.git", ref="v1", subdir="d")),
        ("https://h/r.git?tag=v1", GitAddress(remote="https://h/r.git", ref="refs/tags/v1")),
        ("https://h/r.git?checksum=ABC1", GitAddress(remote="https://h/r.git", ref="ABC1", checksum="abc1")),
        (
            "https://h/r.git?keep-git-dir&submodules=false",
            GitAddress(remote="https://h/r.git", keep_git_dir=True, submodules=False),
        ),
        ("HTTPS://h/r.git", GitAddress(remote="https://h/r.git")),
    ],
)
def test_git_addresses(text: str, wanted: GitAddress) -> None:
    assert parse_git(text) == wanted
    assert parse_remote(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "https://h/r.tar.gz",
        "https://h/x.git/file",
        "dir",
        "./git@h:x",
        "../a@b:c",
        "file:///r.git",
        "ext::sh -c id",
        "/a",
    ],
)
def test_what_is_no_git_address(text: str) -> None:
    assert parse_git(text) is None


def test_github_without_scheme_is_a_context_only() -> None:
    assert parse_git("github.com/a/b") is None
    assert parse_remote("github.com/a/b#v1:d") == GitAddress(remote="https://github.com/a/b", ref="v1", subdir="d")
    assert parse_remote("github.com/a/b.git") == GitAddress(remote="https://github.com/a/b.git")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://h/r.git#--upload-pack=touch${IFS}x", "invalid ref '--upload-pack=touch"),
        ("https://h/r.git#a..b", "invalid ref"),
        ("https://h/r.git#a b", "invalid ref"),
        ("https://h/r.git?ref=-x", "invalid ref '-x'"),
        ("ssh://-oProxyCommand=x/r", "may not begin with a dash"),
        ("git@-oProxyCommand:r", "may not begin with a dash"),
        ("https://h/r.git?ref=a#b", "ref conflicts: 'b' vs 'a'"),
        ("https://h/r.git?subdir=a#:b", "subdir conflicts"),
        ("https://h/r.git?tag=a&branch=b", "branch conflicts with tag"),
        ("https://h/r.git?ref=", "'ref' has no value"),
        ("https://h/r.git?ref=a&ref=b", "several values"),
        ("https://h/r.git?depth=1", "unexpected query 'depth'"),
        ("https://h/r.git?submodules=perhaps", "invalid submodules value"),
        ("https://h/r.git?checksum=xyz", "expected hex commit hash"),
        ("https:///r.git", "names a host"),
        ("https://h/\0r.git", "control characters"),
        ("https://h/r.git?subdir=%00", "control characters"),
        ("https://[h/r.git", "Invalid IPv6"),
    ],
)
def test_bad_git_addresses(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_git(text)
    assert message in caught.value.message


def test_other_addresses() -> None:
    assert parse_remote("https://h/a.tar.gz?x=1#part") == HttpAddress("https://h/a.tar.gz?x=1")
    for text in ("file:///x", "ftp://h/x", "ext://x"):
        with pytest.raises(Unsupported, match="is not fetched"):
            parse_remote(text)
    for text in ("ext::sh -c id", "directory", ""):
        with pytest.raises(InvalidArgument, match="is no address"):
            parse_remote(text)
    with pytest.raises(InvalidArgument, match="has no host"):
        parse_http("http:///x")
    with pytest.raises(InvalidArgument, match="control characters"):
        parse_http("http://h/\x01")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@h/r.git", "https://xxxxx:xxxxx@h/r.git"),
        ("https://token@h/r.git", "https://xxxxx@h/r.git"),
        ("fatal: 'https://u:p@h/r'", "fatal: 'https://xxxxx:xxxxx@h/r'"),
        ("ssh://git@h/r", "ssh://git@h/r"),
        ("git@h:r", "git@h:r"),
        ("https://h/a@b", "https://h/a@b"),
    ],
)
def test_credentials_are_masked(text: str, shown: str) -> None:
    assert redact(text) == shown
    found = parse_remote(text) if text.startswith("https://") and text.endswith(".git") else None
    if found is not None:
        assert found.shown == shown
        assert "u:p" not in repr(found) and "token" not in repr(found)


def test_checksums_of_flag_and_address_must_agree() -> None:
    address = GitAddress(remote="https://h/r.git", checksum="ab")
    assert with_checksum(address, "").checksum == "ab"
    assert with_checksum(GitAddress(remote="https://h/r.git"), "AB").checksum == "ab"
    with pytest.raises(InvalidArgument, match="checksum mismatch"):
        with_checksum(address, "cd")
    with pytest.raises(TareError, match="hex commit hash"):
        with_checksum(GitAddress(remote="https://h/r.git"), "sha256:ab")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("alpine", "alpine"),
        ("alpine:latest", "alpine"),
        ("docker.io/library/alpine", "alpine"),
        ("index.docker.io/alpine:latest", "alpine"),
        ("alpine:3.20", "alpine:3.20"),
        ("example.test/a/b:latest", "example.test/a/b"),
        ("scratch", None),
        ("Context", None),
        ("UPPER", None),
        ("", None),
    ],
)
def test_names_of_contexts(name: str, key: str | None) -> None:
    assert lookup_name(name) == key


def test_a_context_needs_a_name_that_images_can_have() -> None:
    assert context_names({"docker.io/library/a:latest": "/x"}) == {"a": "docker.io/library/a:latest"}
    with pytest.raises(InvalidArgument, match="invalid context name A_B/"):
        context_names({"A_B/": "/x"})
