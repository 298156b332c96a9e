"""Addresses and tars from outside: answered, or refused with an error of Tare's own."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tare.build.named import lookup_name
from tare.build.sources.addresses import parse_git, parse_remote, redact
from tare.build.sources.archive import unpack_context
from tare.build.sources.limits import SourceLimits
from tare.build.sources.oci_layout import LayoutAddress
from tare.errors import TareError

PIECES = st.sampled_from(
    ["https://", "http://", "ssh://", "git://", "git@", "user:pass@", "host", ":80", "/", "repo.git", "#", ":", "?",
     "ref=", "tag=", "&", "=", "-", "--upload-pack=x", "..", "[", "]", "%", "%00", "\n", " ", "é", "github.com/", "\0"]
)  # fmt: skip
ADDRESSES = st.lists(PIECES | st.text(max_size=4), max_size=10).map("".join)


@given(ADDRESSES)
@settings(max_examples=500, deadline=None)
def test_addresses(text: str) -> None:
    assert redact(f"https://user:pass@h/{text}").startswith("https://xxxxx:xxxxx@h/")
    for parse in (parse_git, parse_remote):
        with contextlib.suppress(TareError):
            found = parse(text)
            if found is not None:
                assert not getattr(found, "ref", "").startswith("-")
                assert "://user:pass@" not in found.shown
    with contextlib.suppress(TareError):
        LayoutAddress.parse(text)
    lookup_name(text)


def packed(names: list[str], links: list[str]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, link in zip(names, links, strict=True):
            info = tarfile.TarInfo(name)
            info.uid, info.gid = os.getuid(), os.getgid()
            info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            archive.addfile(info)
    return sink.getvalue()


NAMES = st.lists(st.sampled_from(["a", "b", "..", "c/d", ".", "", "/"]), min_size=1, max_size=4).map("/".join)
LINKS = st.just("") | st.lists(st.sampled_from(["..", "a", "b", "c"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(NAMES, LINKS), max_size=5), st.integers(0, 6000), st.binary(max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_tars_stay_inside(members: list[tuple[str, str]], cut: int, rubbish: bytes) -> None:
    data = packed([name for name, _ in members], [link for _, link in members])
    data = data[:cut] + rubbish + data[cut + len(rubbish) :]
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        (top / "context").mkdir()
        with contextlib.suppress(TareError):
            unpack_context(io.BytesIO(data), top / "context", SourceLimits(), "context")
        assert [item.name for item in top.iterdir()] == ["context"]
