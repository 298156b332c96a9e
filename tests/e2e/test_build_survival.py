"""Builds that are cut short: by a killed engine, a stopped one, Ctrl-C, a client that goes away."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_order import assert_no_build_left, query, stop_without_cleaning
from engine_process import EngineProcess
from file_events import IN_CREATE, IN_DELETE, IN_MODIFY, FileEvents, watching

pytestmark = [pytest.mark.root, pytest.mark.e2e]

FINISHED = "FROM busybox\nRUN echo first > /first\nCOPY page /page\nRUN echo second > /second\n"
TARE = (sys.executable, "-m", "tare.cli.main")
POST = "POST /v1.51/build HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n"
FOREVER = "sleep 98765.4"
WAITING = (
    f"RUN --mount=type=cache,target=/c --mount=type=bind,rw,target=/b --mount=type=bind,from=busybox,target=/i "
    f"--mount=type=secret,id=none touch /c/f /b/f; echo be''gun; {FOREVER}\n"
)


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine that may be killed."""
    engine = EngineProcess.make()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


@pytest.fixture
def context(own: EngineProcess, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "page").write_text("page\n")
    own.tare("builder", "prune", "-a", "-f")
    yield tmp_path
    assert_no_build_left(own, FOREVER)


def start_build(engine: EngineProcess, context: Path, text: str) -> subprocess.Popen[bytes]:
    """``tare build`` that goes on."""
    (context / "Dockerfile").write_text(text)
    command = [*TARE, "--host", engine.host, "build", "--progress", "plain", str(context)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=engine.environment())


def wait_for(build: subprocess.Popen[bytes], word: bytes, count: int = 1) -> None:
    """Return when the build has said ``word`` this often; keep its pipe empty afterwards."""
    stream = build.stderr
    assert stream is not None
    said = b""
    for line in stream:
        said += line
        count -= word in line
        if not count:
            threading.Thread(target=stream.read, daemon=True).start()
            return
    raise AssertionError(f"{word!r} has not come:\n{said.decode()}")


def end(build: subprocess.Popen[bytes]) -> int:
    code = build.wait(60)
    assert build.stderr is not None
    build.stderr.close()
    return code


def cached(engine: EngineProcess, context: Path, text: str) -> list[bool]:
    """Whether each instruction after FROM came from the cache."""
    (context / "Dockerfile").write_text(text)
    said = engine.tare("build", "--progress", "plain", str(context)).stderr.decode().splitlines()
    steps = [line.split()[0] for line in said if line.startswith("#") and "] " in line and "FROM" not in line]
    return [any(line.startswith(f"{step} CACHED") for line in said) for step in dict.fromkeys(steps)]


def test_killed_during_a_run(own: EngineProcess, context: Path) -> None:
    build = start_build(own, context, FINISHED + WAITING)
    wait_for(build, b"begun")
    own.kill()
    assert end(build) != 0
    own.start()
    assert_no_build_left(own, FOREVER)
    text = FINISHED + "RUN --mount=type=cache,target=/c test -e /c/f\n"
    assert cached(own, context, text) == [True, True, True, False]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_killed_as_a_step_ends(own: EngineProcess, context: Path, steps: int) -> None:
    text = FINISHED + "COPY page /again\n"
    build = start_build(own, context, text)
    wait_for(build, b" DONE ", steps)
    own.kill()
    end(build)
    own.start()
    assert_no_build_left(own)
    assert cached(own, context, text)[:steps] == [True] * steps
    assert cached(own, context, text) == [True] * 4


def test_killed_during_a_large_copy(own: EngineProcess, context: Path) -> None:
    with (context / "large").open("wb") as stream:
        stream.truncate(3 << 30)
    with FileEvents() as events:
        build = start_build(own, context, FINISHED + "COPY large /large\n")
        wait_for(build, b" DONE ", 3)
        events.watch(own.data_root / "staging", IN_MODIFY)
        events.wait()
        own.kill()
    end(build)
    (half,) = (own.data_root / "staging").iterdir()
    assert half.stat().st_size < 1 << 30
    own.start()
    assert_no_build_left(own)
    (context / "large").unlink()
    assert cached(own, context, FINISHED) == [True] * 3


def test_killed_while_a_layer_is_unpacked(own: EngineProcess, context: Path) -> None:
    many = context / "many"
    many.mkdir()
    for number in range(5000):
        (many / f"{number}").write_bytes(b"x")
    text = FINISHED + "COPY many /many\nRUN ls /many | wc -l\n"
    with FileEvents() as events:
        build = start_build(own, context, text)
        wait_for(build, b"COPY many /many")
        events.watch(own.data_root / "snapshots", IN_CREATE)
        events.wait()
        own.kill()
    end(build)
    own.start()
    assert_no_build_left(own)
    assert cached(own, context, text)[:3] == [True] * 3


@pytest.mark.parametrize("place", ["snapshots", "mounts"])
def test_killed_while_it_prunes(own: EngineProcess, context: Path, place: str) -> None:
    script = "mkdir /d; for place in /d /c; do cd $place; seq 3000 | xargs touch; done"
    text = FINISHED + f"RUN --mount=type=cache,target=/c {script}\n"
    assert cached(own, context, text) == [False] * 4
    with FileEvents() as events:
        found = own.data_root.glob("snapshots/*/upper/d" if place == "snapshots" else "cache/mounts/*/data")
        events.watch(next(iter(found)), IN_DELETE)
        command = [*TARE, "--host", own.host, "builder", "prune", "-a", "-f"]
        pruning = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=own.environment())
        events.wait()
        own.kill()
    end(pruning)
    own.start()
    assert_no_build_left(own)
    assert query(own, "SELECT key FROM build_cache") == []
    assert cached(own, context, text) == [False] * 4
    assert cached(own, context, text) == [True] * 4


def test_stopped_during_a_run(own: EngineProcess, context: Path) -> None:
    build = start_build(own, context, FINISHED + WAITING)
    wait_for(build, b"begun")
    stop_without_cleaning(own)
    assert end(build) == 1
    assert_no_build_left(own, FOREVER)
    own.start()
    assert cached(own, context, FINISHED) == [True] * 3


def test_interrupted_tare_build(own: EngineProcess, context: Path) -> None:
    build = start_build(own, context, FINISHED + WAITING)
    wait_for(build, b"begun")
    with watching(own.run_root / "steps", IN_DELETE) as events:
        build.send_signal(signal.SIGINT)
        events.wait()
    assert end(build) == 130
    stop_without_cleaning(own)
    assert_no_build_left(own, FOREVER)
    own.start()
    assert cached(own, context, FINISHED) == [True] * 3


def test_interrupted_during_a_large_copy(own: EngineProcess, context: Path) -> None:
    with (context / "large").open("wb") as stream:
        stream.truncate(1 << 30)
    staging = own.data_root / "staging"
    with FileEvents() as events:
        build = start_build(own, context, FINISHED + "COPY large /large\n")
        wait_for(build, b" DONE ", 3)
        events.watch(staging, IN_CREATE)
        events.wait()
        (staged,) = staging.iterdir()
        events.watch(staging, IN_DELETE)
        build.send_signal(signal.SIGINT)
        events.wait()
    assert (end(build), staged.exists()) == (130, False)
    stop_without_cleaning(own)
    assert_no_build_left(own)
    assert query(own, "SELECT diff_id FROM layers WHERE size > 1000000000") == [], "the copy did not go on"
    own.start()
    assert cached(own, context, FINISHED) == [True] * 3


def test_what_a_failed_build_made_for_itself_goes(own: EngineProcess, context: Path) -> None:
    (context / "shown").mkdir()
    (context / "shown" / "f").write_bytes(os.urandom(10000))
    (context / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=bind,source=shown,target=/s cat /s/f; exit 5\n")
    layers = own.data_root / "layers"
    before = {path.name for path in layers.iterdir()}
    said = own.tare("build", str(context), check=False).stderr.decode()
    step = next(word for word in said.split() if word.startswith("step:"))
    assert {path.name for path in layers.iterdir()} > before, "who looks into the step shall see what it saw"
    own.tare("debug", "--rm", step)
    assert {path.name for path in layers.iterdir()} == before


def test_interrupted_docker_build(own: EngineProcess, context: Path) -> None:
    (context / "Dockerfile").write_text(FINISHED + WAITING)
    build = own.start_docker("build", str(context))
    assert build.stdout is not None
    for line in build.stdout:
        if line == b"begun\n":
            break
    with watching(own.run_root / "steps", IN_DELETE) as events:
        build.send_signal(signal.SIGINT)
        events.wait()
    build.communicate(timeout=30)
    stop_without_cleaning(own)
    assert_no_build_left(own, FOREVER)
    own.start()
    assert cached(own, context, FINISHED) == [True] * 3


def test_a_client_that_is_gone(own: EngineProcess, context: Path) -> None:
    (context / "Dockerfile").write_text(FINISHED + WAITING)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("Dockerfile", "page"):
            archive.add(context / name, name)
    body = buffer.getvalue()
    head = POST.format(len(body))
    with socket.socket(socket.AF_UNIX) as connection, watching(own.run_root / "steps", IN_DELETE) as events:
        connection.connect(str(own.socket))
        connection.sendall(head.encode() + body)
        received = b""
        while b"begun\\n" not in received:
            data = connection.recv(65536)
            assert data, received
            received += data
        events.drain()
        connection.close()
        events.wait()
    stop_without_cleaning(own)
    assert_no_build_left(own, FOREVER)
    own.start()
    assert cached(own, context, FINISHED) == [True] * 3


def test_a_client_that_goes_while_it_sends_the_context(own: EngineProcess, context: Path) -> None:
    head = POST.format(100_000_000)
    member = tarfile.TarInfo("large")
    member.size = 90_000_000
    staging = own.data_root / "staging"
    with socket.socket(socket.AF_UNIX) as connection, watching(staging, IN_CREATE | IN_DELETE) as events:
        connection.connect(str(own.socket))
        connection.sendall(head.encode() + member.tobuf() + os.urandom(1 << 20))
        events.wait()
        connection.close()
        events.wait()
    assert list(staging.iterdir()) == []
