"""Damaged image archives: read for what they are, or refused with an error of Tare's own; no file stays."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_archives import Layout, Link, config, digest, docker_archive, layer, tar_of
from tare.archive.expansion import ExpansionLimits
from tare.engine.image_archives.contents import FoundImage, read_images
from tare.engine.image_archives.receiving import Receiver
from tare.errors import TareError
from tare.store.threads import Abort

LAYERS = (layer("a"), layer("b", 40_000))
LIMITS = ExpansionLimits(size=1 << 24, ratio=50, ratio_from=1 << 20)


def _layout() -> bytes:
    made = Layout()
    images = [made.image(LAYERS, "+gzip", architecture=name) for name in ("amd64", "arm64")]
    made.name(made.index(images), full="docker.io/library/app:1")
    return tar_of(made.all())


ARCHIVES = (tar_of(docker_archive(LAYERS, ["app:1"])), _layout())
SOUND = {digest(config(LAYERS))} | {digest(config(LAYERS, architecture=name)) for name in ("amd64", "arm64")}


def received(data: bytes) -> list[FoundImage]:
    """What is found in an archive; proves that its files go."""
    with tempfile.TemporaryDirectory() as directory:
        staging = Path(directory)
        try:
            receiver = Receiver(staging, LIMITS, lambda _: None, None, Abort())
            archive = receiver.receive(io.BytesIO(data))
            try:
                return read_images(archive, None)
            finally:
                archive.discard()
        finally:
            assert list(staging.iterdir()) == []


DAMAGES = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=4)


@given(st.sampled_from(ARCHIVES), DAMAGES, st.just(1.0) | st.floats(0, 1))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damage(archive: bytes, damages: list[tuple[float, bytes]], length: float) -> None:
    """Whatever becomes of the bytes: an image that is found is one of those that were there."""
    data = bytearray(archive)
    for place, rubbish in damages:
        position = int(place * len(data))
        data[position : position + len(rubbish)] = rubbish
    with contextlib.suppress(TareError):
        for image in received(bytes(data[: int(length * len(data)) or None])):
            assert digest(image.document) in SOUND


NAMES = st.sampled_from(["manifest.json", "index.json", "l", "./l", "a/l", "../l", "/l", "blobs/sha256/" + "a" * 64])
TARGETS = st.sampled_from(["l", "../l", "../../l", "/l", "a/../l", "manifest.json", "", "."])
TEXTS = st.sampled_from(["", "l", "app:1", "sha256:" + "a" * 64, "linux", "amd64"]) | st.text(max_size=5)
VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS
KEYS = st.sampled_from(
    ["Config", "RepoTags", "Layers", "manifests", "schemaVersion", "mediaType", "digest", "size", "platform", "config",
     "layers", "annotations", "org.opencontainers.image.ref.name", "io.containerd.image.name", "os", "architecture"]
)  # fmt: skip
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
CONTENTS = (
    DOCUMENTS.map(lambda document: json.dumps(document).encode())
    | st.sampled_from([LAYERS[0], b"", b"\x1f\x8b\x08", bytes(1024)])
    | TARGETS.map(Link)
    | TARGETS.map(lambda target: Link(target, hard=True))
)


@given(st.lists(st.tuples(NAMES, CONTENTS), max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_odd_members(members: list[tuple[str, bytes | Link]]) -> None:
    with contextlib.suppress(TareError):
        received(tar_of(members))
