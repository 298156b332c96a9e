"""Docker's command line against a real engine: what a user sees of images, containers, streams and exit codes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker as docker_py
import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]

DOCKER = shutil.which("docker")
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "cat",
    "echo",
    "true",
    "false",
    "sleep",
    "md5sum",
    "sha256sum",
    "kill",
    "touch",
    "ls",
    "wc",
    "yes",
    "id",
)
IMAGE = "box:1"

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of an engine of this module's own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(prefix="tare-api-") as name:
        root = Path(name)
        ready, log = root / "s", root / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "tare.daemon.main", "--stop-containers", "--data-root", str(root / "data"),
                    "--run-root", str(root / "run"), "--socket", str(ready),
                ],
                stdout=sink,
                stderr=sink,
            )  # fmt: skip
        try:
            client = docker_py.DockerClient(f"unix://{ready}", version="1.43", timeout=60)
            _wait_until_served(process, ready, log)
            client.close()
            yield f"unix://{ready}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert process.returncode == 0, log.read_text()
        assert "Traceback" not in log.read_text()


def _wait_until_served(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    subprocess.run(
        ["sh", "-c", 'while ! [ -S "$0" ] && kill -0 "$1"; do sleep 0.05; done', str(path), str(process.pid)],
        timeout=60,
        check=True,
    )
    assert path.is_socket(), log.read_text()


def _rootfs() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(BUSYBOX.resolve(), "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(address: str) -> Run:
    """Runs the docker command; an image with a few programs is there."""
    if DOCKER is None or not BUSYBOX.exists():
        pytest.skip("needs the docker command and a static busybox")
    program = DOCKER

    def call(*arguments: str, stdin: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, "-H", address, *arguments], input=stdin, capture_output=True, timeout=timeout, check=False
        )

    imported = call("import", "-c", 'CMD ["echo", "default"]', "-", IMAGE, stdin=_rootfs())
    assert imported.returncode == 0, imported.stderr
    return call


@pytest.fixture
def box(run: Run) -> Iterator[str]:
    """A container that runs until it is stopped."""
    started = run("run", "-d", "--name", "sleeper", IMAGE, "sh", "-c", "echo begun; exec sleep 1000")
    assert started.returncode == 0, started.stderr
    yield "sleeper"
    run("rm", "-f", "sleeper")


def test_version_and_info(run: Run) -> None:
    assert b"Tare Engine" in run("version").stdout
    assert run("info", "--format", "{{.Driver}} {{.Swarm.LocalNodeState}}").stdout.split()[1:] == [b"inactive"]


def test_run_default_command(run: Run) -> None:
    ended = run("run", "--rm", IMAGE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"default\n", b"")


def test_run_streams_and_exit_code(run: Run) -> None:
    ended = run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"out\n", b"err\n")


def test_run_passes_binary_stdin_both_ways(run: Run) -> None:
    payload = os.urandom(3_000_000)
    ended = run("run", "--rm", "-i", IMAGE, "cat", stdin=payload)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert hashlib.sha256(ended.stdout).digest() == hashlib.sha256(payload).digest()


def test_run_end_of_stdin_reaches_the_process_while_output_goes_on(run: Run) -> None:
    ended = run("run", "--rm", "-i", IMAGE, "sh", "-c", "cat >/dev/null; echo after", stdin=b"x")
    assert ended.stdout == b"after\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((IMAGE, "no-such-program"), 127, b"executable file not found in $PATH"),
        (("--name", "x!", IMAGE), 125, b"Invalid container name (x!)"),
        (("registry.invalid/missing:1",), 125, b"registry.invalid/missing:1"),
        (("-p", "99999:80", IMAGE), 125, b"99999"),
        (("--network", "nowhere", IMAGE), 125, b"network nowhere not found"),
        (("-m", "1m", IMAGE), 125, b"Minimum memory limit allowed is 6MB"),
    ],
)
def test_run_that_cannot_be(run: Run, arguments: tuple[str, ...], code: int, message: bytes) -> None:
    before = run("ps", "-aq").stdout
    ended = run("run", "--rm", *arguments)
    assert ended.returncode == code
    assert message in ended.stderr
    assert run("ps", "-aq").stdout == before


def test_name_in_use(run: Run, box: str) -> None:
    ended = run("run", "--name", box, IMAGE)
    assert ended.returncode == 125
    assert b'The container name "/sleeper" is already in use' in ended.stderr


def test_exec_codes_streams_and_missing_program(run: Run, box: str) -> None:
    for _ in range(5):  # the code must be there at once when the streams end
        assert run("exec", box, "sh", "-c", "exit 9").returncode == 9
    ended = run("exec", "-i", box, "sh", "-c", "cat; echo err >&2", stdin=b"\x00\xffdata")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"\x00\xffdata", b"err\n")
    missing = run("exec", box, "no-such-program")
    assert missing.returncode == 127
    assert b"executable file not found" in missing.stdout + missing.stderr


def test_exec_in_a_stopped_container(run: Run, box: str) -> None:
    assert run("stop", "-t", "0", box).returncode == 0
    ended = run("exec", box, "true")
    assert ended.returncode == 1
    assert b"is not running" in ended.stderr


def test_ps_logs_inspect_stop(run: Run, box: str, address: str) -> None:
    assert DOCKER is not None
    with subprocess.Popen([DOCKER, "-H", address, "logs", "-f", box], stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"begun\n"
        following.terminate()
    assert run("logs", box).stdout == b"begun\n"
    assert b"begun" in run("logs", "--tail", "1", "-t", box).stdout
    listed = run("ps", "--format", "{{.Names}} {{.Image}} {{.Status}}").stdout
    assert b"sleeper box:1 Up " in listed
    assert run("inspect", "-f", "{{.State.Status}} {{.NetworkSettings.IPAddress}}", box).stdout.startswith(b"running 1")
    assert run("kill", "-s", "KILL", box).returncode == 0
    assert run("wait", box).stdout == b"137\n"
    assert b"Exited (137)" in run("ps", "-a", "--format", "{{.Status}}").stdout


def test_logs_follow_ends_with_the_container(run: Run) -> None:
    assert run("run", "-d", "--name", "counter", IMAGE, "sh", "-c", "echo 1; sleep 0.3; echo 2").returncode == 0
    try:
        assert run("logs", "-f", "counter").stdout == b"1\n2\n"
    finally:
        run("rm", "-f", "counter")


def test_remove_a_running_container_needs_force(run: Run, box: str) -> None:
    refused = run("rm", box)
    assert refused.returncode == 1
    assert b"stop the container before removing or force remove" in refused.stderr
    assert run("rm", "-f", box).returncode == 0


def test_volume_outlives_its_container(run: Run) -> None:
    assert run("volume", "create", "kept").stdout == b"kept\n"
    assert run("run", "--rm", "-v", "kept:/data", IMAGE, "touch", "/data/here").returncode == 0
    assert run("run", "--rm", "-v", "kept:/data", IMAGE, "ls", "/data").stdout == b"here\n"
    assert run("volume", "rm", "kept").returncode == 0


def test_build_run_and_failures(run: Run, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    (tmp_path / "word").write_text("content\n")
    dockerfile.write_text('FROM box:1\nCOPY word /word\nRUN cat /word > /made\nCMD ["cat", "/made"]\n')
    built = run("build", "-t", "made:1", str(tmp_path))
    assert built.returncode == 0, built.stderr
    assert b"Step 1/4 : FROM box:1\n" in built.stdout
    assert b"Successfully tagged made:1\n" in built.stdout
    assert run("run", "--rm", "made:1").stdout == b"content\n"
    assert b"Using cache" in run("build", "-t", "made:1", str(tmp_path)).stdout
    dockerfile.write_text("FROM box:1\nRUN echo why; exit 5\n")
    failed = run("build", str(tmp_path))
    assert (failed.returncode, b"why\n" in failed.stdout) == (5, True)
    assert b"returned a non-zero code: 5\nDockerfile:2" in failed.stderr
    dockerfile.write_text("FROM box:1\nRUNX a\n")
    assert b"unknown instruction: RUNX" in run("build", str(tmp_path)).stderr
    assert run("rmi", "made:1").returncode == 0


def test_docker_py(address: str, run: Run) -> None:
    client = docker_py.DockerClient(address, timeout=60)
    try:
        assert client.ping()
        assert client.containers.run(IMAGE, ["echo", "from python"], remove=True) == b"from python\n"
        with pytest.raises(docker_py.errors.ContainerError) as caught:
            client.containers.run(IMAGE, ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
        assert caught.value.exit_status == 4
        container = client.containers.run(IMAGE, ["sleep", "1000"], detach=True, name="py")
        try:
            code, output = container.exec_run(["sh", "-c", "echo o; echo e >&2; exit 6"], demux=True)
            assert (code, output) == (6, (b"o\n", b"e\n"))
            container.reload()
            assert container.status == "running"
        finally:
            container.remove(force=True)
        with pytest.raises(docker_py.errors.NotFound):
            client.containers.get("py")
        assert [image.tags for image in client.images.list("box")] == [[IMAGE]]
    finally:
        client.close()
