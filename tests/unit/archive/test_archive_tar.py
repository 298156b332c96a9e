"""Writing and parsing tars, on good input and on attacks."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.archive.entry import Entry, Kind
from tare.archive.tar_stream import Limits, iter_entries
from tare.archive.tar_writer import TarWriter
from tare.errors import DataCorrupt, InternalError


def write(*members: tuple[Entry, bytes | None]) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for entry, data in members:
        writer.add(entry, io.BytesIO(data) if data is not None else None)
    writer.finish()
    return sink.getvalue()


def file(path: str, data: bytes = b"", **fields: object) -> tuple[Entry, bytes]:
    return Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(data), **fields), data  # type: ignore[arg-type]


def read(data: bytes, **limits: int) -> list[tuple[Entry, bytes | None]]:
    found = iter_entries(io.BytesIO(data), limits=Limits(**limits))
    return [(entry, content.read() if content is not None else None) for entry, content in found]


def foreign(*members: tarfile.TarInfo, layout: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=layout) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return sink.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size
    return member


EVERY_KIND = (
    (Entry(path="", kind=Kind.DIRECTORY, mode=0o755), None),
    (Entry(path="dir", kind=Kind.DIRECTORY, mode=0o1777, mtime=1_700_000_000), None),
    file("dir/file", b"content", uid=1000, gid=100),
    file("dir/empty"),
    (Entry(path="dir/link", kind=Kind.SYMLINK, mode=0o777, target="../else/where"), None),
    (Entry(path="dir/hard", kind=Kind.HARDLINK, mode=0o644, target="dir/file"), None),
    (Entry(path="null", kind=Kind.CHARACTER, mode=0o666, major=1, minor=3), None),
    (Entry(path="disk", kind=Kind.BLOCK, mode=0o660, major=8, minor=17), None),
    (Entry(path="pipe", kind=Kind.FIFO, mode=0o600), None),
    file("caps", b"x", xattrs={"security.capability": b"\x01\x00\x00\x02\n=\xff", "user.a": b""}),
    file("ümläut/日本", b"u"),
    file("raw-\udcff", b"not utf-8"),
    file("/".join(["x" * 50] * 5), b"prefix"),
    file("y" * 255, b"long component"),
    file("z/" + "deep/" * 300 + "f", b"very long"),
    (Entry(path="far", kind=Kind.SYMLINK, mode=0o777, target="t" * 1000), None),
    file("owner", b"", uid=3_000_000_000, gid=2_097_152),
    file("old", b"", mtime=-5),
)


def test_every_kind_comes_back_as_it_was_written() -> None:
    assert read(write(*EVERY_KIND)) == [
        (entry, data if entry.kind is Kind.FILE else None) for entry, data in EVERY_KIND
    ]


def test_the_standard_library_reads_the_same() -> None:
    with tarfile.open(fileobj=io.BytesIO(write(*EVERY_KIND)), errors="surrogateescape") as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        content = archive.extractfile("dir/file")
        assert content is not None and content.read() == b"content"
    assert names == ["." if not entry.path else entry.path for entry, _ in EVERY_KIND]
    by_name = {member.name: member for member in members}
    assert by_name["owner"].uid == 3_000_000_000
    assert by_name["caps"].pax_headers["SCHILY.xattr.security.capability"].encode(errors="surrogateescape") == (
        b"\x01\x00\x00\x02\n=\xff"
    )
    assert by_name["null"].devminor == 3


def test_equal_entries_give_equal_bytes_in_whole_records() -> None:
    assert write(*EVERY_KIND) == write(*EVERY_KIND)
    assert len(write(*EVERY_KIND)) % 10240 == 0
    assert write() == bytes(10240)


def test_order_of_attributes_does_not_matter() -> None:
    one = write(file("f", b"", xattrs={"user.a": b"1", "user.b": b"2"}))
    assert one == write(file("f", b"", xattrs={"user.b": b"2", "user.a": b"1"}))


@pytest.mark.parametrize("data", [b"123", b"12345"])
def test_content_of_another_length_than_announced_is_refused(data: bytes) -> None:
    entry = Entry(path="f", kind=Kind.FILE, mode=0o644, size=4)
    with pytest.raises(DataCorrupt, match=r"^f: "):
        write((entry, data))


def test_announced_content_must_be_given() -> None:
    with pytest.raises(InternalError, match="no content"):
        write((Entry(path="f", kind=Kind.FILE, mode=0o644, size=4), None))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_foreign_formats_are_read(layout: int) -> None:
    long = "d/" + "n" * 99
    found = read(
        foreign(info("./a/b/"[:-1], size=700), info(long), info("s", tarfile.SYMTYPE, "t" * 90), layout=layout)
    )
    assert [(entry.path, entry.size) for entry, _ in found] == [("a/b", 700), (long, 0), ("s", 0)]


def test_gnu_long_names_and_links_are_read() -> None:
    path = "/".join(["p" * 90] * 5)
    found = read(foreign(info(path), info("l", tarfile.SYMTYPE, "t" * 300), layout=tarfile.GNU_FORMAT))
    assert [(entry.path, entry.target) for entry, _ in found] == [(path, ""), ("l", "t" * 300)]


def test_unread_content_is_skipped() -> None:
    data = write(file("a", b"a" * 3000), file("b", b"b"))
    assert [entry.path for entry, _ in iter_entries(io.BytesIO(data))] == ["a", "b"]


@pytest.mark.parametrize("name", ["/../etc/passwd", "../x", "a/../../x", "a/../..", ".."])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_paths_that_lead_outside_are_refused(name: str, kind: bytes) -> None:
    with pytest.raises(DataCorrupt, match=name.replace(".", r"\.")):
        read(foreign(info(name, kind, "t")))


@pytest.mark.parametrize("target", ["/../etc/shadow", "../../etc/shadow"])
def test_hard_links_that_lead_outside_are_refused(target: str) -> None:
    with pytest.raises(DataCorrupt, match="link target of 'evil'"):
        read(foreign(info("evil", tarfile.LNKTYPE, target)))


@pytest.mark.parametrize("name", ["n" * 100_000, "a/" * 50_000 + "a", "n" * 256])
def test_names_beyond_the_kernels_limits_are_refused(name: str) -> None:
    with pytest.raises(DataCorrupt, match="too long"):
        read(foreign(info(name)))


def test_paths_that_stay_inside_are_cleaned_as_docker_does() -> None:
    found = read(foreign(info("/etc/passwd"), info("a/./../b//c"), info("h", tarfile.LNKTYPE, "/b/x/../c")))
    assert [(entry.path, entry.target) for entry, _ in found] == [("etc/passwd", ""), ("b/c", ""), ("h", "b/c")]
    for name in ("/etc/passwd", "a/../b"):
        with pytest.raises(DataCorrupt, match=r"absolute path|leads outside"):
            list(iter_entries(io.BytesIO(foreign(info(name))), allow_absolute=False))


def patched(position: int, value: bytes, data: bytes | None = None) -> bytes:
    raw = bytearray(data if data is not None else write(file("victim", b"12345")))
    raw[position : position + len(value)] = value
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(DataCorrupt, match="'victim' has the negative size -1"):
        read(patched(124, b"\xff" * 12))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (patched(124, b"9" * 11 + b"\0"), "octal"),
        (patched(156, b"V"), "unsupported type"),
        (patched(156, b"S"), "sparse file"),
        (patched(108, b"\xff" * 8), "invalid owner"),
        (write(file("v", b"1" * 1000))[:700], "ends within"),
        (write(file("v"))[:100], "ends within"),
        (b"\1" * 512, "checksum|octal"),
        (patched(156, b"x"), "damaged pax header"),
        (patched(156, b"L"), "ends within|unsupported|after an extended"),
        (patched(124, b"77777777777\0", patched(156, b"x")), "extended header of"),
    ],
)
def test_damage_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(DataCorrupt, match=reason):
        read(data if reason != "ends within|unsupported|after an extended" else data[:1024])


def test_the_last_padding_may_be_missing() -> None:
    """Docker's command line writes such archives when the Dockerfile comes from standard input."""
    data = write(file("a", b"1"), file("b", b"22"))
    bare = data[: 512 + 512 + 512 + 2]
    assert [(entry.path, content) for entry, content in read(bare)] == [("a", b"1"), ("b", b"22")]
    for cut in (bare[:-1], data[: len(bare) + 5]):
        with pytest.raises(DataCorrupt, match="ends within 'b'"):
            read(cut)


def test_what_leads_outside_and_what_is_too_much_have_codes() -> None:
    for data, code in (
        (foreign(info("/../x")), "tar-outside"),
        (foreign(info("a/../../x")), "tar-outside"),
        (write(file("a"), file("b")), "tar-members"),
    ):
        with pytest.raises(DataCorrupt) as caught:
            read(data, members=1)
        assert caught.value.code == code


def test_limits_on_members_and_bytes() -> None:
    data = write(*(file(f"f{number}", b"x" * 100) for number in range(10)))
    with pytest.raises(DataCorrupt, match="more than 9 members"):
        read(data, members=9)
    with pytest.raises(DataCorrupt, match="more than 999 bytes"):
        read(data, total=999)


@given(st.binary(max_size=2000))
def test_any_bytes_give_entries_or_data_corrupt(data: bytes) -> None:
    try:
        read(data)
    except DataCorrupt:
        pass


@given(st.integers(0, 1535), st.binary(min_size=1, max_size=20))
def test_any_damage_to_a_real_archive_gives_entries_or_data_corrupt(position: int, value: bytes) -> None:
    data = bytearray(write(file("caps", b"x", xattrs={"user.a": b"1"})))
    data[position : position + len(value)] = value
    try:
        read(bytes(data))
    except DataCorrupt:
        pass


@pytest.mark.parametrize("size", [0, 1, 512, 70_000])
def test_a_descriptors_content_makes_the_same_archive(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    entry = Entry(path="f", kind=Kind.FILE, mode=0o644, size=size)
    by_stream, by_descriptor = io.BytesIO(), io.BytesIO()
    first, second = TarWriter(by_stream), TarWriter(by_descriptor)
    first.add(entry, io.BytesIO(b"x" * size))
    with (tmp_path / "f").open("rb") as file:
        second.add_file(entry, file.fileno())
    first.finish()
    second.finish()
    assert by_stream.getvalue() == by_descriptor.getvalue()


@pytest.mark.parametrize(("announced", "words"), [(5, "ends 2 bytes early"), (2, "longer than 2 bytes")])
def test_a_file_of_another_size_than_announced_is_refused(tmp_path: Path, announced: int, words: str) -> None:
    (tmp_path / "f").write_bytes(b"xyz")
    entry = Entry(path="f", kind=Kind.FILE, mode=0o644, size=announced)
    with (tmp_path / "f").open("rb") as file, pytest.raises(DataCorrupt, match=words):
        TarWriter(io.BytesIO()).add_file(entry, file.fileno())
