"""A case: a Dockerfile, its context, how it is built, and what Docker made of it.

A case is a directory: ``Dockerfile``; ``context/`` with plain files; ``context.json`` with those that a repository
cannot hold; ``case.json`` with how to build; ``recorded.json`` with Docker's result. All but the first are optional.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from base_image import MTIME

CASES = Path(__file__).with_name("cases")

_COMPRESSORS = {
    "tar": bytes,
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    ``options`` go to both builders ({context}, {case} and {origin}, a web server, are replaced). ``before`` are images
    that are built first: tag to Dockerfile. A case that must fail has ``says``: words that both engines' errors have.
    ``differs`` maps the place of a deliberate difference to Tare's value and the reason; the place ``result`` stands
    for a build that one of the two refuses.
    """

    name: str
    path: Path
    dockerfile: str = "Dockerfile"
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    fails: bool = False
    says: tuple[str, ...] = ()
    differs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def recorded(self) -> Path:
        """Docker's result."""
        return self.path / "recorded.json"

    def arguments(self, context: Path, origin: str) -> list[str]:
        """The options, places put in."""
        places = {"{context}": str(context), "{case}": str(self.path), "{origin}": origin}
        found = list(self.options)
        for name, place in places.items():
            found = [item.replace(name, place) for item in found]
        return found


def load_cases() -> list[Case]:
    """All cases, by name."""
    return [_load(path) for path in sorted(CASES.iterdir()) if path.is_dir()]


def _load(path: Path) -> Case:
    settings = path / "case.json"
    given = json.loads(settings.read_text()) if settings.exists() else {}
    given.pop("about", None)
    for name in ("options", "says"):
        given[name] = tuple(given.get(name, ()))
    return Case(path.name, path, **given)


def make_context(case: Case, context: Path) -> None:
    """Make the case's context, with all modes and times set, and its Dockerfiles in it."""
    plain = case.path / "context"
    if plain.exists():
        shutil.copytree(plain, context, symlinks=True)
    else:
        context.mkdir()
    for file in case.path.glob("*Dockerfile*"):
        shutil.copyfile(file, context / file.name)
    described = case.path / "context.json"
    special = json.loads(described.read_text()) if described.exists() else []
    for directory, names, files in os.walk(context):
        for name in names + files:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    for item in special:
        _make(context, item)
    for directory, names, files in os.walk(context, topdown=False):
        for name in names + files:
            os.utime(os.path.join(directory, name), (MTIME, MTIME), follow_symlinks=False)
    for item in special:
        if "mtime" in item:
            moment = MTIME + item["mtime"]
            os.utime(context / item["path"], (moment, moment), follow_symlinks=False)
    os.utime(context, (MTIME, MTIME))


def _make(context: Path, item: dict[str, Any]) -> None:
    """One file as ``context.json`` describes it; types beside ``file`` are in ``type``."""
    path = context / item["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    match item.get("type", "file"):
        case "directory":
            path.mkdir(exist_ok=True)
        case "symlink":
            path.symlink_to(item["target"])
        case "hardlink":
            path.hardlink_to(context / item["target"])
        case "fifo":
            os.mkfifo(path)
        case "archive":
            path.write_bytes(_archive(item))
        case "exists":
            pass
        case _:
            content = base64.b64decode(item["base64"]) if "base64" in item else item.get("content", "").encode()
            path.write_bytes(content * item.get("times", 1))
    if "owner" in item:
        uid, gid = item["owner"]
        os.chown(path, uid, gid, follow_symlinks=False)
    if item.get("type") not in ("symlink", "hardlink"):
        path.chmod(int(item.get("mode", "0755" if path.is_dir() else "0644"), 8))
    for name, value in item.get("xattrs", {}).items():
        os.setxattr(path, name, base64.b64decode(value), follow_symlinks=False)


def _archive(item: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for given in item["members"]:
            member = tarfile.TarInfo(given["path"])
            data = given.get("content", "").encode()
            member.size, member.mtime = len(data), MTIME + given.get("mtime", 0)
            member.uid, member.gid = given.get("owner", (0, 0))
            kinds = {"directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
                     "fifo": tarfile.FIFOTYPE}  # fmt: skip
            member.type = kinds.get(given.get("type", "file"), tarfile.REGTYPE)
            member.mode = int(given.get("mode", "0755" if member.isdir() else "0644"), 8)
            member.linkname = given.get("target", "")
            for name, value in given.get("xattrs", {}).items():
                member.pax_headers[f"SCHILY.xattr.{name}"] = base64.b64decode(value).decode("latin-1")
            archive.addfile(member, io.BytesIO(data))
    data = _COMPRESSORS[item.get("compression", "tar")](buffer.getvalue())
    return data[: item["cut"]] if "cut" in item else data
