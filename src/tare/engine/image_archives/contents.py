"""What images an archive has: Docker's ``manifest.json`` or the index of an OCI layout, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tare.engine.image_archives.receiving import Document, Member, Received, StagedLayer, StoredLayer
from tare.errors import DataCorrupt, InvalidArgument, NotFound, Unsupported
from tare.model import Digest, Platform, Reference
from tare.oci import layout
from tare.oci.image import Descriptor, ImageConfig, Manifest

T = TypeVar("T")

_MAKE_AGAIN = "the archive is incomplete or damaged: make it again"


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image of an archive.

    ``document`` are the bytes of its configuration, ``layers`` the members that hold its layers, bottom first; None
    where the archive has none. ``others`` are the platforms of the same name that were not taken.
    """

    document: bytes
    config: ImageConfig
    layers: tuple[StagedLayer | StoredLayer | None, ...]
    names: tuple[Reference, ...]
    others: tuple[Platform, ...] = ()

    @property
    def id(self) -> Digest:
        """The image's ID."""
        return Digest.of(self.document)

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The layers, bottom first."""
        return tuple(Digest.parse(text) for text in self.config.rootfs.diff_ids)


def read_images(received: Received, platform: Platform | None) -> list[FoundImage]:
    """The images of an archive, each with layers that match its configuration; blocks.

    Of several platforms of one name all are read, or only the one for ``platform``. Raises DataCorrupt for what is
    missing or does not match, InvalidArgument for names, Unsupported for what is no image of Linux, NotFound for the
    platform.
    """
    docker = _optional(received, layout.DOCKER_MANIFEST_FILE)
    index = _optional(received, layout.INDEX_FILE)
    if docker is None and index is None:
        raise DataCorrupt(
            "no image archive: it has neither manifest.json nor index.json",
            hint="it is neither from `docker save` nor an OCI layout; a root file system is for `import`",
            code="archive-unknown",
        )
    reader = _Reader(received, platform)
    if index is not None and (docker is None or reader.has_platforms(index)):
        return reader.layout(index)
    assert docker is not None
    return reader.docker_archive(docker)


def _optional(received: Received, path: str) -> bytes | None:
    member = received.find(path)
    return None if member is None else _bytes(received, member, path)


def _bytes(received: Received, member: Member | None, path: str) -> bytes:
    if member is None:
        raise DataCorrupt(f"{path}: not in the archive", hint=_MAKE_AGAIN, code="archive-incomplete")
    if not isinstance(member, Document):
        raise DataCorrupt(f"{path}: {member.size} bytes that are no document", hint=_MAKE_AGAIN, code="archive-damaged")
    return received.read(member)


@dataclass
class _Reader:
    received: Received
    platform: Platform | None
    _seen: list[Platform] = field(default_factory=list)

    def docker_archive(self, document: bytes) -> list[FoundImage]:
        """The images of ``manifest.json``."""
        if document.strip() == b"null":
            raise DataCorrupt("invalid manifest, manifest cannot be null (but can be [])", code="archive-damaged")
        items = _decode(document, list[layout.DockerImage], layout.DOCKER_MANIFEST_FILE)
        found = []
        for item in items:
            names = tuple(_repo_tag(text) for text in item.repo_tags or ())
            member = self.received.find(item.config)
            data = _bytes(self.received, member, item.config)
            expected = _named_digest(item.config)
            if expected is not None and expected != Digest.of(data):
                raise _wrong_digest(item.config, Digest.of(data))
            config = _config(data, item.config)
            if self._wants(config):
                layers = [(path, self.received.find(path)) for path in item.layers or ()]
                found.append(FoundImage(data, config, _layers(config, layers), names))
        return self._some(found, bool(items))

    def has_platforms(self, document: bytes) -> bool:
        """Whether an index has images for several platforms, which ``manifest.json`` cannot express."""
        index = layout.decode_index(document, layout.INDEX_FILE)
        return any(item.media_type in layout.INDEX_TYPES for item in index.manifests)

    def layout(self, document: bytes) -> list[FoundImage]:
        """The images of an OCI layout; one that several descriptors name is found once, with all names."""
        index = layout.decode_index(document, layout.INDEX_FILE)
        found: dict[Digest, FoundImage] = {}
        for name, group in _groups(index.manifests):
            chosen, others = self._choose(self._expanded(group, layout.DEPTH))
            images = [image for item in chosen if (image := self._image(item, name, others)) is not None]
            for image in images:
                known = found.get(image.id)
                found[image.id] = image if known is None else _joined(known, image)
        return self._some(list(found.values()), bool(index.manifests))

    def _expanded(self, items: Sequence[Descriptor], depth: int) -> list[Descriptor]:
        """The manifests that descriptors lead to, through indexes, without what describes other images."""
        found: list[Descriptor] = []
        for item in items:
            if item.media_type in layout.INDEX_TYPES:
                if not depth:
                    raise DataCorrupt(f"{item.digest}: too many indexes in indexes", code="archive-damaged")
                found += self._expanded(layout.decode_index(self._blob(item), item.digest).manifests, depth - 1)
            elif not layout.is_attestation(item):
                found.append(item)
        return found

    def _choose(self, items: Sequence[Descriptor]) -> tuple[list[Descriptor], tuple[Platform, ...]]:
        """What is loaded of the manifests of one name: all for Linux, or the one for a platform; and the others."""
        # An index may name what its writer did not have, as where Docker has pulled one platform.
        present = [item for item in items if self.received.find(layout.blob_path(item.digest))] or items
        if self.platform is not None and len(items) > 1:
            one, _ = layout.choose(present, self.platform)
            chosen = [] if one is None else [one]
        else:
            chosen = [item for item in present if _is_linux(item)] or list(present)
        others = tuple(
            platform for item in items if item not in chosen and (platform := layout.platform_of(item.platform))
        )
        if not chosen:
            self._seen += others
        return chosen, others

    def _image(self, descriptor: Descriptor, name: Reference | None, others: tuple[Platform, ...]) -> FoundImage | None:
        """What the descriptor of a manifest leads to; None when it is not for the platform that is wanted."""
        if descriptor.media_type not in layout.MANIFEST_TYPES:
            raise _unknown_type("manifest", descriptor)
        manifest = _decode(self._blob(descriptor), Manifest, descriptor.digest)
        if manifest.config.media_type not in layout.CONFIG_TYPES:
            raise _unknown_type("configuration", manifest.config)
        data = self._blob(manifest.config)
        config = _config(data, manifest.config.digest)
        if not self._wants(config):
            return None
        layers = []
        for item in manifest.layers:
            if item.media_type not in layout.LAYER_TYPES:
                raise _unknown_type("layer", item)
            layers.append((item.digest, self._checked(item)))
        return FoundImage(data, config, _layers(config, layers), (name,) if name else (), others)

    def _wants(self, config: ImageConfig) -> bool:
        if config.os != "linux":
            raise Unsupported(f"cannot load {config.os or 'unknown'} image on linux", code="platform-unsupported")
        own = config.platform
        if self.platform is None or own.satisfies(self.platform):
            return True
        self._seen.append(own)
        return False

    def _some(self, found: list[FoundImage], expected: bool) -> list[FoundImage]:
        if found or not expected:
            return found
        names = ", ".join(dict.fromkeys(str(platform) for platform in self._seen)) or "none"
        text = f"no suitable image found for platform {self.platform}"
        raise NotFound(text, hint=f"the archive has {names}", code="platform-missing")

    def _checked(self, item: Descriptor) -> Member | None:
        """The blob that a descriptor names, if it is there. Raises DataCorrupt when it is another."""
        Digest.parse(item.digest)
        path = layout.blob_path(item.digest)
        member = self.received.find(path)
        digest = getattr(member, "digest", None)
        if member is not None and member.size != item.size:
            raise DataCorrupt(
                f"{path}: {member.size} bytes, expected {item.size}", hint=_MAKE_AGAIN, code="archive-damaged"
            )
        if digest is not None and str(digest) != item.digest:
            raise _wrong_digest(path, digest)
        return member

    def _blob(self, item: Descriptor) -> bytes:
        return _bytes(self.received, self._checked(item), layout.blob_path(item.digest))


def _groups(manifests: Iterable[Descriptor]) -> list[tuple[Reference | None, list[Descriptor]]]:
    """Descriptors by the name that they are annotated with, in the order of the first; without one each by itself."""
    groups: dict[object, tuple[Reference | None, list[Descriptor]]] = {}
    for number, item in enumerate(manifests):
        name = _annotated_name(item)
        groups.setdefault(name or number, (name, []))[1].append(item)
    return list(groups.values())


def _is_linux(item: Descriptor) -> bool:
    platform = layout.platform_of(item.platform)
    return platform is None or platform.os == "linux"


def _joined(first: FoundImage, second: FoundImage) -> FoundImage:
    return FoundImage(
        first.document,
        first.config,
        first.layers,
        tuple(dict.fromkeys((*first.names, *second.names))),
        tuple(dict.fromkeys((*first.others, *second.others))),
    )


def _layers(
    config: ImageConfig, members: Sequence[tuple[str, Member | None]]
) -> tuple[StagedLayer | StoredLayer | None, ...]:
    """The members, if they are what the configuration says."""
    diff_ids = [Digest.parse(text) for text in config.rootfs.diff_ids]
    if len(members) != len(diff_ids):
        raise DataCorrupt(
            f"invalid manifest, layers length mismatch: expected {len(members)}, got {len(diff_ids)}",
            hint=_MAKE_AGAIN,
            code="archive-damaged",
        )
    found: list[StagedLayer | StoredLayer | None] = []
    for position, (diff_id, (path, member)) in enumerate(zip(diff_ids, members, strict=True)):
        if member is None:
            found.append(None)
        elif isinstance(member, StagedLayer | StoredLayer):
            actual = member.file.digest if isinstance(member, StagedLayer) else member.digest
            if actual != diff_id:
                raise DataCorrupt(
                    f'invalid diffID for layer {position}: expected "{diff_id}", got "{actual}"',
                    hint=_MAKE_AGAIN,
                    code="diffid-mismatch",
                )
            found.append(member)
        else:
            raise DataCorrupt(f"{path}: no tar archive", hint=_MAKE_AGAIN, code="archive-damaged")
    return tuple(found)


def _repo_tag(text: str) -> Reference:
    reference = Reference.parse(text, default_tag="")
    if not reference.tag:
        raise InvalidArgument(f'invalid tag "{text}"')
    return reference.with_tag(reference.tag)


def _annotated_name(item: Descriptor) -> Reference | None:
    """The name that an image of a layout gets.

    containerd's annotation is a whole reference. ``ref.name`` may be one, too (skopeo, podman), or a mere tag, or any
    text at all: it is a name only where it has a repository and a tag.
    """
    annotations = item.annotations or {}
    if full := annotations.get(layout.CONTAINERD_NAME):
        reference = Reference.parse(full, default_tag="")
        return reference.with_tag(reference.tag) if reference.tag else None
    text = annotations.get(layout.REF_NAME, "")
    try:
        reference = Reference.parse(text, default_tag="")
    except InvalidArgument:
        return None
    return reference.with_tag(reference.tag) if reference.tag else None


def _named_digest(path: str) -> Digest | None:
    """The digest in the name of a configuration: ``blobs/sha256/<hex>``, ``<hex>.json``, ``sha256:<hex>``."""
    name = path.rpartition("/")[2].removeprefix("sha256:").removesuffix(".json")
    if len(name) != 64 or name.strip("0123456789abcdef"):
        return None
    return Digest(name)


def _config(data: bytes, what: str) -> ImageConfig:
    return _decode(data, ImageConfig, what)


def _decode(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataCorrupt(
            f"{what}: not an image document: {error}", hint=_MAKE_AGAIN, code="archive-damaged"
        ) from error


def _wrong_digest(path: str, actual: Digest) -> DataCorrupt:
    return DataCorrupt(f"{path}: has the digest {actual}", hint=_MAKE_AGAIN, code="digest-mismatch")


def _unknown_type(what: str, item: Descriptor) -> Unsupported:
    return Unsupported(
        f"{item.digest}: unknown media type {item.media_type!r} of a {what}",
        hint="it is no container image, or one of a newer kind",
        code="media-type-unknown",
    )
