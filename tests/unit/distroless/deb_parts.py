"""Makes small .deb files for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from pathlib import Path

import zstandard


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def member(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, target, mode, 1000
    return info, data


def compress(data: bytes, suffix: str) -> bytes:
    match suffix:
        case ".xz":
            return lzma.compress(data)
        case ".gz":
            return gzip.compress(data, mtime=0)
        case ".zst":
            return zstandard.compress(data)
    return data


def ar(*members: tuple[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members:
        out += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode(), 2000, 0, 0, b"100644", len(data))
        out += data + b"\n" * (len(data) % 2)
    return out


def deb(control: str, *data: tuple[tarfile.TarInfo, bytes], suffix: str = ".xz", extra: dict[str, str] | None = None):
    files = [member("./control", control.encode())]
    files += [member(f"./{name}", text.encode()) for name, text in (extra or {}).items()]
    return ar(
        ("debian-binary", b"2.0\n"),
        (f"control.tar{suffix}", compress(tar(*files), suffix)),
        (f"data.tar{suffix}", compress(tar(*data), suffix)),
    )


def control(name: str, version: str = "1", **fields: str) -> str:
    lines = {"Package": name, "Version": version, "Architecture": "all", **fields}
    return "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in lines.items())


def packages_stanza(path: Path, root: Path, text: str) -> str:
    data = path.read_bytes()
    return (
        f"{text}Filename: {path.relative_to(root)}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    )
