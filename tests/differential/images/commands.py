"""The docker commands about images that are compared (``commands.txt``), and where Tare differs on purpose.

The lines are the shell's, after the word ``docker``; they run in a directory with the files of :func:`files`. ``$URL``
is the address of a server that serves these (``moved`` leads to ``small.tar``).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
from pathlib import Path

from engine_process import busybox_rootfs

_WORDS = "Tare has its own words for what is wrong with an archive or an address"
_VERSION = "Tare's images do not name the version that made them: the same content has the same ID"
_INIT = "Docker adds a layer of its own with mount points and /etc/mtab"
_KEPT = "a container keeps its image, which loses its names and goes when the container has gone"
_BUILDER = "Tare builds as BuildKit does: what the classic builder makes has a base as parent, and another history"
_BLOCKS = "Docker counts the bytes of files, Tare what they take on disk"
_CACHE = "Tare's builds have a cache, which keeps its layers until it is pruned"

_DIFFERENCES: dict[str, tuple[str, ...]] = {
    _WORDS: (
        "import $URL/missing.tar img-x",
        "import http://127.0.0.1:1/x.tar img-x",
        "import $URL/noise img-x",
        "import noise img-x",
        "import - img-x < noise",
        "import - img-x < truncated.tar",
        "import --platform nonsense/x/y/z - img-x < small.tar",
    ),
    _VERSION: (
        "image inspect -f '{{.Id}} {{.RepoTags}} {{.RepoDigests}} {{.Parent}} {{.Comment}} {{.DockerVersion}} "
        "{{.Author}}' img-a:1 img-b:2",
    ),
    _INIT: ("export img-c2 | tar -t --numeric-owner | grep -E '^(root|vol|etc|new|dev)/' | sort",),
    _KEPT: ("rmi -f img-xz:two", "image prune -f # what the container had kept"),
    _BUILDER: (
        "history --format '{{.CreatedBy}}|{{.Comment}}' img-built",
        "image inspect -f '{{json .Config}}' img-built",
        "image prune -a -f --filter label!=base --filter label!=cl",
    ),
    _BLOCKS: (
        "volume prune -a -f --filter label!=one --filter label!=two",
        "system df",
    ),
    _CACHE: (
        "system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'",
        "system df --format json",
        "system prune -a -f --volumes --filter label!=one",
    ),
}
DIFFERENCES = {line: reason for reason, lines in _DIFFERENCES.items() for line in lines}
"""Commands that Tare answers otherwise on purpose, and why. What follows a ``#`` tells equal lines apart."""

COMMANDS = [
    line
    for line in Path(__file__).with_name("commands.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def files() -> dict[str, bytes]:
    """What lies where the commands run, by name."""
    small = _small_tar()
    return {
        "small.tar": small,
        "small.tar.gz": gzip.compress(small, mtime=0),
        "small.tar.bz2": bz2.compress(small),
        "small.tar.xz": lzma.compress(small),
        "small.tar.zst": subprocess.run(["zstd", "-q"], input=small, stdout=subprocess.PIPE, check=True).stdout,
        "truncated.tar": small[: len(small) // 2 - 100],
        "empty.tar": bytes(10240),
        "noise": bytes(range(256)) * 8,
        "rootfs.tar": busybox_rootfs(),
        "Dockerfile": b'FROM img-exported\nENV X=1\nRUN echo hi > /built\nCMD ["x"]\n',
    }


def _small_tar() -> bytes:
    """A directory, a file with a second name, a symbolic link; owners and times that are not the default."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for kind, name, target in (
            (tarfile.DIRTYPE, "etc", ""),
            (tarfile.REGTYPE, "etc/hello", ""),
            (tarfile.LNKTYPE, "etc/again", "etc/hello"),
            (tarfile.SYMTYPE, "etc/link", "hello"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode, entry.mtime = kind, target, 0o755, 1_700_000_000
            entry.uid, entry.gid = 1000, 100
            entry.size = 3000 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"hello" * 600) if entry.size else None)
    return buffer.getvalue()
