"""Files in and out of containers, their changes, images of them, and what they use."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from engine_process import EngineProcess, add_file

pytestmark = [pytest.mark.root, pytest.mark.e2e]

PREPARE = "mkdir -p /d/e; echo hi > /d/f; ln -s f /d/l; ln -s ../../../../../etc/passwd /d/up; echo ready; sleep 1000"


def start(host: EngineProcess, *options: str, script: str = PREPARE) -> str:
    """A running container ``cc`` whose script has said that it is ready."""
    host.docker("run", "-d", "--name", "cc", *options, "busybox", "sh", "-c", script)
    with host.start_docker("logs", "-f", "cc") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"ready\n"
        logs.kill()
    return "cc"


def names(data: bytes) -> list[str]:
    """The names in a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def test_copies_of_a_running_a_paused_and_a_stopped_container(host: EngineProcess, tmp_path: Path) -> None:
    start(host)
    for state in ("running", "paused", "exited"):
        if state == "paused":
            host.docker("pause", "cc")
        if state == "exited":
            host.docker("rm", "-f", "cc")
            host.docker("create", "--name", "cc", "busybox", "sh", "-c", "cat /in/s/f")
            (tmp_path / "in").mkdir()
            host.docker("cp", f"{tmp_path}/in", "cc:/")
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s/f").write_text(state)
        host.docker("cp", f"{tmp_path}/s", "cc:/in" if state == "exited" else "cc:/d")
        place = "/in/s/f" if state == "exited" else "/d/s/f"
        host.docker("cp", f"cc:{place}", f"{tmp_path}/back")
        assert (tmp_path / "back").read_text() == state
    assert host.docker("start", "-a", "cc").stdout == b"exited"


def test_copies_go_through_volumes_and_respect_read_only(host: EngineProcess, tmp_path: Path) -> None:
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir()
    (tmp_path / "ro/f").write_text("bound")
    host.docker(
        "create", "--name", "cc", "-v", "filesvol:/vol", "-v", f"{tmp_path}/rw:/rw", "-v", f"{tmp_path}/ro:/ro:ro",
        "--read-only", "busybox", "cat", "/vol/f",
    )  # fmt: skip
    try:
        (tmp_path / "f").write_text("data")
        for place in ("/vol/f", "/rw/f"):
            host.docker("cp", f"{tmp_path}/f", f"cc:{place}")
        assert (tmp_path / "rw/f").read_text() == "data"
        assert host.docker("start", "-a", "cc").stdout == b"data"
        assert names(host.docker("cp", "cc:/ro/f", "-").stdout) == ["f"]
        for place, cause in (("/ro/x", "mounted volume is marked read-only"), ("/x", "rootfs is marked read-only")):
            failed = host.docker("cp", f"{tmp_path}/f", f"cc:{place}", check=False)
            assert (failed.returncode, cause in failed.stderr.decode()) == (1, True)
        assert not (tmp_path / "ro/x").exists()
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    finally:
        host.docker("rm", "-f", "cc")
        host.docker("volume", "rm", "filesvol")


def test_no_link_leads_out_of_a_container(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    links = f"ln -s {tmp_path}/secret /link; ln -s {tmp_path} /dir; mkdir -p {tmp_path}"
    start(host, script=f"{links}; echo ready; sleep 1000")
    for arguments in (("-L", "cc:/link"), ("cc:/dir/secret",)):
        failed = host.docker("cp", *arguments, f"{tmp_path}/out", check=False)
        assert failed.returncode == 1
        assert not (tmp_path / "out").is_file()
    (tmp_path / "f").write_text("from outside")
    host.docker("cp", f"{tmp_path}/f", "cc:/dir/secret")
    assert (tmp_path / "secret").read_text() == "host"
    assert host.text("exec", "cc", "cat", f"{tmp_path}/secret") == "from outside"


def test_big_files_are_streamed(host: EngineProcess, tmp_path: Path) -> None:
    size = 192 << 20
    with (tmp_path / "big").open("wb") as big:
        big.truncate(size)
    start(host)
    before = host.peak_memory
    host.docker("cp", f"{tmp_path}/big", "cc:/big")
    assert host.text("exec", "cc", "stat", "-c", "%s", "/big") == str(size)
    host.docker("cp", "cc:/big", f"{tmp_path}/back")
    assert (tmp_path / "back").stat().st_size == size
    assert host.peak_memory - before < 64 << 10


def test_a_reader_that_goes_away_leaves_nothing(host: EngineProcess, client: docker_py.DockerClient) -> None:
    start(host, script="dd if=/dev/zero of=/big bs=1M count=64 2>&-; echo ready; sleep 1000")
    container = client.containers.get("cc")
    stream, found = container.get_archive("/big")
    assert (found["name"], found["size"]) == ("big", 64 << 20)
    next(iter(stream))
    stream.close()
    container.kill()
    assert container.wait()["StatusCode"] == 137
    host.docker("rm", "cc")


def test_a_container_at_rest_is_read_and_written_at_once_and_starts_afterwards(
    host: EngineProcess, client: docker_py.DockerClient, tmp_path: Path
) -> None:
    host.docker("create", "--name", "cc", "busybox", "cmp", "/big", "/copy/big")
    (tmp_path / "copy").mkdir()
    (tmp_path / "big").write_bytes(os.urandom(16 << 20))
    host.docker("cp", f"{tmp_path}/copy", "cc:/")
    host.docker("cp", f"{tmp_path}/big", "cc:/big")
    container = client.containers.get("cc")
    stream, _ = container.get_archive("/big", chunk_size=1 << 16)
    begun = next(iter(stream))  # the engine reads the container's files from now on
    assert container.put_archive("/copy", itertools.chain([begun], stream))
    with host.start_docker("start", "-a", "cc") as started:
        output, errors = started.communicate(timeout=60)
        assert (started.returncode, output, errors) == (0, b"", b"")
    assert str(host.run_root / "rootfs") not in Path("/proc/self/mountinfo").read_text()


def test_a_killed_engine_leaves_no_mount_of_a_copy(host: EngineProcess, client: docker_py.DockerClient) -> None:
    host.docker("create", "--name", "cc", "busybox", "true")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        add_file(archive, "big", bytes(32 << 20))
    host.docker("cp", "-", "cc:/", stdin=data.getvalue())
    stream, _ = client.containers.get("cc").get_archive("/big")
    next(iter(stream))
    assert str(host.run_root / "rootfs") in Path("/proc/self/mountinfo").read_text()
    host.restart()
    assert str(host.run_root / "rootfs") not in Path("/proc/self/mountinfo").read_text()
    assert host.docker("start", "-a", "cc").returncode == 0
    stream.close()


def test_diff_export_and_commit(host: EngineProcess) -> None:
    start(host)
    host.docker("exec", "cc", "rm", "/etc/group")
    expected = "A /d\nA /d/e\nA /d/f\nA /d/l\nA /d/up\nC /etc\nD /etc/group\n"
    assert host.docker("diff", "cc").stdout.decode() == host.tare("diff", "cc").stdout.decode() == expected
    exported = host.docker("export", "cc").stdout
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        assert {"d/f", "bin/busybox"} <= set(archive.getnames())
        assert "etc/group" not in archive.getnames()
    host.docker("commit", "-a", "me", "-m", "why", "-c", "CMD cat /d/f", "-c", "ENV A=$PATH", "cc", "files-made:1")
    try:
        assert host.docker("run", "--rm", "files-made:1").stdout == b"hi\n"
        image = json.loads(host.text("image", "inspect", "files-made:1"))[0]
        assert (image["Author"], image["Comment"], len(image["RootFS"]["Layers"])) == ("me", "why", 2)
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        assert image["Config"]["Env"] == [f"PATH={path}", f"A={path}"]
        assert host.docker("run", "--rm", "files-made:1", "cat", "/etc/group", check=False).returncode == 1
        assert host.text("inspect", "-f", "{{.State.Status}}", "cc") == "running"
    finally:
        host.docker("rmi", "files-made:1")


def test_own_command_line_copies_alike(host: EngineProcess, tmp_path: Path) -> None:
    start(host)
    host.docker("exec", "cc", "rm", "/d/up")  # docker's own client refuses links that lead up
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/f").write_text("1")
    for number, (source, target) in enumerate(
        [("src", "/new"), ("src", "/d"), ("src/.", "/d/e"), ("src/sub/f", "/d/named"), ("src/sub/f", "/d/")]
    ):
        for program in (host.docker, host.tare):
            program("exec", "cc", "rm", "-rf", "/new", "/d/src", "/d/e/sub", "/d/named")
            program("cp", f"{tmp_path}/{source}", f"cc:{target}")
            listed = host.text("exec", "cc", "find", "/d", *(["/new"] if number == 0 else []))
            (tmp_path / program.__name__).write_text(listed)
        assert (tmp_path / "docker").read_text() == (tmp_path / "tare").read_text()
    for number, source in enumerate(["/d", "/d/.", "/d/f", "/d/l", "/bin/sh"]):
        for program in (host.docker, host.tare):
            program("cp", f"cc:{source}", f"{tmp_path}/{program.__name__}{number}")
        pair = [tmp_path / f"{name}{number}" for name in ("docker", "tare")]
        assert described(pair[0]) == described(pair[1])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_file(archive, "piped", b"x")
    host.tare("cp", "-", "cc:/d", stdin=stream.getvalue())
    assert names(host.tare("cp", "cc:/d/piped", "-").stdout) == ["piped"]
    for arguments, cause in (
        (("cc:/nope", f"{tmp_path}/x"), "Could not find the file /nope in container cc"),
        ((f"{tmp_path}/src", "cc:/d/f"), "cannot copy directory"),
        (("a", "b"), "must specify at least one container source"),
        (("cc:/d", "cc:/e"), "copying between containers is not supported"),
    ):
        failed = host.tare("cp", *arguments, check=False)
        assert (failed.returncode, cause in failed.stderr.decode()) == (1, True), failed.stderr


def described(path: Path) -> list[tuple[str, int, int]]:
    """Names, modes and sizes of a tree."""
    found = [path, *sorted(path.rglob("*"))] if path.is_dir() and not path.is_symlink() else [path]
    return [(str(one.relative_to(path)), one.lstat().st_mode, one.lstat().st_size) for one in found]


def test_usage_of_a_container(host: EngineProcess, client: docker_py.DockerClient) -> None:
    start(host, "--memory", "32m", "--pids-limit", "20")
    samples = client.containers.get("cc").stats(decode=True)
    first, second = next(samples), next(samples)
    samples.close()
    assert (first["name"], first["preread"], second["preread"]) == ("/cc", "0001-01-01T00:00:00Z", first["read"])
    assert second["memory_stats"]["limit"] == 32 << 20
    assert second["pids_stats"]["limit"] == 20
    assert second["pids_stats"]["current"] in (1, 2)
    assert second["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert second["networks"]["eth0"]["rx_bytes"] >= 0
    template = "{{.Name}} {{.Container}}"
    for program in (host.docker, host.tare):
        assert program("stats", "--no-stream", "--format", template, "cc").stdout.decode().split() == ["cc", "cc"]
        assert program("stats", "--no-stream", "nope", check=False).returncode == 1
    host.docker("stop", "-t", "0", "cc")
    stopped: dict[str, Any] = client.containers.get("cc").stats(stream=False)
    assert (stopped["memory_stats"], stopped["read"]) == ({}, "0001-01-01T00:00:00Z")


def test_limits_of_a_running_container_change_at_once(host: EngineProcess, client: docker_py.DockerClient) -> None:
    start(host, "--memory", "32m")
    limits = ("--memory", "64m", "--memory-swap", "64m", "--pids-limit", "30", "--restart", "on-failure:2")
    host.tare("update", *limits, "cc")
    sample = client.containers.get("cc").stats(stream=False)
    assert (sample["memory_stats"]["limit"], sample["pids_stats"]["limit"]) == (64 << 20, 30)
    refused = host.docker("update", "--memory-swap", "65m", "--memory", "66m", "cc", check=False)
    assert (refused.returncode, b"Minimum memoryswap limit" in refused.stderr) == (1, True)
    stored = json.loads(host.text("inspect", "-f", "{{json .HostConfig}}", "cc"))
    assert (stored["Memory"], stored["MemorySwap"], stored["PidsLimit"]) == (64 << 20, 64 << 20, 30)
    assert stored["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}


def test_events_of_files_and_limits(host: EngineProcess, client: docker_py.DockerClient) -> None:
    since = client.info()["SystemTime"]
    start(host)
    host.docker("cp", "cc:/d/f", "-")
    host.docker("cp", "-", "cc:/d", stdin=host.docker("cp", "cc:/d/f", "-").stdout)
    host.docker("export", "cc")
    host.docker("top", "cc")
    image = host.text("commit", "-m", "why", "cc")
    host.docker("update", "--cpus", "1", "cc")
    host.docker("rmi", image)
    stream = client.events(since=since, until=client.info()["SystemTime"], decode=True, filters={"container": "cc"})
    found = {event["Action"]: event["Actor"]["Attributes"] for event in stream}
    expected = {"archive-path", "extract-to-dir", "export", "top", "commit", "update", "pause", "unpause"}
    assert expected <= set(found)
    assert (found["commit"]["comment"], found["commit"]["imageID"]) == ("why", image)
