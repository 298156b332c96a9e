"""Images of the local store through docker-py and tare's own command line; the words are in ``tests/differential``."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest
from docker.errors import APIError, ImageNotFound

from engine_process import EngineProcess
from source_servers import Answer, source_server

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SPARSE = 1 << 20
CAPABILITY, NET_BIND = "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


def timeless(output: bytes) -> str:
    """A listing without how long ago things happened, and with single blanks."""
    return re.sub(
        r"[ \t]+", " ", re.sub(r"(Less than a second|\d+ \w+|About an? \w+) ago|Up [^ ]+ \w+", "T", output.decode())
    )


@pytest.fixture
def clean(host: EngineProcess) -> Iterator[EngineProcess]:
    """The session's engine; images whose name begins with ``local-`` are removed after the test."""
    yield host
    host.remove_containers()
    if names := host.text("images", "-q", "--filter", "reference=local-*").split():
        host.docker("rmi", "-f", *dict.fromkeys(names))
    host.docker("image", "prune", "-f")


def test_the_life_of_an_image(clean: EngineProcess, client: docker_py.DockerClient, busybox_tar: bytes) -> None:
    client.api.import_image_from_data(
        busybox_tar, repository="local-a", tag="1", changes=["LABEL local=1", "CMD sleep"]
    )
    image = client.images.get("local-a:1")
    assert image.tag("local-b", "x")
    image.reload()
    assert (image.tags, image.labels) == (["local-a:1", "local-b:x"], {"local": "1"})
    assert [one.id for one in client.images.list("local-b")] == [image.id]
    assert [one.id for one in client.images.list(filters={"label": "local=1"})] == [image.id]
    (summary,) = client.api.images("local-a")
    assert summary["Size"] == image.attrs["Size"]
    with pytest.raises(ImageNotFound, match="No such image: local-nope:latest"):
        client.images.get("local-nope")
    with pytest.raises(APIError, match="must be forced"):
        client.images.remove(image.id)
    assert client.api.remove_image("local-a:1") == [{"Untagged": "local-a:1"}]
    container = client.containers.create("local-b:x", network_mode="none")
    with pytest.raises(APIError, match="is using its referenced image"):
        client.images.remove("local-b:x")
    assert client.images.prune(filters={"dangling": False, "label": "local"})["ImagesDeleted"] == []
    container.remove()
    removed = client.images.prune(filters={"dangling": False, "label": "local"})["ImagesDeleted"]
    assert removed == [{"Untagged": "local-b:x"}, {"Deleted": image.id}]  # the session's busybox has the same layer
    assert client.images.list(filters={"label": "local"}) == []


def test_a_running_container_keeps_its_image_whose_names_were_taken(
    clean: EngineProcess, client: docker_py.DockerClient, busybox_tar: bytes
) -> None:
    clean.docker("import", "-c", 'CMD ["sleep","1000"]', "-c", "LABEL local=2", "-", "local-c", stdin=busybox_tar)
    container = client.containers.run("local-c", detach=True, network_mode="none")
    identifier = container.image.id
    assert client.api.remove_image("local-c", force=True) == [{"Untagged": "local-c:latest"}]
    container.restart(timeout=0)
    assert container.exec_run(["echo", "on"]).output == b"on\n"
    assert clean.text("ps", "--format", "{{.Image}}") == identifier.removeprefix("sha256:")[:12]
    with pytest.raises(APIError, match="is being used by running container"):
        client.images.remove(identifier, force=True)
    container.remove(force=True)
    assert client.api.remove_image(identifier) == [{"Deleted": identifier}]


def test_a_parent_without_name_is_hidden_and_goes_with_its_last_child(
    clean: EngineProcess, client: docker_py.DockerClient, busybox_tar: bytes
) -> None:
    clean.docker("import", "-c", 'CMD ["sh"]', "-c", "LABEL local=3", "-", "local-d", stdin=busybox_tar)
    parent = client.images.get("local-d")
    container = client.containers.create("local-d", network_mode="none")
    child = container.commit("local-d", message="second")
    container.commit("local-e", message="third")
    assert child.attrs["Parent"] == parent.id
    assert [step["Id"] for step in child.history()] == [child.id, parent.id]
    container.remove()
    assert parent.id not in {one.id for one in client.images.list()}
    assert parent.id in {one.id for one in client.images.list(all=True)}
    assert client.images.list(filters={"label": "local=3", "dangling": True}) == []
    with pytest.raises(APIError, match="image has dependent child images"):
        client.images.remove(parent.id, force=True)
    assert client.images.prune()["ImagesDeleted"] is not None
    assert client.api.remove_image("local-e")[-1]["Deleted"] != parent.id
    assert client.api.remove_image("local-d") == [
        {"Untagged": "local-d:latest"},
        {"Deleted": child.id},
        {"Deleted": parent.id},
    ]


def test_files_survive_export_and_import(clean: EngineProcess, client: docker_py.DockerClient, tmp_path: Path) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True, network_mode="none")
    script = (
        "mkdir /d; echo hi >/d/f; ln /d/f /d/hard; ln -s f /d/sym; mkfifo /d/fifo; mknod /d/null c 1 3;"
        "chown 1234:4321 /d/f; chmod 4755 /d/f; touch -d '2001-02-03 04:05:06' /d/f;"
        f"dd if=/dev/zero of=/d/sparse bs=1 count=1 seek={SPARSE - 1} 2>/dev/null"
    )
    assert container.exec_run(["sh", "-c", script]).exit_code == 0
    pid = client.api.inspect_container(container.id)["State"]["Pid"]
    os.setxattr(f"/proc/{pid}/root/d/f", CAPABILITY, NET_BIND)
    archive = tmp_path / "root.tar"
    clean.docker("export", "-o", str(archive), container.id)
    clean.docker("import", str(archive), "local-f")
    with tarfile.open(archive) as opened:
        members = {one.name: one for one in opened}
    linked = sorted((members["d/f"], members["d/hard"]), key=lambda one: one.islnk())
    assert [one.islnk() for one in linked] == [False, True]
    entry = linked[0]
    assert (entry.uid, entry.gid, entry.mode, entry.mtime) == (1234, 4321, 0o4755, 981173106)
    assert entry.pax_headers[f"SCHILY.xattr.{CAPABILITY}"].encode("utf-8", "surrogateescape") == NET_BIND
    assert (members["d/sym"].linkname, members["d/fifo"].isfifo()) == ("f", True)
    assert (members["d/null"].devmajor, members["d/null"].devminor, members["d/sparse"].size) == (1, 3, SPARSE)
    found = clean.text("run", "--rm", "--network", "none", "local-f", "stat", "-c", "%u:%g %a %h %Y", "/d/f", "/d/hard")
    assert found.splitlines() == ["1234:4321 4755 2 981173106"] * 2
    again = clean.docker("export", clean.text("create", "--network", "none", "local-f", "x")).stdout
    with tarfile.open(fileobj=io.BytesIO(again)) as opened:
        assert opened.getmember(entry.name).pax_headers[f"SCHILY.xattr.{CAPABILITY}"]


def test_tare_fetches_what_it_imports_and_shows_the_space(clean: EngineProcess, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("f")
        entry.size = 100_000
        archive.addfile(entry, io.BytesIO(bytes(100_000)))
    with source_server(tmp_path) as server:
        server.files["/root.tar"] = Answer(buffer.getvalue())
        said = clean.tare("import", "--platform", "linux/arm64", server.url("/root.tar"), "local-g").stdout.decode()
        missing = clean.tare("import", server.url("/nope.tar"), "local-x", check=False)
    assert said.splitlines()[0] == f"Downloading from {server.url('/root.tar')}"
    assert said.splitlines()[1] == clean.text("images", "-q", "--no-trunc", "local-g")
    assert (missing.returncode, b"404" in missing.stderr) == (1, True)
    assert clean.text("image", "inspect", "-f", "{{.Architecture}}", "local-g") == "arm64"
    for options in ((), ("-v",), ("--format", "json"), ("-v", "--format", "{{range .Images}}{{.UniqueSize}} {{end}}")):
        shown, expected = clean.tare("system", "df", *options).stdout, clean.docker("system", "df", *options).stdout
        assert timeless(shown) == timeless(expected)
        if options == ("-v",):
            assert "local-g latest" in timeless(shown)
    refused = clean.tare("system", "df", "-v", "--format", "table {{.ID}}", check=False)
    assert (refused.returncode, b"has its own columns" in refused.stderr) == (1, True)
