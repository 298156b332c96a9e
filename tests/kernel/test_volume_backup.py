"""Backups: what is written comes back; what is damaged does not."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_volume_copying import described, furnish

from tare.archive.compression import Compression
from tare.errors import DataCorrupt
from tare.volumes.backup import DATA, MANIFEST, Header, read_backup, write_backup, write_manifest

pytestmark = pytest.mark.root


async def made(tmp_path: Path, compression: Compression = Compression.NONE) -> tuple[Path, bytes]:
    content = tmp_path / "source" / DATA
    content.mkdir(parents=True)
    furnish(content)
    write_manifest(content, tmp_path / MANIFEST, Header("data", {"a": "b"}))
    return content, b"".join([part async for part in write_backup(content, tmp_path / MANIFEST, compression)])


def target(tmp_path: Path) -> Path:
    directory = tmp_path / "target"
    (directory / DATA).mkdir(parents=True)
    return directory


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
async def test_everything_comes_back(tmp_path: Path, compression: Compression) -> None:
    content, backup = await made(tmp_path, compression)
    directory = target(tmp_path)
    assert read_backup(io.BytesIO(backup), directory) == Header("data", {"a": "b"})
    assert described(directory / DATA) == described(content)
    assert (directory / DATA / "holes").stat().st_blocks * 512 < 1 << 20
    assert os.listdir(directory) == [DATA]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
async def test_a_truncated_backup(tmp_path: Path, compression: Compression, part: float) -> None:
    _, backup = await made(tmp_path, compression)
    backup = backup.rstrip(b"\0")  # without the padding at a tar's end everything is still there
    with pytest.raises(DataCorrupt):
        read_backup(io.BytesIO(backup[: int(len(backup) * part)]), target(tmp_path))


async def test_a_changed_byte_of_a_file(tmp_path: Path) -> None:
    _, backup = await made(tmp_path)
    position = backup.index(b"text\0")
    damaged = backup[:position] + b"T" + backup[position + 1 :]
    with pytest.raises(DataCorrupt, match=r"/deep/file has sha256 '[0-9a-f]+' instead of") as error:
        read_backup(io.BytesIO(damaged), target(tmp_path))
    assert error.value.code == "backup-corrupt"


async def test_a_changed_manifest(tmp_path: Path) -> None:
    _, backup = await made(tmp_path)
    position = backup.index(b'"uid": 1000')
    damaged = backup[:position] + b'"uid": 1001' + backup[position + 11 :]
    with pytest.raises(DataCorrupt, match=r"has uid 1000 instead of 1001|manifest\.jsonl was changed"):
        read_backup(io.BytesIO(damaged), target(tmp_path))


def archive(write: Callable[[tarfile.TarFile], None]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        write(tar)
    return io.BytesIO(buffer.getvalue())


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


HEAD = json.dumps({"format": "tare-volume-backup", "version": 1, "volume": "v", "labels": {}}).encode() + b"\n"
NEWER = json.dumps({"format": "tare-volume-backup", "version": 2}).encode() + b"\n"
CASES: dict[str, tuple[Callable[[tarfile.TarFile], None], str]] = {
    "no manifest": (lambda tar: add(tar, "data/file", b"x"), f"it has no {MANIFEST}"),
    "something beside": (
        lambda tar: (add(tar, MANIFEST, HEAD), add(tar, "other", b"x"))[0],
        "it has other beside data",
    ),
    "no end": (lambda tar: add(tar, MANIFEST, HEAD), "is missing|ends early|not in its"),
    "no JSON": (lambda tar: add(tar, MANIFEST, b"{"), "line 1 of its manifest.jsonl is damaged"),
    "another format": (lambda tar: add(tar, MANIFEST, b'{"a": 1}\n'), "has another format"),
    "a newer version": (lambda tar: add(tar, MANIFEST, NEWER), "its version is 2, this Tare knows 1"),
    "a manifest that is a link": (
        lambda tar: add(tar, MANIFEST, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        f"it has no {MANIFEST}",
    ),
    "a file behind a link": (
        lambda tar: (
            add(tar, "data/out", type=tarfile.SYMTYPE, linkname="/tmp"),
            add(tar, "data/out/tare-escaped", b"x"),
        )[0],
        "Not a directory",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_backup(tmp_path: Path, name: str) -> None:
    write, text = CASES[name]
    with pytest.raises(DataCorrupt, match=text):
        read_backup(archive(write), target(tmp_path))
    assert not Path("/tmp/tare-escaped").exists()


def test_rubbish(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match="the backup is damaged or none"):
        read_backup(io.BytesIO(os.urandom(100_000)), target(tmp_path))
