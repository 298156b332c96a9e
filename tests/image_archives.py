"""Image archives made by hand, good ones and bad ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard

OCI = "application/vnd.oci.image"
MANIFEST, INDEX, CONFIG = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json", f"{OCI}.config.v1+json"
LAYER = f"{OCI}.layer.v1.tar"
PACKERS = {"": lambda data: data, "+gzip": lambda data: gzip.compress(data, mtime=0),
           "+zstd": lambda data: zstandard.ZstdCompressor().compress(data)}  # fmt: skip


@dataclass(frozen=True)
class Link:
    """A symbolic link, or a hard one."""

    target: str
    hard: bool = False


Members = Sequence[tuple[str, "bytes | Link"]]


def tar_of(members: Members | Mapping[str, bytes | Link]) -> bytes:
    """A tar of files and links, in the order given."""
    pairs = members.items() if isinstance(members, Mapping) else members
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in pairs:
            entry = tarfile.TarInfo(name)
            if isinstance(content, Link):
                entry.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
                entry.linkname = content.target
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def layer(text: str, size: int = 3000) -> bytes:
    """A layer with one file."""
    return tar_of({f"data/{text}": (text.encode() * size)[:size]})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(data: bytes) -> str:
    return f"sha256:{sha(data)}"


def config(layers: Sequence[bytes], **changes: Any) -> bytes:
    """A configuration of these layers, with a member that Tare does not know."""
    document = {
        "architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09.5Z", "config": {"Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]}, "docker_version": "28.5.2",
    }  # fmt: skip
    return json.dumps(document | changes).encode()


def docker_archive(
    layers: Sequence[bytes], tags: Sequence[str] | None, *, document: bytes | None = None, **changes: Any
) -> dict[str, bytes | Link]:
    """The members of what Docker 28 saves for one image."""
    document = config(layers) if document is None else document
    item = {
        "Config": f"blobs/sha256/{sha(document)}", "RepoTags": tags,
        "Layers": [f"blobs/sha256/{sha(data)}" for data in layers],
    }  # fmt: skip
    blobs = {f"blobs/sha256/{sha(data)}": data for data in (*layers, document)}
    return {**blobs, "manifest.json": json.dumps([item | changes]).encode()}


@dataclass
class Layout:
    """An OCI layout that grows image by image."""

    members: dict[str, bytes | Link] = field(default_factory=lambda: {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'})
    entries: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, data: bytes, media_type: str, **members: Any) -> dict[str, Any]:
        """Add a blob; returns its descriptor."""
        self.members[f"blobs/sha256/{sha(data)}"] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **members}

    def image(self, layers: Sequence[bytes], packing: str = "", **changes: Any) -> dict[str, Any]:
        """Add an image; returns the descriptor of its manifest, with its platform."""
        document = config(layers, **changes)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(document, CONFIG),
            "layers": [self.blob(PACKERS[packing](data), LAYER + packing) for data in layers],
        }
        parsed = json.loads(document)
        platform = {name: parsed[name] for name in ("os", "architecture", "variant") if name in parsed}
        return self.blob(json.dumps(manifest).encode(), MANIFEST, platform=platform)

    def index(self, manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Add an index; returns its descriptor."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
        return self.blob(json.dumps(document).encode(), INDEX)

    def name(self, descriptor: Mapping[str, Any], **annotations: str) -> None:
        """Put a descriptor into ``index.json``; ``full`` is containerd's name, ``ref`` the one of image-spec."""
        names = {"full": "io.containerd.image.name", "ref": "org.opencontainers.image.ref.name"}
        given = {names[key]: value for key, value in annotations.items()}
        self.entries.append({**descriptor, **({"annotations": given} if given else {})})

    def all(self) -> dict[str, bytes | Link]:
        """All members, the index last, as skopeo has it."""
        index = json.dumps({"schemaVersion": 2, "manifests": self.entries}).encode()  # without a media type, as skopeo
        return {**self.members, "index.json": index}
