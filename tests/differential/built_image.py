"""A built image as a document to compare: its configuration, its history, and the files that differ from its base.

One reader for both engines: an image layout in a tar, as ``docker save`` and ``--output type=oci`` write it.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from base_image import MTIME

RECENT = 1704067200
"""2024-01-01: what is later has the time of the build, which is written as ``now``."""

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip

Tree = dict[str, dict[str, Any]]


@dataclass(slots=True)
class _Layer:
    """One layer's tar: what it adds, removes, and hides as a whole."""

    added: Tree = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """What it holds: files, and what it removes with a minus sign; directories only say how it was written."""
        files = [path for path, entry in self.added.items() if entry["type"] != "directory"]
        removed = [f"-{path}" for path in self.removed] + [f"-{path}/*" for path in self.opaque]
        return sorted(files) + sorted(removed)


def read_image(archive: Path) -> dict[str, Any]:
    """The document of the only image in ``archive``."""
    with tarfile.open(archive) as layout:
        blobs = {member.name: member for member in layout.getmembers() if member.isfile()}

        def blob(digest: str) -> bytes:
            stream = layout.extractfile(blobs["blobs/" + digest.replace(":", "/")])
            assert stream is not None
            return stream.read()

        index = layout.extractfile(blobs["index.json"])
        assert index is not None
        (described,) = json.load(index)["manifests"]
        manifest = json.loads(blob(described["digest"]))
        if "manifests" in manifest:
            (described,) = manifest["manifests"]
            manifest = json.loads(blob(described["digest"]))
        config = json.loads(blob(manifest["config"]["digest"]))
        layers = [_read_layer(blob(layer["digest"])) for layer in manifest["layers"]]
    return _document(config, layers)


def _document(config: dict[str, Any], layers: list[_Layer]) -> dict[str, Any]:
    history = config.get("history") or []
    own = 1 if history and history[0].get("comment") == "Imported from -" else 0
    base: Tree = {}
    for layer in layers[:own]:
        _apply(base, layer)
    tree = dict(base)
    for layer in layers[own:]:
        _apply(tree, layer)
    return {
        "config": _filled(
            {name: config.get(name) for name in ("architecture", "os", "variant", "author")}
            | {"created": _moment(config.get("created"))}
            | dict(config.get("config") or {})
        ),
        "history": [
            _filled({**item, "created": _moment(item.get("created"))} | {"author": item.get("author")})
            for item in history[own:]
        ],
        "layers": [layer.names() for layer in layers[own:]],
        "tree": _grouped({path: entry for path, entry in tree.items() if not _is_same(base.get(path), entry)}),
        "deleted": sorted(set(base) - set(tree)),
    }


def _is_same(before: dict[str, Any] | None, after: dict[str, Any]) -> bool:
    """Whether a build left a file of the base alone; a directory may have a new time."""
    if before is not None and after["type"] == "directory" and after["mtime"] in ("now", -MTIME):
        return before | {"mtime": after["mtime"]} == after
    return before == after


def _filled(document: dict[str, Any]) -> dict[str, Any]:
    """Without members that say nothing."""
    return {name: document[name] for name in sorted(document) if document[name] not in (None, "", [], {}, False, 0)}


def _moment(text: str | None) -> str:
    if not text:
        return ""
    seconds = datetime.datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    return "now" if seconds >= RECENT else text


def _time(seconds: float) -> int | str:
    return "now" if seconds >= RECENT else int(seconds) - MTIME


def _read_layer(data: bytes) -> _Layer:
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    layer = _Layer()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = member.name.strip("/").removeprefix("./")
            above, _, name = path.rpartition("/")
            if name == _OPAQUE:
                layer.opaque.append(above)
            elif name.startswith(_WHITEOUT):
                name = name.removeprefix(_WHITEOUT)
                layer.removed.append(f"{above}/{name}" if above else name)
            elif path not in ("", "."):
                layer.added[path] = _entry(member, archive, layer)
    return layer


def _entry(member: tarfile.TarInfo, archive: tarfile.TarFile, layer: _Layer) -> dict[str, Any]:
    if member.islnk():
        first = layer.added[member.linkname.strip("/").removeprefix("./")]
        first.setdefault("inode", id(first))
        return first
    entry: dict[str, Any] = {
        "type": _KINDS[member.type],
        "mode": f"{member.mode:04o}",
        "owner": f"{member.uid}:{member.gid}",
        "mtime": _time(member.mtime),
    }
    if member.isreg():
        stream = archive.extractfile(member)
        assert stream is not None
        content = stream.read()
        entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if len(content) <= 200:
            entry["text"] = content.decode(errors="backslashreplace")
    elif member.issym():
        entry["target"] = member.linkname
    elif member.ischr() or member.isblk():
        entry["device"] = f"{member.devmajor}:{member.devminor}"
    xattrs = {
        name.removeprefix(_XATTR): base64.b64encode(value.encode(errors="surrogateescape")).decode()
        for name, value in member.pax_headers.items()
        if name.startswith(_XATTR)
    }
    return entry | ({"xattrs": xattrs} if xattrs else {})


def _apply(tree: Tree, layer: _Layer) -> None:
    """Put a layer over ``tree`` as the OCI image specification says (layer.md, "Applying changesets")."""
    for path in layer.opaque:
        _remove_below(tree, path)
    for path in layer.removed:
        _remove_below(tree, path)
        tree.pop(path, None)
    for path, entry in layer.added.items():
        if entry["type"] != "directory":
            _remove_below(tree, path)
        tree[path] = entry


def _remove_below(tree: Tree, path: str) -> None:
    for below in [name for name in tree if name.startswith(f"{path}/")]:
        del tree[below]


def _grouped(tree: Tree) -> Tree:
    """Files with several names say which: ``links`` are all of them."""
    names: dict[int, list[str]] = {}
    for path, entry in tree.items():
        if "inode" in entry:
            names.setdefault(entry["inode"], []).append(path)
    found: Tree = {}
    for path in sorted(tree):
        entry = {name: value for name, value in tree[path].items() if name != "inode"}
        group = sorted(names.get(tree[path].get("inode", 0), []))
        found[path] = entry | ({"links": group} if len(group) > 1 else {})
    return found
