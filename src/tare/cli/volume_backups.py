"""``volume backup``, and the files of backups: a tar, or a directory with its two parts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import click

from tare.cli.session import Session, pass_session
from tare.client.client import Client
from tare.errors import Conflict, Forbidden, InternalError, NotFound

CHUNK = 1 << 18
_MEMBERS = ("manifest.jsonl", "data")
_TAR = ("tar", "--file=-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")


@click.command(short_help="Write what a volume holds to a tar or a directory.")
@click.argument("volume")
@click.argument("destination", default="-", metavar="[FILE|DIRECTORY/|-]")
@click.option("--compress", "compression", type=click.Choice(["gzip", "zstd"]), default=None, help="Compress the tar.")
@click.option("--snapshot", default="", metavar="NAME", help="What it held when this snapshot was taken.")
@pass_session
def backup(session: Session, volume: str, destination: str, compression: str | None, snapshot: str) -> None:
    """Write a backup of VOLUME, with the hash of every file, to a tar, a new directory, or standard output (-).

    `tare volume restore --from` checks it and brings it back.
    """
    if destination == "-":
        if sys.stdout.isatty():
            raise click.UsageError("refusing to write a tar to a terminal: name a file, or redirect standard output")
        session.run(lambda client: _write(client, volume, sys.stdout.buffer, compression or "", snapshot))
    elif destination.endswith("/") or Path(destination).is_dir():
        if compression:
            raise click.UsageError("--compress is for a tar, not for a directory")
        _write_directory(session, volume, Path(destination), snapshot)
    else:
        _write_file(session, volume, Path(destination), compression or "", snapshot)


async def _write(client: Client, volume: str, sink: IO[bytes], compression: str, snapshot: str) -> None:
    async for chunk in client.volumes.backup(volume, compression=compression, snapshot=snapshot):
        sink.write(chunk)
    sink.flush()


def _write_file(session: Session, volume: str, path: Path, compression: str, snapshot: str) -> None:
    """The file is there in full, on disk, or not at all."""
    if not path.parent.is_dir():
        raise NotFound(f"{path.parent}: no such directory", hint="make it first")
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as stream:
            session.run(lambda client: _write(client, volume, stream, compression, snapshot))
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _write_directory(session: Session, volume: str, directory: Path, snapshot: str) -> None:
    if os.geteuid() != 0:
        raise Forbidden(f"{directory}: only root can keep the owners of files", hint="write a tar instead")
    if directory.exists() and any(directory.iterdir()):
        raise Conflict(f"{directory} is not empty", hint="choose a new directory")
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    argv = (*_TAR, "--extract", "--same-owner", "--preserve-permissions", "-C", os.fspath(directory))
    try:
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as tar:
            sink = tar.stdin
            assert sink is not None
            with sink:
                session.run(lambda client: _write(client, volume, sink, "", snapshot))
        if tar.returncode:
            raise InternalError(f"{directory}: tar could not unpack the backup")
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if made:
            directory.rmdir()
        raise


def send_backup(session: Session, volume: str, source: str) -> dict[str, Any] | None:
    """Restore ``volume`` from a backup: a file, a directory, or standard input (-)."""
    path = Path(source)
    if source == "-":
        return _send(session, volume, sys.stdin.buffer)
    if not path.exists():
        raise NotFound(f"{source}: no such file or directory", hint="name a backup made by `tare volume backup`")
    if not path.is_dir():
        with path.open("rb") as stream:
            return _send(session, volume, stream)
    if missing := [name for name in _MEMBERS if not (path / name).exists()]:
        raise NotFound(
            f"{source} is no backup: it has no {missing[0]}", hint="name a directory of `tare volume backup`"
        )
    argv = (*_TAR, "--create", "--format=pax", "--sparse", "--sort=name", "-C", source, *_MEMBERS)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        with tar.stdout:
            return _send(session, volume, tar.stdout)


def _send(session: Session, volume: str, stream: IO[bytes]) -> dict[str, Any] | None:
    return session.run(lambda client: client.volumes.restore_backup(volume, _chunks(stream)))


async def _chunks(stream: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
