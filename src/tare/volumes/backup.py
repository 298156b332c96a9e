"""Backups of volumes: a tar with ``manifest.jsonl``, which has the hash of every file, and the content below ``data``.

GNU tar writes and reads it, as it knows holes, extended attributes, ACLs and nanoseconds; the manifest is checked
against what was unpacked, member by member, before anybody sees it. The manifest's lines are JSON: a header, one line
per member (sorted), and the end with the number of members and the hash of all lines before it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tare.archive.compression import Compression, compressor, decompress
from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt, Exhausted, InternalError
from tare.kernel.filesystem import sync_filesystem

MANIFEST, DATA = "manifest.jsonl", "data"
_FORMAT, _VERSION = "tare-volume-backup", 1
_COMMON = ("--file=-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")
_CREATE = (
    "tar",
    "--create",
    "--format=pax",
    "--sparse",
    "--sort=name",
    "--pax-option=delete=atime,delete=ctime",
    *_COMMON,
)
_EXTRACT = ("tar", "--extract", "--same-owner", "--preserve-permissions", "--delay-directory-restore", *_COMMON)
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_FULL = "No space left on device"
_LINE_LIMIT = 1 << 24
_DROPPED_XATTRS = "trusted.overlay."

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a manifest: which volume it was, with its labels."""

    volume: str
    labels: Mapping[str, str]


def write_manifest(content: Path, path: Path, header: Header, check: Callable[[], None] = lambda: None) -> None:
    """Hash everything below ``content`` and write the manifest. Blocks; raises OSError, and what ``check`` raises."""
    first = {"format": _FORMAT, "version": _VERSION, "volume": header.volume, "labels": dict(header.labels)}
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as out:
        for entry in itertools.chain([first], _entries(content)):
            check()
            line = _line(entry)
            digest.update(line)
            out.write(line)
            count += 1
        out.write(_line({"end": count - 1, "sha256": digest.hexdigest()}))


async def write_backup(content: Path, manifest: Path, compression: Compression) -> AsyncIterator[bytes]:
    """The backup as it is written; ``content`` must be a directory called ``data``. Raises InternalError."""
    argv = (*_CREATE, "-C", os.fspath(manifest.parent), MANIFEST, "-C", os.fspath(content.parent), DATA)
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=_ENVIRONMENT
        )
        assert process.stdout is not None
        try:
            sink = io.BytesIO()
            with compressor(sink, compression) as stream:
                while chunk := await process.stdout.read(CHUNK):
                    await asyncio.to_thread(stream.write, chunk)
                    if data := _take(sink):
                        yield data
            if data := _take(sink):
                yield data
            if await process.wait():
                raise InternalError(
                    f"{content}: tar cannot write the backup: {await asyncio.to_thread(_last_line, said)}"
                )
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def read_backup(stream: Readable, directory: Path, check: Callable[[], None] = lambda: None) -> Header:
    """Unpack a backup into ``directory``, which has an empty ``data``, and verify it; the manifest does not stay.

    Compression is recognised. Blocks. Raises DataCorrupt naming what is wrong, Exhausted when the disk is full.
    """
    plain = decompress(stream)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            (*_EXTRACT, "-C", os.fspath(directory)),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, env=_ENVIRONMENT,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            _feed(plain, cast(BinaryIO, process.stdin), check)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with contextlib.suppress(BrokenPipeError):  # what is left in its buffer
                process.stdin.close()
        if code:
            _fail(directory, _last_line(said))
    strange = sorted({path.name for path in directory.iterdir()} - {MANIFEST, DATA})
    if strange:
        raise _corrupt(f"it has {strange[0]} beside {DATA}")
    header = _verify(directory, check)
    (directory / MANIFEST).unlink()
    sync_filesystem(os.fspath(directory))
    return header


def _feed(source: Readable, sink: BinaryIO, check: Callable[[], None]) -> None:
    open_still = True
    while chunk := source.read(CHUNK):
        check()
        if open_still:
            try:
                sink.write(chunk)
            except BrokenPipeError:
                open_still = False  # tar has seen the end, or has failed; the rest still shows whether it is whole
    with contextlib.suppress(BrokenPipeError):
        sink.close()


def _fail(directory: Path, said: str) -> None:
    if _FULL in said or os.strerror(errno.EDQUOT) in said:
        raise Exhausted(f"{directory}: {_FULL}", hint="free space there", code="no-space")
    raise _corrupt(said)


def _verify(directory: Path, check: Callable[[], None]) -> Header:
    path = directory / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise _corrupt(f"it has no {MANIFEST}", hint="a plain tar is unpacked with `tare volume cp - VOLUME:/`")
    lines = _manifest_lines(path)
    first = next(lines, {})
    labels = first.get("labels", {})
    if first.get("format") != _FORMAT or not isinstance(labels, dict):
        raise _corrupt(f"its {MANIFEST} has another format")
    if first.get("version") != _VERSION:
        raise _corrupt(f"its version is {first.get('version')}, this Tare knows {_VERSION}")
    for wanted, found in itertools.zip_longest(lines, _entries(directory / DATA)):
        check()
        if wanted != found:
            _differ(wanted, found)
    return Header(str(first.get("volume", "")), {str(key): str(value) for key, value in labels.items()})


def _manifest_lines(path: Path) -> Iterator[Entry]:
    """All lines but the last, which is checked."""
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while line := stream.readline(_LINE_LIMIT):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise _corrupt(f"line {count + 1} of its {MANIFEST} is damaged") from error
            if not isinstance(entry, dict):
                raise _corrupt(f"line {count + 1} of its {MANIFEST} is damaged")
            if "end" in entry:
                if entry != {"end": count - 1, "sha256": digest.hexdigest()}:
                    raise _corrupt(f"its {MANIFEST} was changed")
                return
            digest.update(line)
            count += 1
            yield entry
    raise _corrupt(f"its {MANIFEST} ends early")


def _differ(wanted: Entry | None, found: Entry | None) -> None:
    if wanted is None or (found is not None and _order(found) < _order(wanted)):
        assert found is not None
        raise _corrupt(f"/{found['path']} is in it, but not in its {MANIFEST}")
    if found is None or _order(wanted) < _order(found):
        raise _corrupt(f"/{wanted.get('path')} is missing")
    wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    shown = ", ".join(f"{key} {found.get(key)!r} instead of {wanted.get(key)!r}" for key in wrong)
    raise _corrupt(f"/{found['path']} has {shown}")


def _order(entry: Entry) -> bytes:
    return os.fsencode(str(entry.get("path", ""))).replace(b"/", b"\0")


def _corrupt(what: str, *, hint: str = "nothing was changed; take another backup") -> DataCorrupt:
    return DataCorrupt(f"the backup is damaged or none: {what}", hint=hint, code="backup-corrupt")


def _entries(root: Path) -> Iterator[Entry]:
    """Every member, sorted, the root first; sockets are left out."""
    first_names: dict[tuple[int, int], str] = {}
    pending = [("", os.fspath(root))]
    while pending:
        relative, host = pending.pop()
        status = os.lstat(host)
        if stat.S_ISSOCK(status.st_mode):
            continue
        yield _entry(relative, host, status, first_names)
        if stat.S_ISDIR(status.st_mode):
            names = sorted(os.listdir(host), key=os.fsencode, reverse=True)  # noqa: PTH208 - many short strings
            pending.extend((f"{relative}/{name}" if relative else name, f"{host}/{name}") for name in names)


def _entry(relative: str, host: str, status: os.stat_result, first_names: dict[tuple[int, int], str]) -> Entry:
    entry: Entry = {"path": relative, "mode": f"{status.st_mode:o}", "uid": status.st_uid, "gid": status.st_gid}
    if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
        first = first_names.setdefault((status.st_dev, status.st_ino), relative)
        if first != relative:
            return {**entry, "link": first}
    entry["mtime"] = status.st_mtime_ns
    if stat.S_ISREG(status.st_mode):
        entry |= {"size": status.st_size, "sha256": _hash(host)}
    elif stat.S_ISLNK(status.st_mode):
        entry["target"] = os.readlink(host)  # noqa: PTH115 - the text as it is
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if xattrs := _xattrs(host):
        entry["xattrs"] = xattrs
    return entry


def _xattrs(host: str) -> dict[str, str]:
    try:
        names = os.listxattr(host, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    kept = sorted(name for name in names if not name.startswith(_DROPPED_XATTRS))
    return {name: base64.b64encode(os.getxattr(host, name, follow_symlinks=False)).decode() for name in kept}


def _hash(path: str) -> str:
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True).encode() + b"\n"  # ASCII: names that are no UTF-8 survive as surrogates


def _last_line(said: Any) -> str:
    said.seek(0)
    lines = [line for line in said.read().decode(errors="replace").splitlines() if "Exiting with failure" not in line]
    return lines[0].removeprefix("tar: ") if lines else "tar failed without a word"


def _take(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data
