"""Images from ``distroless.yaml``: built by every client, run, proven, locked; what is wrong is told by all."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.network]

PAGE = Path(__file__).parents[2] / "docs" / "distroless-file.md"
PROGRAM = '#include <iostream>\nint main() { std::cout << "from C++" << std::endl; }\n'


def from_the_page(context: Path, *names: str) -> None:
    """Files as the documentation shows them: blocks that begin with ``# name``."""
    blocks = re.findall(r"^```\w+\n(# (\S+)\n.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    found = {name: text for text, name in blocks}
    for name in names:
        (context / name).write_text(found[name])


@pytest.fixture
def declared(host: EngineProcess) -> Iterator[EngineProcess]:
    """The session's engine; images called ``declared:…`` are removed after the test."""
    yield host
    host.remove_containers()
    if names := host.text("images", "-q", "declared").split():
        host.docker("rmi", "-f", *names)


def events(host: EngineProcess, *arguments: str) -> list[dict[str, Any]]:
    done = host.tare("build", "--progress", "rawjson", *arguments)
    return [json.loads(line) for line in done.stderr.splitlines()]


def refused(host: EngineProcess, context: Path, *options: str) -> str:
    done = host.tare("build", *options, str(context), check=False)
    assert done.returncode == 1
    return done.stderr.decode()


def test_a_python_service(declared: EngineProcess, client: docker_py.DockerClient, tmp_path: Path) -> None:
    from_the_page(tmp_path, "distroless.yaml", "app.py")
    unnamed = declared.text("images", "-q", "-f", "dangling=true")
    file = ("-f", str(tmp_path / "distroless.yaml"))
    nameless = declared.text("images", "-q", "-f", "dangling=true").split()
    built = declared.docker("build", "-t", "declared:shop", *file, str(tmp_path)).stdout.decode()
    assert re.search(r"^Step 1/\d+ : ASSEMBLE python3$", built, re.MULTILINE)
    image = declared.text("inspect", "-f", "{{.Id}}", "declared:shop")
    assert declared.text("images", "-q", "-f", "dangling=true").split() == nameless  # nothing is left but the image

    again = events(declared, "-t", "declared:again", *file, str(tmp_path))
    assert {event["cached"] for event in again if event["event"] == "done"} == {True}
    by_library, _ = client.images.build(path=str(tmp_path), dockerfile="distroless.yaml", tag="declared:library")
    assert (again[-1]["image_id"], by_library.id) == (image, image)
    assert declared.text("images", "-q", "-f", "dangling=true") == unnamed, "packages are no image without a name"
    proof = declared.tare("audit", "--distroless", "declared:shop").stdout.decode()
    assert "the proof holds: /usr/bin/python3" in proof

    running = declared.start_docker("run", "--rm", "--name", "shop", "--read-only", "declared:shop")
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"listening\n"
        address = declared.text("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "shop")
        connection = http.client.HTTPConnection(address, 8080, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"user 65532 says hello\n"
        connection.close()
        declared.docker("stop", "shop")
        assert running.wait(30) == 0


def test_what_is_compiled_comes_from_a_stage(declared: EngineProcess, tmp_path: Path) -> None:
    context, other = tmp_path / "context", tmp_path / "other"
    for directory in (context, other):
        directory.mkdir()
    from_the_page(context, "hello.yaml")
    (tmp_path / "hello.cpp").write_text(PROGRAM)
    subprocess.run(["g++", "-o", context / "compiled", tmp_path / "hello.cpp"], check=True)
    (context / "Dockerfile").write_text(
        "FROM busybox AS build\nARG NAME=hello\nCOPY compiled /\nRUN cp /compiled /$NAME\n\n"
        "FROM busybox AS never\nRUN exit 9\n\n"
        "FROM ./hello.yaml AS derived\nENV ON_TOP=1\n\n"
        "FROM rt AS other\nCOPY --from=./hello.yaml /usr/local/bin/hello /hello\n"
    )
    (other / "own").write_text("own\n")
    (other / "rt.yaml").write_text("base: cc\nfiles: [{source: own, target: /own}]\nentrypoint: [/hello]\n")

    declared.tare("build", "-t", "declared:hello", "-f", str(context / "hello.yaml"), str(context))
    assert declared.text("run", "--rm", "--read-only", "declared:hello") == "from C++"
    weighed = json.loads(declared.tare("weigh", "--json", "declared:hello").stdout)
    assert [layer["stage"] for layer in weighed["by"]["layer"]] == ["FROM packages of hello.yaml", "hello.yaml"]

    declared.docker("build", "-t", "declared:derived", "--target", "derived", str(context))
    assert declared.text("run", "--rm", "declared:derived") == "from C++"
    config = json.loads(declared.text("inspect", "-f", "{{json .Config}}", "declared:derived"))
    assert (config["User"], config["Env"][-1]) == ("65532", "ON_TOP=1")

    named = ("--build-context", f"rt={other / 'rt.yaml'}")
    declared.tare("build", "-t", "declared:other", *named, str(context))
    assert declared.text("run", "--rm", "declared:other") == "from C++"
    stage = declared.tare("build", "-q", "-f", str(context / "hello.yaml"), "--target", "build", str(context))
    assert declared.text("run", "--rm", stage.stdout.decode().strip(), "ls", "/hello") == "/hello"
    assert "--no-cache-filter" not in refused(declared, context, "--target", "never")  # it is built when asked for


def test_the_lock_file(declared: EngineProcess, tmp_path: Path) -> None:
    file, lock = tmp_path / "small.yaml", tmp_path / "small.lock"
    file.write_text("base: static\n")
    build = ("build", "-t", "declared:small", "-f", str(file), str(tmp_path))
    first = declared.tare("build", "--update-lock", *build[1:]).stderr.decode()
    packages = [line.split()[1] for line in lock.read_text().splitlines() if "sha256:" in line]
    assert f"small.lock written\n  amd64: {len(packages)} packages\n" in first
    assert packages == sorted(packages)
    text = lock.read_text()
    assert "small.lock is up to date" in declared.tare("build", "--update-lock", *build[1:]).stderr.decode()
    locked = declared.tare(*build).stderr.decode()
    assert "archive" not in locked, "a build with a lock and its packages needs no archive"
    image = declared.text("inspect", "-f", "{{.Id}}", "declared:small")

    lock.write_text(re.sub(r"tzdata \S+", "tzdata 2000a-1", text))
    assert "small.lock:" in refused(declared, tmp_path, "-f", str(file))
    updated = declared.tare("build", "--update-lock", *build[1:]).stderr.decode()
    assert re.search(r"^small\.lock written\n  amd64: tzdata 2000a-1 → \S+$", updated, re.MULTILINE)
    assert lock.read_text() == text

    file.write_text("base: static\npackages: [media-types]\n")
    stale = declared.docker(*build, check=False).stderr.decode()
    assert "small.lock was made for another small.yaml: media-types came to packages later" in stale
    changed = declared.tare("build", "--update-lock", *build[1:]).stderr.decode()
    assert re.search(r"^  amd64: \+ media-types \S+$", changed, re.MULTILINE)
    declared.docker(*build)
    assert declared.text("inspect", "-f", "{{.Id}}", "declared:small") != image
    lock.write_text(f"{lock.read_text()}<<<<<<<\n")
    assert "small.lock: not YAML" in refused(declared, tmp_path, "-f", str(file))


def test_a_file_outside_of_the_context(declared: EngineProcess, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "page").write_text("page\n")
    file = tmp_path / "out.yaml"
    file.write_text("files: [{source: page, target: /srv/page}]\nvolumes: [/srv/data]\n")
    options = ("-t", "declared:out", "-f", str(file), str(context))
    declared.tare("build", *options)
    assert not list(tmp_path.glob("*.lock"))
    declared.tare("build", "--update-lock", *options)
    assert (tmp_path / "out.lock").exists() and not list(context.glob("*.lock"))
    assert b"archive" not in declared.tare("build", *options).stderr
    written = tmp_path / "image.tar"
    declared.tare("build", "-o", f"type=tar,dest={written}", *options)
    with tarfile.open(written) as archive:
        assert {name: archive.getmember(name).uid for name in ("srv/data", "srv/page")} == {
            "srv/data": 65532,
            "srv/page": 0,
        }
    declared.tare("build", *options, environ={"SOURCE_DATE_EPOCH": "1000000000"})
    assert declared.text("inspect", "-f", "{{.Created}}", "declared:out") == "2001-09-09T01:46:40Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base: static\npakages: [curl]\n", "unknown field pakages (did you mean packages?)"),
        ("packages:\n- name: tzdata\n  slices: [zoneinf]\n", "package tzdata has no slice zoneinf\nthe.yaml:3\n"),
        ("base: cd\n", "the.yaml:1\n"),
        ("packages:\n- no-such-package\n", "no-such-package is not in the archive\nthe.yaml:2\n"),
        ("files:\n- source: none\n  target: /none\n", '"/none": not found in the build context\nthe.yaml:2\n'),
        ("architectures: [arm]\n", "the.yaml is not for linux/amd64, but for arm\nthe.yaml:1\n"),
        ("user: ghost\nvolumes: [/data]\n", "user 'ghost': no such entry in the image's /etc/passwd"),
    ],
    ids=["field", "slice", "base", "package", "source", "architecture", "user"],
)
def test_what_is_wrong(declared: EngineProcess, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "the.yaml").write_text(text)
    assert said in refused(declared, tmp_path, "-t", "declared:never", "-f", str(tmp_path / "the.yaml"))
    assert declared.text("images", "-q", "declared:never") == ""


def test_updates_have_a_place_to_write_to(declared: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    assert "nothing in it is locked" in refused(declared, tmp_path, "--update-lock")
    assert "needs a build" in refused(declared, tmp_path, "--update-lock", "--plan")
    done = declared.tare("build", "--update-lock", "https://127.0.0.1/x.git", check=False)
    assert b"writes beside the file that is built" in done.stderr
