"""``volume cp``: files in and out of volumes, whoever has them."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import tarfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

import tare
from engine_process import EngineProcess, add_file
from file_events import IN_CREATE, watching
from tare import Client
from tare.errors import NotFound

pytestmark = [pytest.mark.root, pytest.mark.e2e]

ONE, TWO = "files-one", "files-two"
MIB = 1 << 20
ACL = "system.posix_acl_access"
USER_1000_MAY_READ = struct.pack(  # acl(5) as the kernel stores it: version, then tag, permissions and id of each entry
    "<I" + "HHI" * 5, 2, 1, 7, 2**32 - 1, 2, 4, 1000, 4, 5, 2**32 - 1, 16, 5, 2**32 - 1, 32, 5, 2**32 - 1
)  # fmt: skip


@pytest.fixture
def one(host: EngineProcess) -> Iterator[str]:
    """The volume ``files-one``; it and ``files-two`` go after the test."""
    host.docker("volume", "create", ONE)
    yield ONE
    host.remove_containers()
    if names := host.text("volume", "ls", "-q", "-f", "name=^files-").split():
        for name in names:
            host.tare("volume", "snapshot", "rm", "--all", name)
        host.docker("volume", "rm", *names)


@pytest.fixture
def two(host: EngineProcess, one: str) -> str:
    host.docker("volume", "create", TWO)
    return TWO


def place(host: EngineProcess, volume: str) -> Path:
    return Path(host.text("volume", "inspect", "-f", "{{.Mountpoint}}", volume))


def refused(host: EngineProcess, *arguments: str, stdin: bytes | None = None) -> str:
    done = host.tare("volume", "cp", *arguments, check=False, stdin=stdin)
    assert done.returncode == 1, done
    return done.stderr.decode().strip()


def make_tree(top: Path) -> Path:
    """Files of all kinds that belong to 1234:2345, one of them with an attribute and two names, one mostly hole."""
    (top / "d").mkdir(parents=True)
    (top / "f").write_text("text")
    (top / "f").chmod(0o640)
    os.setxattr(top / "f", "user.kind", b"\xff\x00binary")
    os.setxattr(top / "d", ACL, USER_1000_MAY_READ)
    os.link(top / "f", top / "d/again")
    (top / "l").symlink_to("f")
    os.mkfifo(top / "p")
    with (top / "sparse").open("wb") as sparse:
        sparse.seek(32 * MIB)
        sparse.write(b"end")
    os.utime(top / "f", (1_000_000_000, 1_000_000_000))
    for path in (top, *top.rglob("*")):
        os.chown(path, 1234, 2345, follow_symlinks=False)
    return top


def check_tree(top: Path, *, owner: tuple[int, int], attributes: bool) -> None:
    """What :func:`make_tree` made, with the owner and the attributes that this way of copying keeps."""
    names = sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))
    assert names == ["d", "d/again", "f", "l", "p", "sparse"]
    for path in (top, *top.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == owner, path
    status = (top / "f").stat()
    assert (status.st_mode & 0o7777, status.st_mtime, (top / "f").read_text()) == (0o640, 1_000_000_000, "text")
    assert (top / "d/again").samefile(top / "f") and (top / "l").readlink() == Path("f") and (top / "p").is_fifo()
    assert os.listxattr(top / "f") == (["user.kind"] if attributes else [])
    if attributes:
        assert os.getxattr(top / "f", "user.kind") == b"\xff\x00binary"
        assert os.getxattr(top / "d", ACL) == USER_1000_MAY_READ
    with (top / "sparse").open("rb") as sparse:
        assert sparse.read(32 * MIB).count(0) == 32 * MIB and sparse.read() == b"end"


def test_a_tree_goes_in_across_and_out(host: EngineProcess, two: str, tmp_path: Path) -> None:
    tree, caller, owner = make_tree(tmp_path / "tree"), (os.geteuid(), os.getegid()), (1234, 2345)
    host.tare("volume", "cp", str(tree), f"{ONE}:/")
    check_tree(place(host, ONE) / "tree", owner=owner, attributes=False)  # as Docker's cp into a container
    host.tare("volume", "cp", "-a", str(tree), f"{ONE}:kept")
    check_tree(place(host, ONE) / "kept", owner=owner, attributes=True)
    assert (place(host, ONE) / "kept/sparse").stat().st_blocks * 512 < MIB
    host.tare("volume", "cp", f"{ONE}:/kept", f"{two}:/across")
    check_tree(place(host, two) / "across", owner=owner, attributes=True)
    assert (place(host, two) / "across/sparse").stat().st_blocks * 512 < MIB
    host.tare("volume", "cp", f"{two}:/across", str(tmp_path / "plain"))
    check_tree(tmp_path / "plain", owner=caller, attributes=False)
    host.tare("volume", "cp", "-a", f"{two}:across", str(tmp_path / "archived"))
    check_tree(tmp_path / "archived", owner=owner, attributes=True)


def test_places_are_those_of_cp(host: EngineProcess, one: str, tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/f").write_text("1")
    host.docker("run", "-d", "--name", "cc", "-v", f"{one}:/v", "busybox", "sleep", "1000")
    for source, target in [("src", "new"), ("src", ""), ("src/.", "e"), ("src/sub/f", "named"), ("src/sub/f", "e/")]:
        listed = []
        for command, prefix in ((("cp",), "cc:/v/"), (("volume", "cp"), f"{one}:/")):
            host.docker("exec", "cc", "sh", "-c", "rm -rf /v/*; mkdir /v/e")
            host.tare(*command, f"{tmp_path}/{source}", f"{prefix}{target}")
            listed.append(host.text("exec", "cc", "find", "/v"))
        assert listed[0] == listed[1], (source, target)
    host.docker("exec", "cc", "sh", "-c", "rm -rf /v/*; mkdir -p /v/d/s; echo x > /v/d/s/f; ln -s d/s/f /v/l")
    for number, (source, options) in enumerate([("d", ()), ("d/.", ()), ("d/s/f", ()), ("l", ()), ("l", ("-L",))]):
        for name, command, prefix in (("c", ("cp",), "cc:/v/"), ("v", ("volume", "cp"), f"{one}:")):
            host.tare(*command, *options, f"{prefix}{source}", f"{tmp_path}/{name}{number}")
        found = [tmp_path / f"{name}{number}" for name in "cv"]
        assert found[0].is_symlink() == found[1].is_symlink() == (source == "l" and not options)
        if not found[0].is_symlink():
            assert subprocess.run(["diff", "-r", *found], capture_output=True, check=True).stdout == b""


def test_streams(host: EngineProcess, two: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("dir/file")
        member.size, member.uid, member.gid = 4, 7, 8
        archive.addfile(member, io.BytesIO(b"text"))
    host.tare("volume", "cp", "-", f"{ONE}:/", stdin=data.getvalue())
    status = (place(host, ONE) / "dir/file").stat()
    assert (status.st_uid, status.st_gid) == (7, 8)
    out = host.tare("volume", "cp", f"{ONE}:dir", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert [(one.name, one.uid) for one in archive] == [("dir", 0), ("dir/file", 7)]
    host.tare("volume", "cp", "-", f"{two}:/", stdin=out)
    assert (place(host, two) / "dir/file").read_text() == "text"


def test_the_client_library_copies(host: EngineProcess, two: str) -> None:
    (place(host, ONE) / "f").write_text("text")

    async def copy(client: Client) -> None:
        found, answer = await client.volumes.copy_from(ONE, "/f", rename="g")
        assert (found["name"], found["size"], found["mode"]) == ("f", 4, 0o644)
        async with answer:
            await client.volumes.copy_to(two, "/", answer.chunks())
        assert await client.volumes.stat_path(two, "/ghost") is None
        with pytest.raises(NotFound, match="Could not find the file /ghost in volume") as error:
            await client.volumes.copy_from(two, "/ghost")
        assert error.value.code == "no-such-file"

    with tare.connect(host.host) as connection:
        connection.run(copy)
    assert [path.name for path in place(host, two).iterdir()] == ["g"]


def test_no_path_and_no_link_leads_out(host: EngineProcess, one: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    top = place(host, one)
    (top / "absolute").symlink_to(secret)
    (top / "relative").symlink_to(os.path.relpath(secret, top))
    (top / "directory").symlink_to(tmp_path)
    for path in ("absolute", "relative"):
        said = refused(host, "-L", f"{one}:{path}", str(tmp_path / "out"))
        assert said.startswith("Error response from daemon: Could not find the file /"), said
    ways_up = f"../../../../../../../{secret}"
    for path in (ways_up, "directory/secret", f"directory/{ways_up}"):
        assert f"Could not find the file {path} in volume {one}" in refused(
            host, f"{one}:{path}", str(tmp_path / "out")
        )
    assert not (tmp_path / "out").exists()
    (tmp_path / "new").write_text("new")
    assert f"in volume {one}" in refused(host, str(tmp_path / "new"), f"{one}:directory/secret")
    host.tare("volume", "cp", str(tmp_path / "new"), f"{one}:../../above")
    assert (top / "above").read_text() == "new"
    for name in ("../up", "directory/secret"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            add_file(archive, name, b"new")
        assert name in refused(host, "-", f"{one}:/", stdin=data.getvalue())
    assert secret.read_text() == "of the host" and not (top.parent / "up").exists()
    os.makedirs(f"{top}{tmp_path}")
    host.tare("volume", "cp", str(tmp_path / "new"), f"{one}:directory/secret")  # the place inside is there now
    assert (secret.read_text(), Path(f"{top}{secret}").read_text()) == ("of the host", "new")


def test_bad_input(host: EngineProcess, one: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "d").mkdir()
    host.tare("volume", "cp", str(tmp_path / "f"), f"{one}:f")
    file, directory, out = str(tmp_path / "f"), str(tmp_path / "d"), str(tmp_path / "out")
    for arguments, said in (
        (("ghost:/x", out), "Error response from daemon: get ghost: no such volume"),
        ((file, "ghost:/"), "Error response from daemon: get ghost: no such volume"),
        ((f"{one}:/f", "ghost:/"), "Error response from daemon: get ghost: no such volume"),
        (("ghost:/f", f"{one}:/"), "Error response from daemon: get ghost: no such volume"),
        ((f"{one}:/ghost", out), f"Error response from daemon: Could not find the file /ghost in volume {one}"),
        ((f"{one}:/f/below", out), "Error response from daemon: lstat /f/below: not a directory"),
        ((file, f"{one}:/no/such/f"), f"Error response from daemon: Could not find the file /no/such in volume {one}"),
        ((directory, f"{one}:f"), "tare: cannot copy directory (the destination is a file)"),
        (("-", f"{one}:f"), f'tare: destination "{one}:f" must be a directory'),
        ((file, out), "tare: must specify at least one volume (as VOLUME:PATH)"),
        ((f"{tmp_path}/ghost", f"{one}:/"), f"tare: lstat {tmp_path}/ghost: no such file or directory"),
        ((f"{one}:f", f"{tmp_path}/no/such/f"), "tare: invalid output path: "),
        ((f"{one}:f", ""), "tare: destination can not be empty"),
        ((f"{one}:/", f"{one}:/d"), f"tare: source and destination are the same volume {one}"),
    ):
        assert refused(host, *arguments).startswith(said), (arguments, refused(host, *arguments))
    assert "not a directory" in answer(host, "PUT", one, path="/f", body=b"")[1]["message"]
    status, refusal = answer(host, "GET", one, path="/f", rename="a/b")
    assert (status, refusal["message"].startswith("name 'a/b': not the name of a file")) == (400, True)
    assert answer(host, "GET", one)[1]["message"] == "bad parameter: pathcannot be empty"
    assert answer(host, "GET", one, path="/ghost")[1]["code"] == "no-such-file"
    status, refusal = answer(host, "GET", one, path="f\0f")
    assert (status, refusal["message"]) == (500, "lstat /f\0f: invalid argument")
    assert "tar archive has a damaged header" in refused(host, "-", f"{one}:/", stdin=b"x" * 2000)
    assert sorted(os.listdir(place(host, one))) == ["f"] and not Path(out).exists()


def answer(
    host: EngineProcess, method: str, volume: str, body: bytes = b"", **query: str
) -> tuple[int, dict[str, str]]:
    """What the engine answers to a request for files of a volume."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(host.socket))
        path = f"/tare/volumes/{volume}/archive?{urllib.parse.urlencode(query)}"
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as stream:
            top, _, rest = stream.read().partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


def test_a_volume_in_use_and_its_file_systems_end(host: EngineProcess, one: str, tmp_path: Path) -> None:
    host.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=2m", "files-small")
    host.docker("run", "-d", "--name", "user", "-v", "files-small:/v", "busybox", "sleep", "1000")
    host.docker("exec", "user", "sh", "-c", "echo old > /v/old; echo old > /v/big")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(os.urandom(MIB))
    (tmp_path / "d/big").write_bytes(os.urandom(8 * MIB))
    said = refused(host, f"{tmp_path}/d/.", "files-small:/")
    assert said == "Error response from daemon: /big: No space left on device (free some space)"
    assert host.text("exec", "user", "sh", "-c", "cd /v; echo *; cat old") == "a old\nold"  # no half of big
    assert answer(host, "PUT", "files-small", path="/", body=tar_of(tmp_path / "d/big"))[1]["code"] == "disk-full"
    host.tare("volume", "cp", "files-small:a", f"{one}:a")
    assert (place(host, one) / "a").read_bytes() == (tmp_path / "d/a").read_bytes()


def tar_of(path: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(path, path.name)
    return data.getvalue()


def test_a_volume_that_nobody_has_is_mounted_for_the_copy(host: EngineProcess, one: str, tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as disk:
        disk.truncate(16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", tmp_path / "disk"], check=True)
    for name, options in (("files-disk", "loop"), ("files-fixed", "loop,ro")):
        device = f"device={tmp_path}/disk"
        host.docker("volume", "create", "-o", "type=ext4", "-o", f"o={options}", "-o", device, name)
    (tmp_path / "f").write_text("text")
    host.tare("volume", "cp", f"{tmp_path}/f", "files-disk:/")
    host.tare("volume", "cp", "files-disk:f", f"{one}:/")
    assert (place(host, one) / "f").read_text() == "text"
    read_only = refused(host, f"{tmp_path}/f", "files-fixed:/")
    assert read_only.endswith("volume files-fixed is read-only (it was made with the mount option ro)")
    host.tare("volume", "cp", "files-fixed:f", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "text"
    (tmp_path / "disk").unlink()
    assert "error while mounting volume" in refused(host, "files-disk:f", f"{tmp_path}/none")
    assert "/volumes/files-" not in Path("/proc/self/mountinfo").read_text()


def test_a_copy_keeps_its_volume(host: EngineProcess, one: str) -> None:
    top = place(host, one)
    (top / "old").write_text("old")
    host.tare("volume", "snapshot", "create", one, "before")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        add_file(archive, "new", b"2" * 4096)
    body = data.getvalue()
    begin = f"{time.time():.6f}"
    with socket.socket(socket.AF_UNIX) as connection, watching(top, IN_CREATE) as created:
        connection.connect(str(host.socket))
        head = f"PUT /tare/volumes/{one}/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:1024])
        created.wait()  # the engine has begun and waits for the rest
        restored = host.tare("volume", "restore", one, "before", check=False).stderr.decode()
        assert "volume is in use - files are being copied to it (try again when the copy has ended)" in restored
        host.tare("volume", "snapshot", "rm", one, "before")
        removed = host.docker("volume", "rm", "-f", one, check=False).stderr.decode()
        assert "volume is in use - its files are being copied (try again when the copy has ended)" in removed
        connection.sendall(body[1024:])
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert (top / "new").read_bytes() == b"2" * 4096
    told = (
        "events",
        "--since",
        begin,
        "--until",
        f"{time.time():.6f}",
        "--filter",
        f"volume={one}",
        "--format",
        "{{.Action}}",
    )
    assert host.text(*told).splitlines() == ["extract-to-dir"]


def test_a_client_that_leaves_and_an_engine_that_dies(host: EngineProcess, one: str, tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as disk:
        disk.truncate(16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", tmp_path / "disk"], check=True)
    host.docker("volume", "create", "-o", "type=ext4", "-o", "o=loop", "-o", f"device={tmp_path}/disk", "files-disk")
    (tmp_path / "big").write_bytes(os.urandom(8 * MIB))
    host.tare("volume", "cp", f"{tmp_path}/big", "files-disk:/")
    begun = b"GET /tare/volumes/files-disk/archive?path=big HTTP/1.1\r\nHost: x\r\n\r\n"
    for end in ("client", "engine"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(host.socket))
            connection.sendall(begun)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            assert "/volumes/files-disk/" in Path("/proc/self/mountinfo").read_text()
            if end == "engine":
                host.restart()
        host.tare("volume", "cp", "files-disk:big", f"{tmp_path}/back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
    host.docker("volume", "rm", "files-disk")
    assert "/volumes/files-disk/" not in Path("/proc/self/mountinfo").read_text()


def test_long_streams_take_no_memory(host: EngineProcess, two: str, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(300 * MIB)
        big.seek(150 * MIB)
        big.write(os.urandom(8 * MIB))
    before = host.peak_memory
    host.tare("volume", "cp", f"{tmp_path}/big", f"{ONE}:/")
    host.tare("volume", "cp", f"{ONE}:/big", f"{two}:/")
    assert subprocess.run(["cmp", tmp_path / "big", place(host, two) / "big"], check=False).returncode == 0
    assert host.peak_memory - before < 48 << 10
