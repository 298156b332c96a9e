from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tare.cli import copy_paths, usage
from tare.cli.copy_paths import Place
from tare.cli.copy_tar import pack, unpack
from tare.errors import DataCorrupt, InvalidArgument, NotFound


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("c:/x", ("c", "/x")),
        ("c:x:y", ("c", "x:y")),
        ("./c:x", ("", "./c:x")),
        ("/c:x", ("", "/c:x")),
        ("x", ("", "x")),
        ("-", ("", "-")),
        ("c:", ("c", "")),
    ],
)
def test_arguments(text: str, parts: tuple[str, str]) -> None:
    assert copy_paths.split_argument(text) == parts


DIRECTORY, FILE = Place(path="/s", is_directory=True), Place(path="/s")


@pytest.mark.parametrize(
    ("source", "destination", "target"),
    [
        (FILE, Place(path="/d", is_directory=True), ("/d", "")),
        (DIRECTORY, Place(path="/d/", is_directory=True), ("/d/", "")),
        (FILE, Place(path="/a/d"), ("/a", "d")),
        (FILE, Place(path="/a/d", exists=False), ("/a", "d")),
        (DIRECTORY, Place(path="/a/d", exists=False), ("/a", "d")),
        (DIRECTORY, Place(path="/a/d/", exists=False), ("/a", "d")),
    ],
)
def test_where_a_copy_goes(source: Place, destination: Place, target: tuple[str, str]) -> None:
    assert copy_paths.target_of(source, destination) == target


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        (DIRECTORY, Place(path="/d"), "cannot copy directory"),
        (FILE, Place(path="/d/", exists=False), "no such directory"),
        (FILE, Place(path="/d/.", exists=False), "no such directory"),
    ],
)
def test_where_a_copy_cannot_go(source: Place, destination: Place, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        copy_paths.target_of(source, destination)


def test_local_sources(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    plain = copy_paths.local_source(f"{tmp_path}/l", follow=False)
    assert (plain.path, plain.is_directory, plain.rename) == (f"{tmp_path}/l", False, "")
    followed = copy_paths.local_source(f"{tmp_path}/l", follow=True)
    assert (followed.path, followed.is_directory, followed.rename) == (f"{tmp_path}/d", True, "l")
    with pytest.raises(NotFound, match="no such file or directory"):
        copy_paths.local_source(f"{tmp_path}/nope", follow=False)
    with pytest.raises(NotFound, match="invalid output path"):
        copy_paths.check_output(f"{tmp_path}/nope/x")
    with pytest.raises(InvalidArgument, match="got a device"):
        copy_paths.check_output("/dev/null")


def archive(*members: tuple[str, bytes | str | None]) -> io.BytesIO:
    """A tar: bytes are a file, text a symbolic link's target, None a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    buffer.seek(0)
    return buffer


def test_what_is_packed_can_be_unpacked_under_another_name(tmp_path: Path) -> None:
    source = tmp_path / "s"
    (source / "e").mkdir(parents=True)
    (source / "f").write_text("x")
    (source / "f").chmod(0o4755)
    os.link(source / "f", source / "h")
    (source / "l").symlink_to("nowhere")
    os.mkfifo(source / "p")
    buffer = io.BytesIO()
    pack(str(source), "s", buffer)
    buffer.seek(0)
    unpack(buffer, str(tmp_path), lambda name: "new" + name.removeprefix("s"))
    new = tmp_path / "new"
    assert sorted(path.name for path in new.iterdir()) == ["e", "f", "h", "l", "p"]
    assert (new / "f").stat().st_mode & 0o7777 == 0o4755
    assert (new / "l").readlink() == Path("nowhere")
    assert new.joinpath("p").is_fifo()


def test_owners_and_attributes_are_kept_on_request(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    (source / "f").write_text("x")
    for path in (source, source / "f"):
        os.setxattr(path, "user.kind", b"\xff\n=\x00")
    (source / "f").chmod(0o4755)
    for keep in (False, True):
        buffer = io.BytesIO()
        pack(str(source), "s", buffer, attributes=True)
        buffer.seek(0)
        unpack(buffer, str(tmp_path), lambda name, keep=keep: f"{keep}" + name.removeprefix("s"), keep=keep)  # type: ignore[misc]
        for path in (tmp_path / f"{keep}", tmp_path / f"{keep}/f"):
            assert os.listxattr(path) == (["user.kind"] if keep else [])
        assert (tmp_path / f"{keep}/f").stat().st_mode & 0o7777 == 0o4755
    assert os.getxattr(tmp_path / "True/f", "user.kind") == b"\xff\n=\x00"


@pytest.mark.parametrize(
    "members",
    [
        (("x", "/etc"), ("x/file", b"1")),
        (("x", "../outside"), ("x/file", b"1")),
        (("../outside/file", b"1"),),
    ],
)
def test_no_member_leads_outside(tmp_path: Path, members: tuple[tuple[str, bytes | str | None], ...]) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "top").mkdir()
    with pytest.raises((OSError, DataCorrupt)):
        unpack(archive(*members), str(tmp_path / "top"), lambda name: name)
    assert list((tmp_path / "outside").iterdir()) == []
    assert not Path("/etc/file").exists()


def test_kinds_are_kept(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    with pytest.raises(InvalidArgument, match='cannot overwrite directory "d" with non-directory "d"'):
        unpack(archive(("d", b"1")), str(tmp_path), lambda name: name)
    with pytest.raises(InvalidArgument, match="cannot overwrite non-directory"):
        unpack(archive(("f", None)), str(tmp_path), lambda name: name)
    with pytest.raises(DataCorrupt, match="not a tar archive"):
        unpack(io.BytesIO(b"x" * 2000), str(tmp_path), lambda name: name)


def test_shares_of_what_is_used() -> None:
    now = {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2}
    before = {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000}
    assert usage.cpu_percent({"cpu_stats": now, "precpu_stats": before}) == pytest.approx(40.0)
    assert usage.cpu_percent({"cpu_stats": now, "precpu_stats": now}) == 0
    assert usage.memory_use({"usage": 100, "limit": 200, "stats": {"total_inactive_file": 40}}) == (60, 200)
    assert usage.memory_use({"usage": 100, "limit": 200, "stats": {"inactive_file": 140}}) == (100, 200)
    entries = [{"op": "Read", "value": 1}, {"op": "write", "value": 2}, {"op": "Sync", "value": 4}]
    assert usage.disk_use({"blkio_stats": {"io_service_bytes_recursive": entries}}) == (1, 2)
