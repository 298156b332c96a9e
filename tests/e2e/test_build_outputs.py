"""Where builds go: directories, tars, archives, metadata; and equal images from equal sources."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from engine_process import Completed, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

DOCKERFILE = """\
FROM busybox AS made
WORKDIR /w/deep
RUN <<EOF
mkdir out && echo made > out/file && ln out/file out/hard && chown 7:8 out/file && touch out/gone
EOF
RUN rm out/gone
FROM busybox
COPY --from=made /w/deep/out /out
COPY <<EOF /inline
text
EOF
ADD packed.tar /unpacked/
COPY page /srv/
RUN ln -s page /srv/link && mkfifo /srv/pipe
LABEL a=b
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "page").write_text("page\n")
    with tarfile.open(directory / "packed.tar", "w") as archive:
        member = tarfile.TarInfo("inner")
        member.size, member.mtime = 3, 2_000_000_000
        archive.addfile(member, io.BytesIO(b"in\n"))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


def build(host: EngineProcess, context: Path, *options: str, check: bool = True, **more: Any) -> Completed:
    return host.tare("build", "--progress", "plain", *options, str(context), check=check, **more)


def layout(data: bytes) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The archive's blobs by digest, each checked, and its index."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {m.name: (archive.extractfile(m) or io.BytesIO()).read() for m in archive.getmembers() if m.isfile()}
    blobs = {name.removeprefix("blobs/sha256/"): data for name, data in files.items() if name.startswith("blobs/")}
    for digest, blob in blobs.items():
        assert hashlib.sha256(blob).hexdigest() == digest
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    return blobs, {"index": json.loads(files["index.json"]), "docker": files.get("manifest.json")}


def blob(blobs: dict[str, bytes], digest: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(blobs[digest.removeprefix("sha256:")])
    return document


def test_a_directory_gets_the_files_and_keeps_its_own(host: EngineProcess, context: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("mine")
    build(host, context, "-o", str(target))
    assert (target / "srv/page").read_text() == "page\n"
    assert (target / "srv/link").readlink() == Path("page")
    assert (target / "mine").read_text() == "mine"
    assert (target / "out/file").stat().st_uid == os.getuid()
    assert (target / "out/file").stat().st_ino == (target / "out/hard").stat().st_ino
    assert host.docker("image", "inspect", "none:1", check=False).returncode == 1


def test_a_tar_on_standard_output(host: EngineProcess, context: Path) -> None:
    done = build(host, context, "-o", "-")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["out/file"].uid == 7 or members["out/hard"].uid == 7
    assert members["srv/link"].linkname == "page"
    assert members["srv/pipe"].isfifo()


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", "+gzip"), ("zstd", "+zstd"), ("uncompressed", "")])
def test_an_oci_archive(host: EngineProcess, context: Path, tmp_path: Path, compression: str, suffix: str) -> None:
    archive, metadata = tmp_path / "image.tar", tmp_path / "metadata.json"
    build(
        host, context, "-t", "app/x:1", "--annotation", "who=me", "--annotation", "index:org.x=y",
        "-o", f"type=oci,dest={archive},compression={compression}", "--metadata-file", str(metadata),
    )  # fmt: skip
    blobs, documents = layout(archive.read_bytes())
    (described,) = documents["index"]["manifests"]
    assert documents["index"]["annotations"] == {"org.x": "y"}
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/app/x:1"
    manifest = blob(blobs, described["digest"])
    assert manifest["annotations"] == {"who": "me"}
    config = blob(blobs, manifest["config"]["digest"])
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{suffix}"
        data = blobs[layer["digest"].removeprefix("sha256:")]
        assert layer["size"] == len(data)
        assert "sha256:" + hashlib.sha256(unpacked(data, compression)).hexdigest() == diff_id
    told = json.loads(metadata.read_text())
    assert told["containerimage.digest"] == described["digest"]
    assert told["containerimage.config.digest"] == manifest["config"]["digest"]


def unpacked(data: bytes, compression: str) -> bytes:
    if compression == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if compression == "gzip":
        import gzip

        return gzip.decompress(data)
    return data


def test_a_docker_archive_and_an_image_at_once(host: EngineProcess, context: Path, tmp_path: Path) -> None:
    archive, iidfile = tmp_path / "image.tar", tmp_path / "iid"
    outputs = ("-o", f"type=docker,dest={archive},name=also:1", "-o", "type=image,name=stored:1")
    build(host, context, "-t", "both:1", *outputs, "--iidfile", str(iidfile))
    _, documents = layout(archive.read_bytes())
    (entry,) = json.loads(documents["docker"])
    assert entry["RepoTags"] == ["both:1", "also:1"]
    assert iidfile.read_text() == f"sha256:{entry['Config'].removeprefix('blobs/sha256/')}"
    for name in ("both:1", "stored:1"):
        assert host.text("image", "inspect", "-f", "{{.Id}}", name) == iidfile.read_text()


def test_a_layout_in_a_directory(host: EngineProcess, context: Path, tmp_path: Path) -> None:
    build(host, context, "-o", f"type=oci,dest={tmp_path / 'layout'},tar=false")
    index = json.loads((tmp_path / "layout/index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    assert hashlib.sha256((tmp_path / "layout/blobs/sha256" / digest).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "type=floppy,dest=x"), "invalid output type"),
        (("-o", "type=oci,dest=x,compresion=gzip"), "did you mean compression?"),
        (("-o", "type=oci,dest=x,compression=rot13"), 'unsupported layer compression type "rot13"'),
        (("--push",), "tag is needed when pushing to registry"),
        (("-o", "type=tar,dest=/nowhere/x.tar"), "/nowhere: no such directory"),
        (("-o", "type=local,dest=/dev/null"), "/dev/null: is not a directory"),
        (("-o", "out", "--iidfile", "x"), "incompatible with image ID file"),
        (("--build-arg", "SOURCE_DATE_EPOCH=soon"), "invalid SOURCE_DATE_EPOCH: soon"),
    ],
)
def test_what_cannot_be_written(host: EngineProcess, context: Path, options: tuple[str, ...], words: str) -> None:
    done = build(host, context, *options, check=False)
    assert done.returncode != 0
    assert words in done.stderr.decode()
    assert not (context / "x").exists()


def test_a_failed_build_writes_nothing(host: EngineProcess, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
    done = build(host, context, "-o", f"type=tar,dest={tmp_path / 'x.tar'}", check=False)
    assert done.returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context"]


@pytest.fixture
def other(busybox_tar: bytes) -> Iterator[EngineProcess]:
    """A second engine, which has seen nothing."""
    engine = EngineProcess.make()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


def test_two_engines_make_one_image(
    host: EngineProcess, other: EngineProcess, context: Path, tmp_path: Path, busybox_tar: bytes
) -> None:
    """Times of files and of the build differ, the images do not."""
    images = []
    for number, engine in enumerate((host, other)):
        os.utime(context / "page", (1_700_000_000 + number, 1_800_000_000 + number))
        base = tmp_path / f"base{number}"
        base.mkdir()
        (base / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        (base / "root.tar").write_bytes(busybox_tar)
        environ = {"SOURCE_DATE_EPOCH": "1600000000"}
        build(engine, base, "-t", "busybox-dated", environ=environ)
        (context / "Dockerfile").write_text(DOCKERFILE.replace("FROM busybox", "FROM busybox-dated"))
        archive = tmp_path / f"{number}.tar"
        build(engine, context, "-t", "dated", "-o", f"type=oci,dest={archive}", "-o", "type=image", environ=environ)
        images.append((engine.text("image", "inspect", "-f", "{{.Id}} {{.Created}}", "dated"), archive.read_bytes()))
    assert images[0][0] == images[1][0]
    assert images[0][1] == images[1][1]
    assert images[0][0].endswith(" 2020-09-13T12:26:40Z")
    blobs, documents = layout(images[0][1])
    manifest = blob(blobs, documents["index"]["manifests"][0]["digest"])
    for layer in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(blobs[layer["digest"].removeprefix("sha256:")])) as archive:
            assert max((member.mtime for member in archive.getmembers()), default=0) <= 1_600_000_000
    host.docker("rmi", "-f", "dated", "busybox-dated")
