"""The image as an archive: OCI layout (image-spec, image-layout.md) or Docker's form of it, as a tar or a directory.

Docker's form is the same layout with ``manifest.json`` beside it, so that ``docker load`` and OCI tools read both.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tare.archive.compression import Compression, compressor
from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import TarWriter
from tare.base.readers import CHUNK
from tare.base.shielding import to_end
from tare.build.ops.workbench import Workbench
from tare.build.outputs.kinds import compression_of, flag, names_of
from tare.build.outputs.places import naming, whole_file
from tare.build.request import OutputRequest
from tare.model import Digest, Reference
from tare.oci import image as oci
from tare.oci import layout
from tare.oci.image import Descriptor, ImageConfig, Index, Manifest, encode

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_LAYER_TYPES = {
    Compression.GZIP: (oci.MEDIA_TYPE_LAYER_GZIP, oci.DOCKER_LAYER_GZIP),
    Compression.ZSTD: (oci.MEDIA_TYPE_LAYER_ZSTD, oci.DOCKER_LAYER_ZSTD),
    Compression.NONE: (oci.MEDIA_TYPE_LAYER, oci.DOCKER_LAYER),
}
_LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the layout: its bytes, or where they lie."""

    name: str
    size: int
    data: bytes = b""
    path: Path | None = None


async def write_archive(
    output: OutputRequest,
    config: ImageConfig,
    tags: Sequence[Reference],
    annotations: Mapping[str, str],
    bench: Workbench,
) -> Descriptor:
    """Write the archive and return the manifest's descriptor. Raises as :func:`whole_file`."""
    return await to_end(asyncio.to_thread(_write, output, config, tags, annotations, bench))


def _write(
    output: OutputRequest,
    config: ImageConfig,
    tags: Sequence[Reference],
    annotations: Mapping[str, str],
    bench: Workbench,
) -> Descriptor:
    docker = output.type == "docker"
    media = not flag(output, "oci-mediatypes", default=not docker)
    with tempfile.TemporaryDirectory(prefix="tare-output-", dir=_scratch(bench)) as scratch:
        layers = list(_layers(config, compression_of(output), media, bench, Path(scratch)))
        document = encode(config)
        blobs = [_blob(document), *(file for _, file in layers)]
        config_type = oci.DOCKER_CONFIG if media else oci.MEDIA_TYPE_CONFIG
        manifest = encode(
            Manifest(
                schema_version=2,
                media_type=oci.DOCKER_MANIFEST if media else oci.MEDIA_TYPE_MANIFEST,
                config=Descriptor(media_type=config_type, digest=str(Digest.of(document)), size=len(document)),
                layers=[descriptor for descriptor, _ in layers],
                annotations=_level(annotations, "manifest") or None,
            )
        )
        blobs.append(_blob(manifest))
        described = Descriptor(
            media_type=oci.DOCKER_MANIFEST if media else oci.MEDIA_TYPE_MANIFEST,
            digest=str(Digest.of(manifest)),
            size=len(manifest),
            platform={"architecture": config.architecture, "os": config.os}
            | ({"variant": config.variant} if config.variant else {}),
        )
        names = tuple(dict.fromkeys((*tags, *names_of(output))))
        files = [
            _plain(layout.LAYOUT_FILE, _LAYOUT),
            _plain(layout.INDEX_FILE, _index(described, names, annotations)),
            *blobs,
        ]
        if docker:
            paths = [file.name for _, file in layers]
            files.append(_plain(layout.DOCKER_MANIFEST_FILE, _docker_manifest(blobs[0].name, paths, names)))
        if flag(output, "tar", default=True):
            _tar(output, files)
        else:
            _directory(output, files)
    return described


def _scratch(bench: Workbench) -> Path:
    place = bench.directory / "outputs"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _layers(
    config: ImageConfig, compression: Compression, docker: bool, bench: Workbench, scratch: Path
) -> Iterator[tuple[Descriptor, _File]]:
    media_type = _LAYER_TYPES[compression][1 if docker else 0]
    for diff_id in config.rootfs.diff_ids:
        source = bench.store.layers.path(Digest.parse(diff_id))
        path, digest = source, Digest.parse(diff_id)
        if compression is not Compression.NONE:
            path, digest = _compressed(source, compression, scratch)
        size = path.stat().st_size
        yield (
            Descriptor(media_type=media_type, digest=str(digest), size=size),
            _File(layout.blob_path(str(digest)), size, path=path),
        )


def _compressed(source: Path, compression: Compression, scratch: Path) -> tuple[Path, Digest]:
    target = scratch / source.name
    with (
        source.open("rb", buffering=0) as stream,
        target.open("wb") as file,
        compressor(file, compression) as sink,
    ):
        while chunk := stream.read(CHUNK):
            sink.write(chunk)
    with target.open("rb") as written:
        return target, Digest(hashlib.file_digest(written, "sha256").hexdigest())


def _index(manifest: Descriptor, names: Sequence[Reference], annotations: Mapping[str, str]) -> bytes:
    described = _level(annotations, "manifest-descriptor")
    entries = []
    for name in names or (None,):
        own = dict(described)
        if name is not None:
            own[layout.CONTAINERD_NAME] = str(name)
            own[layout.REF_NAME] = name.tag or "latest"
        entries.append(Descriptor(**_fields(manifest), annotations=own or None))
    index = Index(
        schema_version=2,
        media_type=oci.MEDIA_TYPE_INDEX,
        manifests=entries,
        annotations=_level(annotations, "index") or None,
    )
    return encode(index)


def _fields(descriptor: Descriptor) -> dict[str, Any]:
    return {name: getattr(descriptor, name) for name in ("media_type", "digest", "size", "platform")}


def _level(annotations: Mapping[str, str], level: str) -> dict[str, str]:
    """Annotations for one document: ``[level[,level]:]key``; without a level they belong to the manifest."""
    found = {}
    for name, value in annotations.items():
        levels, colon, key = name.partition(":")
        if not colon or not all(part.split("[")[0] in _LEVELS for part in levels.split(",")):
            levels, key = "manifest", name
        if level in [part.split("[")[0] for part in levels.split(",")]:
            found[key] = value
    return found


def _docker_manifest(config: str, layers: Sequence[str], names: Sequence[Reference]) -> bytes:
    tags = [name.familiar() for name in names]
    document = [{"Config": config, "RepoTags": tags or None, "Layers": list(layers)}]
    return json.dumps(document, separators=(",", ":")).encode()


def _plain(name: str, data: bytes) -> _File:
    return _File(name, len(data), data)


def _blob(data: bytes) -> _File:
    return _File(layout.blob_path(str(Digest.of(data))), len(data), data)


def _tar(output: OutputRequest, files: Sequence[_File]) -> None:
    """Sorted, without times: equal images give equal archives."""
    with whole_file(output.destination, output.owner) as sink:
        writer = TarWriter(sink)
        for name in ("blobs", layout.BLOBS):
            writer.add(Entry(path=name, kind=Kind.DIRECTORY, mode=0o755))
        for file in _unique(files):
            with _open(file) as content:
                writer.add(Entry(path=file.name, kind=Kind.FILE, mode=0o644, size=file.size), content)
        writer.finish()


def _directory(output: OutputRequest, files: Sequence[_File]) -> None:
    root = Path(output.destination)
    with naming(output.destination):
        (root / layout.BLOBS).mkdir(parents=True, exist_ok=True)
        for place in (root, root / "blobs", root / layout.BLOBS):
            if output.owner is not None:
                os.chown(place, *output.owner)
    for file in _unique(files):
        with whole_file(str(root / file.name), output.owner) as sink, _open(file) as content:
            while chunk := content.read(CHUNK):
                sink.write(chunk)


def _unique(files: Sequence[_File]) -> list[_File]:
    return [{file.name: file for file in files}[name] for name in sorted({file.name for file in files})]


def _open(file: _File) -> BinaryIO:
    return file.path.open("rb") if file.path is not None else io.BytesIO(file.data)
