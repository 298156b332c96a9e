"""Several clients on one container's streams, clients that vanish, and many bytes."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine_process import EngineProcess, docker_program

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MIB = 1 << 20
MANY = 128 * MIB
PIECE = 8 * MIB
ROOM = 48 << 10
"""KiB by which the engine may grow while many bytes pass by it."""


def read_until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    assert process.stdout is not None
    seen = b""
    while words not in seen:
        assert select.select([process.stdout], [], [], 30)[0], (words, seen)
        data = os.read(process.stdout.fileno(), 65536)
        assert data, (words, seen)
        seen += data
    return seen


def send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


@contextmanager
def ending(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the processes when a test fails, which would wait for them forever."""
    try:
        yield
    except BaseException:
        for process in processes:
            process.kill()
        raise


def descriptors(host: EngineProcess) -> int:
    return len(os.listdir(f"/proc/{host.pid}/fd"))


def test_two_clients_see_the_same_and_both_may_write(host: EngineProcess) -> None:
    host.docker("run", "-di", "--name", "shared", "busybox", "cat")
    with (
        host.start_docker("attach", "shared") as first,
        host.start_docker("attach", "shared") as second,
        ending(first, second),
    ):
        while not select.select([second.stdout], [], [], 0.2)[0]:  # what comes before it is there it does not see
            send(first, b"is the second here?\n")
        for number, writer in enumerate((first, second)):
            send(writer, b"from %d\n" % number)
            for reader in (first, second):
                read_until(reader, b"from %d\n" % number)
        host.docker("kill", "shared")
        assert (first.wait(30), second.wait(30)) == (137, 137)


def test_clients_that_vanish_leave_the_container_alone(host: EngineProcess) -> None:
    script = "i=0; while :; do i=$((i+1)); echo line $i; read -t 0.02 x; done"
    host.docker("run", "-di", "--name", "talks", "busybox", "sh", "-c", script)
    before = descriptors(host)
    for words in (("attach", "talks"), ("logs", "-f", "talks"), ("exec", "-i", "talks", "cat")):
        with host.start_docker(*words) as client:
            if words[0] == "exec":
                send(client, b"line\n")
            read_until(client, b"line")
            client.kill()
    assert host.text("inspect", "-f", "{{.State.Status}}", "talks") == "running"
    with host.start_docker("attach", "talks") as late:
        read_until(late, b"line")
        late.kill()
    host.docker("kill", "talks")
    host.docker("wait", "talks")
    host.docker("events", "--since", "1m", "--until", "0s")  # by now the engine has seen them go
    assert descriptors(host) <= before


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Random bytes, and what they hash to; a piece is repeated, as making them all takes longer than carrying them."""
    path = tmp_path_factory.mktemp("many") / "bytes"
    piece = os.urandom(PIECE)
    with path.open("wb") as file:
        for _ in range(MANY // PIECE):
            file.write(piece)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def told(command: list[str], environment: dict[str, str], source: Path | None = None) -> str:
    """The hash of what a program writes."""
    found = hashlib.sha256()
    with (
        (source or Path("/dev/null")).open("rb") as given,
        subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, env=environment) as process,
    ):
        assert process.stdout is not None
        while data := process.stdout.read(MIB):
            found.update(data)
    assert process.returncode == 0
    return found.hexdigest()


@pytest.mark.timeout(180)
def test_many_bytes_arrive_and_take_no_memory(host: EngineProcess, many: tuple[Path, str]) -> None:
    path, expected = many
    volume = ("-v", f"{path.parent}:/m:ro")
    environment, programs = host.environment(), ([docker_program()], host.tare_command())
    before = host.peak_memory
    for program in programs:
        out = [*program, "run", "--rm", "--log-driver", "none", *volume, "busybox", "cat", "/m/bytes"]
        assert told(out, environment) == expected
    through = [*host.tare_command("run"), "--rm", "-i", "--log-driver", "none", "busybox", "cat"]
    assert told(through, environment, path) == expected
    for number, program in enumerate(programs):
        name = f"waits{number}"
        start = ("create", "--name", name, "-i", "--log-driver", "none", *volume, "busybox", "sh", "-c")
        host.docker(*start, "read go; exec cat /m/bytes")
        host.docker("start", name)
        (path.parent / "go").write_bytes(b"go\n")
        assert told([*program, "attach", name], environment, path.parent / "go") == expected
    host.docker(
        "run", "--name", "kept", "--log-opt", "max-size=1g", *volume, "busybox", "base64", "-w", "1000", "/m/bytes"
    )
    logged = [told([*program, "logs", "kept"], environment) for program in programs]
    assert logged == [hashlib.sha256(in_lines(path)).hexdigest()] * 2
    assert host.peak_memory - before < ROOM


def in_lines(path: Path) -> bytes:
    return subprocess.run(["base64", "-w", "1000", path], check=True, capture_output=True).stdout
