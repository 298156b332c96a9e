"""Builds from what is not a local directory: through Tare's and Docker's command lines and docker-py."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from engine_process import Completed, EngineProcess, add_file
from source_servers import Answer, SourceServer, commit, git, make_repository, source_server

pytestmark = [pytest.mark.root, pytest.mark.e2e]

DOCKERFILE = "FROM busybox\nCOPY . /c/\nRUN find /c -type f | sort | xargs md5sum; find /c ! -user 0\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SourceServer]:
    with source_server(tmp_path / "repositories") as running:
        yield running


@pytest.fixture
def repository(server: SourceServer) -> Path:
    place = server.repositories / "r.git"
    make_repository(place, {"Dockerfile": DOCKERFILE, "page": "one\n", "sub/Dockerfile": "FROM busybox\nCOPY . /s/\n"})
    commit(place, {"sub/inner": "inner\n", ".dockerignore": "page\n"}, "second")
    return place


@pytest.fixture(autouse=True)
def no_images_stay(host: EngineProcess) -> Iterator[None]:
    yield
    host.docker("rmi", "-f", "made:1", "lay:v1", check=False)
    host.docker("image", "prune", "-f")


def tar_of(**files: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, text in files.items():
            add_file(archive, name.replace("__", "/"), text.encode())
    return sink.getvalue()


def build(host: EngineProcess, *arguments: str, stdin: bytes | None = None, check: bool = True) -> Completed:
    return host.tare("build", "--progress", "plain", "-t", "made:1", *arguments, stdin=stdin, check=check)


def files_of(host: EngineProcess, path: str) -> list[str]:
    """The files that the image ``made:1`` has below ``path``."""
    listed = host.text("run", "--rm", "made:1", "find", path, "-type", "f", "-o", "-type", "l")
    return sorted(line.removeprefix(f"{path}/") for line in listed.splitlines())


def failed(done: Completed, *words: str) -> None:
    """The build failed and said all of ``words``."""
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in said


def nothing_left(host: EngineProcess) -> None:
    staging = host.data_root / "staging"
    assert [item.name for item in staging.iterdir()] == []
    kept = host.data_root / "cache/sources/entries"
    assert [item for item in kept.rglob("*") if item.name.startswith((".new-", ".old-"))] == []


def test_git_contexts(host: EngineProcess, server: SourceServer, repository: Path) -> None:
    url = server.url("/git/r.git")
    build(host, url)
    assert files_of(host, "/c") == [".dockerignore", "Dockerfile", "page", "sub/Dockerfile", "sub/inner"]
    again = build(host, f"{url}#main")
    assert b"CACHED" in again.stderr.split(b"COPY")[-1]
    build(host, f"{url}#main:sub")
    assert files_of(host, "/s") == ["Dockerfile", "inner"]
    build(host, f"{url}?branch=main&subdir=sub", "-f", "Dockerfile")
    old = git(repository, "rev-parse", "main~1")
    build(host, f"{url}#{old}")
    assert files_of(host, "/c") == ["Dockerfile", "page", "sub/Dockerfile"]
    build(host, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", url)
    assert ".git/HEAD" in files_of(host, "/c")
    build(host, "-f", "-", url, stdin=b"FROM busybox\nCOPY page /p/\n")
    assert files_of(host, "/p") == ["page"]
    nothing_left(host)


def test_equal_commits_give_equal_images(host: EngineProcess, server: SourceServer, repository: Path) -> None:
    url, ids = server.url("/git/r.git#main"), []
    for _ in range(2):
        options = ("--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
        build(host, *options, "-f", "-", url, stdin=b"FROM busybox\nCOPY . /c/\n")
        ids.append(host.text("inspect", "-f", "{{.Id}}", "made:1"))
        shutil.rmtree(host.data_root / "cache/sources/entries")
    assert ids[0] == ids[1]


def test_bad_git_contexts(host: EngineProcess, server: SourceServer, repository: Path) -> None:
    url = server.url("/git/r.git")
    failed(build(host, f"{url}#none", check=False), "does not contain ref none", url)
    failed(build(host, f"{url}#main:none", check=False), "the subdirectory 'none' does not exist", "#REF:SUBDIR")
    failed(build(host, f"{url}#main:page", check=False), "'page' is not a directory")
    failed(build(host, f"{url}#--upload-pack=touch", check=False), "invalid ref '--upload-pack=touch'")
    failed(build(host, "-f", "none", url, check=False), "open none: no such file or directory")
    failed(build(host, f"http://user:pa55word@{server.address}/git/none.git", check=False), "not found", "xxxxx")
    failed(build(host, "ssh://git@127.0.0.1:1/r.git", check=False), "Connection refused")
    failed(build(host, "file:///tmp/r.git", check=False), "the protocol 'file' is not fetched")
    assert "pa55word" not in host.log
    nothing_left(host)


def test_http_contexts(host: EngineProcess, server: SourceServer) -> None:
    files = tar_of(Dockerfile=DOCKERFILE, page="one\n", other__F="FROM busybox\nCOPY page /p/\n")
    server.files["/context.tgz"] = Answer(gzip.compress(files), headers={"ETag": '"1"'})
    server.files["/Dockerfile"] = Answer(b"FROM busybox\nRUN mkdir /m; echo made > /m/f\n")
    for _ in range(2):
        build(host, server.url("/context.tgz"))
        assert files_of(host, "/c") == ["Dockerfile", "other/F", "page"]
    assert server.bodies == ["/context.tgz"]
    build(host, "-f", "other/F", server.url("/context.tgz"))
    assert files_of(host, "/p") == ["page"]
    build(host, server.url("/Dockerfile"))
    assert files_of(host, "/m") == ["f"]
    server.files["/copying"] = Answer(b"FROM busybox\nCOPY x /\n")
    failed(build(host, server.url("/copying"), check=False), "this build has no context")
    failed(build(host, server.url("/none"), check=False), "answered 404", server.url("/none"))
    server.files["/F"] = Answer(b"FROM busybox\nCOPY page /q/\n")
    build(host, "-f", server.url("/F"), server.url("/context.tgz"))
    assert files_of(host, "/q") == ["page"]
    failed(build(host, "-f", server.url("/none"), server.url("/context.tgz"), check=False), "answered 404")
    server.files["/picture"] = Answer(b"\x89PNG\r\n\x1a\n\0\0")
    failed(build(host, server.url("/picture"), check=False), "neither a tar archive nor a Dockerfile")
    server.files["/cut"] = Answer(files[:2000])
    failed(build(host, server.url("/cut"), check=False), server.url("/cut"), "cut short")
    failed(build(host, "http://127.0.0.1:1/x", check=False), "check the address and the network")
    nothing_left(host)


def test_standard_input(host: EngineProcess) -> None:
    ignored = {"Dockerfile": DOCKERFILE, "page": "one\n", ".dockerignore": "page\nDockerfile\n"}
    data = tar_of(**ignored)
    for packed in (data, gzip.compress(data)):
        build(host, "-", stdin=packed)
        assert files_of(host, "/c") == [".dockerignore", "page"]  # a tar holds what its sender chose
    build(host, "-", stdin=b"FROM busybox\nRUN mkdir /m; echo made > /m/f\n")
    assert files_of(host, "/m") == ["f"]
    large = os.urandom(20_000_000).hex()
    build(host, "-f", "F", "-", stdin=tar_of(F="FROM busybox\nCOPY large /l/\n", large=large))
    assert files_of(host, "/l") == ["large"]
    failed(build(host, "-", stdin=data[:600], check=False), "build context", "cut short")
    failed(build(host, "-f", "-", "-", stdin=b"FROM x", check=False), "can't use stdin for both")
    failed(build(host, "-f", "none", "-", stdin=data, check=False), "open none: no such file")
    nothing_left(host)


def test_bad_tars(host: EngineProcess) -> None:
    def with_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as archive:
            add_file(archive, "Dockerfile", b"FROM busybox\nCOPY . /c/\n")
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        return sink.getvalue()

    outside = (
        (with_member("../evil"), "leads outside with '..'"),
        (with_member("/evil"), "absolute path"),
        (with_member("d/evil", tarfile.SYMTYPE, "../../etc"), "invalid symlink 'd/evil' -> '../../etc'"),
        (with_member("evil", tarfile.LNKTYPE, "../../etc/passwd"), "leads outside"),
    )
    for data, cause in outside:
        failed(build(host, "-", stdin=data, check=False), "build context", cause)
        done = host.docker("build", "-", stdin=data, check=False)
        assert done.returncode == 1 and cause in done.stderr.decode()
    zeros = io.BytesIO()
    with tarfile.open(fileobj=zeros, mode="w") as archive:
        add_file(archive, "Dockerfile", DOCKERFILE.encode())
        info = tarfile.TarInfo("zeros")
        info.size = 400 << 20
        archive.addfile(info, Zeros(info.size))
    bomb = gzip.compress(zeros.getbuffer(), 9)
    failed(build(host, "-", stdin=bomb, check=False), "over 200 to 1", "max_archive_ratio")
    nothing_left(host)


class Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        count = min(self.left, size)
        self.left -= count
        return bytes(count)


def test_dockers_command_line(host: EngineProcess, server: SourceServer, repository: Path, tmp_path: Path) -> None:
    data = tar_of(Dockerfile=DOCKERFILE, page="one\n")
    server.files["/context.tar"] = Answer(data)
    host.docker("build", "-t", "made:1", "-", stdin=data)
    assert files_of(host, "/c") == ["Dockerfile", "page"]
    host.docker("build", "-t", "made:1", "-", stdin=b"FROM busybox\nRUN mkdir /m; touch /m/f\n")
    assert files_of(host, "/m") == ["f"]
    host.docker("build", "-t", "made:1", server.url("/context.tar"))
    assert files_of(host, "/c") == ["Dockerfile", "page"]
    host.docker("build", "-t", "made:1", server.url("/git/r.git#main:sub"))
    assert files_of(host, "/s") == ["Dockerfile", "inner"]
    (tmp_path / "d").mkdir()
    for name, text in (("page", "one\n"), ("left", "x"), (".dockerignore", "left\nDockerfile\n.dockerignore\n")):
        (tmp_path / "d" / name).write_text(text)
    (tmp_path / "d/Dockerfile").write_text(DOCKERFILE)
    host.docker("build", "-t", "made:1", "--ulimit", "nofile=50:60", str(tmp_path / "d"))
    assert files_of(host, "/c") == ["page"]
    host.docker("build", "-t", "made:1", "-f", "-", str(tmp_path / "d"), stdin=b"FROM busybox\nCOPY . /c/\n")
    assert files_of(host, "/c") == ["page"]
    text = b"FROM busybox\nRUN ulimit -n | grep -x 50\n"
    host.docker("build", "--ulimit", "nofile=50:60", "-", stdin=text)
    limited = host.docker("build", "--memory", "100m", "-", stdin=b"FROM busybox\nRUN true\n")
    assert b"memory: not applied to RUN steps" in limited.stdout


def test_docker_py(host: EngineProcess, client: docker_py.DockerClient, server: SourceServer, repository: Path) -> None:
    data = tar_of(Dockerfile=DOCKERFILE, page="one\n")
    server.files["/context.tar"], server.files["/F"] = Answer(data), Answer(b"FROM busybox\nRUN mkdir /m; touch /m/f\n")
    client.images.build(fileobj=io.BytesIO(data), custom_context=True, tag="made:1")
    assert files_of(host, "/c") == ["Dockerfile", "page"]
    client.images.build(fileobj=io.BytesIO(gzip.compress(data)), custom_context=True, encoding="gzip", tag="made:1")
    client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN mkdir /m; touch /m/f\n"), tag="made:1")
    assert files_of(host, "/m") == ["f"]
    client.images.build(path=server.url("/git/r.git#main:sub"), tag="made:1")
    assert files_of(host, "/s") == ["Dockerfile", "inner"]
    client.images.build(path=server.url("/context.tar"), tag="made:1")
    assert files_of(host, "/c") == ["Dockerfile", "page"]
    client.images.build(path=server.url("/F"), tag="made:1")
    assert files_of(host, "/m") == ["f"]
    with pytest.raises((docker_py.errors.APIError, docker_py.errors.BuildError), match="does not contain ref none"):
        client.images.build(path=server.url("/git/r.git#none"))
    with pytest.raises((docker_py.errors.APIError, docker_py.errors.BuildError), match="answered 404"):
        client.images.build(path=server.url("/none"))


def test_add_from_servers(host: EngineProcess, server: SourceServer, repository: Path, tmp_path: Path) -> None:
    server.files["/t/tool.tgz"] = Answer(gzip.compress(tar_of(bin__tool="tool\n")), headers={"ETag": '"1"'})
    head = git(repository, "rev-parse", "HEAD")
    repo = server.url("/git/r.git")
    (tmp_path / "d").mkdir()
    lines = [
        f"ADD {server.url('/t/tool.tgz')} /plain/",
        f"ADD --unpack --chown=7:8 {server.url('/t/tool.tgz')} /unpacked/",
        f"ADD --checksum={head} --exclude=sub {repo}#main /repo/",
        f"ADD --keep-git-dir=true {repo} /kept/",
        f"ADD --chmod=0600 {repo}#main:sub /a/b/",
        "RUN stat -c '%n %u:%g %a' /unpacked/bin/tool /repo/page /a/b/inner; cat /unpacked/bin/tool",
    ]
    (tmp_path / "d/Dockerfile").write_text("\n".join(["FROM busybox", *lines]) + "\n")
    done = build(host, str(tmp_path / "d"))
    for line in ("/unpacked/bin/tool 7:8 644", "/repo/page 0:0 644", "/a/b/inner 0:0 600", "tool"):
        assert line in done.stderr.decode()
    assert files_of(host, "/repo") == [".dockerignore", "Dockerfile", "page"]
    assert files_of(host, "/plain") == ["tool.tgz"]
    assert ".git/HEAD" in files_of(host, "/kept") and files_of(host, "/a/b") == ["Dockerfile", "inner"]
    server.asked.clear()
    server.bodies.clear()
    again = build(host, str(tmp_path / "d"))
    assert again.stderr.count(b"CACHED") >= len(lines)
    assert server.bodies == []
    commit(repository, {"page": "two\n"}, "third")
    failed(build(host, str(tmp_path / "d"), check=False), "Dockerfile:4", f"expected checksum to match {head}")
    server.files.clear()
    failed(build(host, str(tmp_path / "d"), check=False), "Dockerfile:2", "answered 404")
    commit(repository, {".wh.page": "x"}, "whiteout")
    (tmp_path / "d/Dockerfile").write_text(f"FROM busybox\nADD {repo} /x/\n")
    failed(build(host, str(tmp_path / "d"), check=False), ".wh.page", "cannot be stored in a layer")


def test_named_contexts(host: EngineProcess, server: SourceServer, repository: Path, tmp_path: Path) -> None:
    for name in ("d", "files"):
        (tmp_path / name).mkdir()
    for name, text in (("kept", "k\n"), ("left", "l\n"), (".dockerignore", "left\n")):
        (tmp_path / "files" / name).write_text(text)
    server.files["/n.tar"] = Answer(tar_of(from__tar="t\n"))
    (tmp_path / "d/Dockerfile").write_text(
        "FROM nowhere.test/none AS replaced\nRUN false\n"
        "FROM docker.io/library/base:latest\n"
        "COPY --from=files / /files/\n"
        "COPY --from=replaced /page /replaced/\n"
        "COPY --from=tar from /tar/\n"
        "RUN --mount=from=files,target=/mounted ls -A /mounted > /listed\n"
        "RUN --mount=type=cache,from=files,target=/cached,id=named-files ls -A /cached >> /listed\n"
    )
    named = {
        "base": "docker-image://busybox",
        "files": str(tmp_path / "files"),
        "replaced": server.url("/git/r.git#main"),
        "tar": server.url("/n.tar"),
    }
    options = [part for name, value in named.items() for part in ("--build-context", f"{name}={value}")]
    build(host, *options, str(tmp_path / "d"))
    assert files_of(host, "/files") == [".dockerignore", "kept"]
    assert files_of(host, "/replaced") == ["page"] and files_of(host, "/tar") == ["tar"]
    assert host.text("run", "--rm", "made:1", "cat", "/listed").split() == [".dockerignore", "kept"] * 2
    assert build(host, *options, str(tmp_path / "d")).stderr.count(b"CACHED") >= 4
    (tmp_path / "files/left").write_text("changed\n")
    assert build(host, *options, str(tmp_path / "d")).stderr.count(b"CACHED") >= 4
    (tmp_path / "files/kept").write_text("changed\n")
    assert (
        b"CACHED"
        not in build(host, *options, str(tmp_path / "d")).stderr.split(b"COPY --from=files")[-1].split(b"#")[0]
    )
    (tmp_path / "d/Dockerfile").write_text("FROM files\nCOPY --from=files kept /again\n")
    build(host, *options, "--output", str(tmp_path / "out"), str(tmp_path / "d"))
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == [".dockerignore", "again", "kept"]
    bad = build(host, "--build-context", f"files={server.url('/none.tar')}", str(tmp_path / "d"), check=False)
    failed(bad, "failed to get build context files", "answered 404")


def test_a_client_that_leaves_while_its_source_is_fetched(host: EngineProcess, tmp_path: Path) -> None:
    """The server never answers: git is ended, and the engine can build again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/r.git"
        command = [sys.executable, "-m", "tare.cli.main", "--host", host.host, "build", url]
        with subprocess.Popen(command, env=host.environment(), stderr=subprocess.PIPE) as client:
            connection, _ = listener.accept()
            with connection:
                assert b"/r.git/info/refs" in connection.recv(4096)
                client.send_signal(signal.SIGINT)
                client.communicate(timeout=30)
                assert connection.recv(1) == b""  # the other end is gone: git has ended
    build(host, "-", stdin=b"FROM busybox\n")
    nothing_left(host)


def test_image_layouts(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/Dockerfile").write_text("FROM busybox\nENV MADE=yes\nRUN echo layout > /layout\n")
    archive = tmp_path / "layout.tar"
    host.tare("build", "-t", "lay:v1", "--output", f"type=oci,dest={archive}", str(tmp_path / "d"))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "layout", filter="data")
    (tmp_path / "d/Dockerfile").write_text("FROM base\nRUN test $MADE = yes && cat /layout\n")
    index = json.loads((tmp_path / "layout/index.json").read_text())
    digest = index["manifests"][0]["digest"]
    for ending in ("", ":v1", f"@{digest}"):
        layout = f"base=oci-layout://{tmp_path}/layout{ending}"
        assert b"layout" in build(host, "--no-cache", "--build-context", layout, str(tmp_path / "d")).stderr
    layout = f"base=oci-layout://{tmp_path}/layout@sha256:{'0' * 64}"
    failed(build(host, "--build-context", layout, str(tmp_path / "d"), check=False), "no such blob")
    config = tmp_path / "layout/blobs/sha256" / digest.removeprefix("sha256:")
    config.write_text(config.read_text() + " ")
    layout = f"base=oci-layout://{tmp_path}/layout"
    failed(build(host, "--build-context", layout, str(tmp_path / "d"), check=False), "does not match its digest")


def test_sources_that_lead_out_of_the_context(host: EngineProcess, tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    (place / "page").write_text("inside\n")
    (place / "out").symlink_to("/etc/hostname")
    (place / "up").symlink_to("../secret")
    (tmp_path / "secret").write_text("secret\n")
    for source, words in (
        ("../secret", ("../secret means /secret in it",)),
        ("a/../../secret", ("forbidden path outside the build context",)),
        ("out", ("the link out -> /etc/hostname leads out of it",)),
        ("up", ("the link up -> ../secret leads out of it",)),
    ):
        (place / "Dockerfile").write_text(f"FROM busybox\nCOPY {source} /x\n")
        shown = os.path.normpath(f"/{source}")
        failed(build(host, str(place), check=False), f'"{shown}": not found', "Dockerfile:2", *words)
    (place / "Dockerfile").write_text("FROM busybox\nCOPY ../page /x/\n")
    build(host, str(place))
    assert files_of(host, "/x") == ["page"]


def test_bombs_in_add(host: EngineProcess, tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 300 << 20
        archive.addfile(info, Zeros(info.size))
    (place / "bomb.tgz").write_bytes(gzip.compress(plain.getbuffer(), 9))
    (place / "Dockerfile").write_text("FROM busybox\nADD bomb.tgz /x/\n")
    failed(build(host, str(place), check=False), "bomb.tgz", "over 200 to 1", "max_archive_ratio", "Dockerfile:2")
    nothing_left(host)
