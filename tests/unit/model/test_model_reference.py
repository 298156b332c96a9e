"""References against the published grammar (distribution/reference) and Docker's normalisation."""

from __future__ import annotations

import pytest

from tare.errors import InvalidArgument
from tare.model import Reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

VALID = [
    # typed, domain, path, tag, digest, shown again
    ("test_com", "docker.io", "library/test_com", "latest", "", "test_com:latest"),
    ("test.com:tag", "docker.io", "library/test.com", "tag", "", "test.com:tag"),
    ("test.com:5000", "docker.io", "library/test.com", "5000", "", "test.com:5000"),
    ("test.com/repo:tag", "test.com", "repo", "tag", "", "test.com/repo:tag"),
    ("test:5000/repo", "test:5000", "repo", "latest", "", "test:5000/repo:latest"),
    ("test:5000/repo:tag", "test:5000", "repo", "tag", "", "test:5000/repo:tag"),
    (f"test:5000/repo@{DIGEST}", "test:5000", "repo", "", DIGEST, f"test:5000/repo@{DIGEST}"),
    (f"test:5000/repo:tag@{DIGEST}", "test:5000", "repo", "tag", DIGEST, f"test:5000/repo:tag@{DIGEST}"),
    ("test:5000/repo", "test:5000", "repo", "latest", "", "test:5000/repo:latest"),
    ("lowercase:Uppercase", "docker.io", "library/lowercase", "Uppercase", "", "lowercase:Uppercase"),
    ("domain/a", "docker.io", "domain/a", "latest", "", "domain/a:latest"),
    ("sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com", "bar/baz/quux", "latest", "", None),
    ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux", "some-long-tag", "", None),
    (
        "b.gcr.io/test.example.com/my-app:test.example.com",
        "b.gcr.io",
        "test.example.com/my-app",
        "test.example.com",
        "",
        None,
    ),
    ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com", "", None),
    ("foo_bar.com:8080", "docker.io", "library/foo_bar.com", "8080", "", "foo_bar.com:8080"),
    ("foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com", "8080", "", "foo/foo_bar.com:8080"),
    ("192.168.1.1", "docker.io", "library/192.168.1.1", "latest", "", None),
    ("192.168.1.1:tag", "docker.io", "library/192.168.1.1", "tag", "", None),
    ("192.168.1.1:5000", "docker.io", "library/192.168.1.1", "5000", "", None),
    ("192.168.1.1/repo", "192.168.1.1", "repo", "latest", "", None),
    ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050", "", None),
    ("[2001:db8::1]/repo", "[2001:db8::1]", "repo", "latest", "", None),
    ("[2001:db8:1:2:3:4:5:6]/repo:tag", "[2001:db8:1:2:3:4:5:6]", "repo", "tag", "", None),
    ("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000", "repo", "latest", "", None),
    ("[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000", "repo", "tag", "", None),
    (f"[2001:db8::1]:5000/repo@{DIGEST}", "[2001:db8::1]:5000", "repo", "", DIGEST, None),
    ("[2001:db8::]/repo", "[2001:db8::]", "repo", "latest", "", None),
    ("[::1]/repo", "[::1]", "repo", "latest", "", None),
    ("redis", "docker.io", "library/redis", "latest", "", "redis:latest"),
    ("redis:alpine", "docker.io", "library/redis", "alpine", "", "redis:alpine"),
    ("library/redis", "docker.io", "library/redis", "latest", "", "redis:latest"),
    ("docker.io/redis", "docker.io", "library/redis", "latest", "", "redis:latest"),
    ("docker.io/library/redis", "docker.io", "library/redis", "latest", "", "redis:latest"),
    ("index.docker.io/redis", "docker.io", "library/redis", "latest", "", "redis:latest"),
    ("index.docker.io/library/redis:1", "docker.io", "library/redis", "1", "", "redis:1"),
    ("dmcgowan/myapp", "docker.io", "dmcgowan/myapp", "latest", "", "dmcgowan/myapp:latest"),
    ("docker.io/dmcgowan/myapp", "docker.io", "dmcgowan/myapp", "latest", "", "dmcgowan/myapp:latest"),
    ("localhost/redis", "localhost", "redis", "latest", "", "localhost/redis:latest"),
    ("localhost:5000/redis", "localhost:5000", "redis", "latest", "", None),
    ("Uppercase/lowercase", "Uppercase", "lowercase", "latest", "", None),
    ("a", "docker.io", "library/a", "latest", "", "a:latest"),
    ("aa/aa/aa/aa", "docker.io", "aa/aa/aa/aa", "latest", "", None),
    ("foo.com/bar__baz", "foo.com", "bar__baz", "latest", "", None),
    ("foo-----bar/x", "docker.io", "foo-----bar/x", "latest", "", None),
    ("a.b/c:_under", "a.b", "c", "_under", "", None),
    ("x:" + "t" * 128, "docker.io", "library/x", "t" * 128, "", None),
    (f"redis@{DIGEST}", "docker.io", "library/redis", "", DIGEST, f"redis@{DIGEST}"),
    ("tare.local/debian:12", "tare.local", "debian", "12", "", "tare.local/debian:12"),
    ("a.com/" + "a" * 249, "a.com", "a" * 249, "latest", "", None),
]

INVALID = [
    "", ":justtag", f"@{DIGEST}", "repo@sha256:ffffffffffffffff", f"validname@invaliddigest:{HEX}{HEX}",
    "Uppercase:tag", "test:5000/Uppercase/lowercase:tag", "aa/asdf$$^/aa", "a//b", "/a", "a/", "-a", "a-", "_a/b",
    "a_/b",
    "a___b", "a..b", ".a", "a.", "foo/../bar", "foo:bar:baz", "foo:-tag", "foo:.tag", "foo:ta g", "foo bar", "foo\n",
    "foo:tag\n", "x:" + "t" * 129, "a.com/" + "a" * 250, "a/" * 128 + "a:tag", "https://github.com/docker/docker",
    "docker/Docker", "-docker.com/x", "-foo.com/bar", "foo.com:abc/x", "[fe80::1%eth0]/repo", "[2001:db8::1]", "[::1]",
    "[2001:db8::1", "2001:db8::1/repo", "[fe80::1%@invalidzone]:5000/repo", f"redis@sha256:{HEX.upper()}",
    f"redis@{DIGEST}0", "redis@", "redis@sha256", f"redis@{DIGEST}@{DIGEST}", "fo$z$", "foo@bar", "caf\u00e9",
    "\u0660", "foo:\u0661", "docker.io/",
]  # fmt: skip


@pytest.mark.parametrize(("typed", "domain", "path", "tag", "digest", "shown"), VALID)
def test_valid(typed: str, domain: str, path: str, tag: str, digest: str, shown: str | None) -> None:
    read = Reference.parse(typed)
    assert (read.domain, read.path, read.tag, str(read.digest or "")) == (domain, path, tag, digest)
    assert Reference.parse(str(read)) == read
    assert Reference.parse(read.familiar()) == read
    if shown is not None:
        assert read.familiar() == shown


@pytest.mark.parametrize("typed", INVALID)
def test_invalid(typed: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid reference format"):
        Reference.parse(typed)


def test_docker_words_for_upper_case() -> None:
    with pytest.raises(
        InvalidArgument, match=r"^invalid reference format: repository name \(library/Redis\) must be lowercase$"
    ):
        Reference.parse("Redis")


def test_default_tag_can_be_left_out() -> None:
    assert Reference.parse("redis", default_tag="").tag == ""
    assert str(Reference.parse("redis", default_tag="")) == "docker.io/library/redis"


def test_parts() -> None:
    read = Reference.parse("tare.local/debian:12")
    assert (read.is_virtual, read.name, str(read.with_tag("13"))) == (True, "tare.local/debian", "tare.local/debian:13")
    assert not Reference.parse("debian").is_virtual
    assert Reference.parse(f"a@{DIGEST}").with_tag("x").digest is None
