"""An engine whose disk is full: what it refuses, what goes on, and what it makes up for when there is space again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess
from faulty_registry import FaultyRegistry, layer_tar
from image_archives import docker_archive, layer, tar_of

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SIZE = "24m"


@contextlib.contextmanager
def filled(engine: EngineProcess, *, reserve: bool = True) -> Iterator[None]:
    """No byte is free below the data root, and, without ``reserve``, none is kept for removals."""
    if not reserve:
        (engine.data_root / "tare.db.reserve").unlink()
    filler = engine.data_root / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert os.statvfs(engine.data_root).f_bavail == 0
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine on a small file system of its own."""
    engine = EngineProcess(Path(tmp_path_factory.mktemp("small")))
    (engine.root / "config").mkdir()
    engine.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", engine.data_root], check=True)
    try:
        engine.start()
        engine.import_busybox(busybox_tar)
        yield engine
        engine.remove_containers()
    finally:
        engine.end()
        subprocess.run(["umount", engine.data_root], check=True)
        engine.stop()


def test_an_end_that_cannot_be_stored_is_told_and_stored_later(small: EngineProcess) -> None:
    small.docker("run", "-di", "--name", "ends", "busybox", "sh", "-c", "read go; exit 7")
    short = small.text("ps", "-q")
    feed = small.start_docker("attach", "ends")
    waiting = small.start_docker("wait", "ends")
    events = small.start_docker("events", "--filter", "container=ends", "--filter", "event=die")
    assert events.stdout is not None
    with filled(small, reserve=False):
        feed.communicate(b"go\n")
        small.wait_for_log(f"container {short} has ended, which cannot be stored")
        assert json.loads(small.text("inspect", "ends"))[0]["State"]["Status"] == "running"
        assert waiting.communicate()[0] == b"7\n"
        assert small.text("wait", "ends") == "7"
        for refused in (("restart", "ends"), ("rm", "ends"), ("rm", "-f", "ends")):
            answer = small.docker(*refused, check=False)
            assert (answer.returncode, "no space left" in answer.stderr.decode()) == (1, True), answer
    assert b"exitCode=7" in events.stdout.readline()
    assert json.loads(small.text("inspect", "ends"))[0]["State"]["ExitCode"] == 7
    events.terminate()
    events.communicate()
    small.docker("rm", "ends")


def test_a_container_of_rm_whose_end_cannot_be_stored_goes_later(small: EngineProcess) -> None:
    small.docker("run", "-di", "--rm", "--name", "passing", "busybox", "sh", "-c", "read go; exit 7")
    feed = small.start_docker("attach", "passing")
    removed = small.start_docker("events", "--filter", "container=passing", "--filter", "event=destroy")
    assert removed.stdout is not None
    with filled(small, reserve=False):
        feed.communicate(b"go\n")
        small.wait_for_log("cannot be stored: the database cannot grow")
        assert small.text("wait", "passing") == "7"
        assert small.text("ps", "-aq", "--filter", "name=passing") != ""
    assert b"destroy" in removed.stdout.readline()
    removed.terminate()
    removed.communicate()
    assert small.text("ps", "-aq") == ""


def test_what_makes_space_works_on_a_full_disk(small: EngineProcess) -> None:
    for name in ("stopped", "forced", "killed"):
        small.docker("run", "-d", "--name", name, "busybox", "sleep", "1000")
    small.docker("volume", "create", "unused")
    with filled(small):
        small.docker("stop", "-t", "0", "stopped")
        assert small.text("wait", "stopped") == "137"
        small.docker("kill", "killed")
        assert small.text("wait", "killed") == "137"
        small.docker("rm", "-f", "forced")
        small.docker("rm", "stopped", "killed")
        small.docker("volume", "rm", "unused")
        assert small.text("ps", "-aq") == ""
        assert "kept for removals is in use now" in small.log
    small.docker("volume", "create", "unused")  # the first change with space again takes the reserve back
    assert (small.data_root / "tare.db.reserve").stat().st_blocks * 512 >= 1 << 20
    small.docker("volume", "rm", "unused")


def test_a_pause_that_cannot_be_stored_is_undone(small: EngineProcess) -> None:
    small.docker("run", "-d", "--name", "awake", "busybox", "sleep", "1000")
    with filled(small):
        refused = small.docker("pause", "awake", check=False)
        assert (refused.returncode, "no space left" in refused.stderr.decode()) == (1, True)
        assert small.text("exec", "awake", "echo", "awake") == "awake"
    small.docker("rm", "-f", "awake")


def files_of(engine: EngineProcess) -> set[Path]:
    """What is below the data root, except the filler, the reserve and the database's own files."""
    return {path for path in engine.data_root.rglob("*") if not path.name.startswith(("filler", "tare.db"))}


REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("volume", "create", "new"), "no space left below the data root"),
    (("network", "create", "new"), "no space left below the data root"),
    (("create", "--name", "new", "busybox"), "no space left below the data root"),
    (("run", "--name", "new", "busybox"), "no space left below the data root"),
    (("run", "--rm", "-v", "new:/new", "-v", "/anonymous", "busybox"), "no space left below the data root"),
    (("run", "--rm", "--network", "new", "busybox"), "network new not found"),
    (("cp", "/etc/passwd", "here:/tmp/new"), "/tmp/new: No space left on device"),
    (("cp", "/etc/passwd", "here:/kept/new"), "/kept/new: No space left on device"),
    (("commit", "here", "new"), "no space left below the data root"),
    (("tag", "busybox", "new"), "no space left below the data root"),
    (("import", "-", "new"), "no space left below the data root"),
    (("load",), "no space left below the data root"),
    (("build", "-t", "new", "-"), "No space left on device"),
    (("rename", "here", "new"), "no space left below the data root"),
    (("pause", "here"), "no space left below the data root"),
    (("exec", "here", "sh", "-c", "echo much > /tmp/new"), "No space left on device"),
)
"""What needs space, and the words that say that there is none."""

ANSWERED = (("system", "df"), ("system", "df", "-v"), ("ps", "-as"), ("images",), ("inspect", "here"), ("logs", "here"),
            ("cp", "here:/etc/passwd", "-"), ("export", "here"), ("save", "busybox"), ("diff", "here"),
            ("top", "here"), ("stats", "--no-stream", "here"), ("volume", "ls"), ("info",))  # fmt: skip


@pytest.fixture
def here(small: EngineProcess) -> Iterator[str]:
    small.docker("run", "-d", "--name", "here", "-v", "kept:/kept", "busybox", "sh", "-c", "echo said; sleep 1000")
    yield "here"
    small.docker("rm", "-f", "here")
    small.docker("volume", "rm", "kept")


def objects_of(engine: EngineProcess) -> list[str]:
    """Every object that clients see."""
    tags = engine.text("images", "-a", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
    names = engine.text("ps", "-a", "--format", "{{.ID}} {{.Names}}")
    return [tags, names, engine.text("volume", "ls", "-q"), engine.text("network", "ls", "-q")]


def test_what_needs_space_says_so_and_leaves_nothing(small: EngineProcess, here: str, busybox_tar: bytes) -> None:
    archive = tar_of(docker_archive([layer("new")], ["new:latest"]))
    inputs = {"import": busybox_tar, "load": archive, "build": b"FROM busybox\nRUN echo new > /new\n"}
    before, files = objects_of(small), files_of(small)
    with filled(small):
        for arguments, words in REFUSED:
            refused = small.docker(*arguments, stdin=inputs.get(arguments[0]), check=False)
            said = refused.stderr.decode()
            assert (refused.returncode != 0, words in said) == (True, True), (arguments, refused)
            assert small.text("inspect", "-f", "{{.Name}} {{.State.Status}}", here) == "/here running", arguments
        for arguments in ANSWERED:
            assert small.docker(*arguments).stdout, arguments
        assert objects_of(small) == before
        assert {path for path in files_of(small) - files if "upper" not in path.parts} == set()


def test_an_archive_that_is_larger_than_the_disk(small: EngineProcess) -> None:
    before, files = objects_of(small), files_of(small)
    fits, large = layer("fits"), layer("large", 32 << 20)
    refused = small.docker("load", stdin=tar_of(docker_archive([fits, large], ["new:latest"])), check=False)
    assert (refused.returncode, "staging: No space left on device" in refused.stderr.decode()) == (1, True), refused
    assert (objects_of(small), files_of(small)) == (before, files)


def test_a_log_without_space_loses_lines_and_says_so(small: EngineProcess) -> None:
    script = "while read count; do seq $count; echo end; done"
    small.docker("run", "-di", "--name", "writes", "--log-opt", "max-size=-1", "busybox", "sh", "-c", script)
    short = small.text("ps", "-q")
    writer = small.start_docker("attach", "writes")
    assert writer.stdin is not None and writer.stdout is not None

    def say(count: int) -> bytes:
        """The container writes ``count`` lines and goes on, whatever becomes of its log."""
        expected = b"".join(b"%d\n" % number for number in range(1, count + 1)) + b"end\n"
        assert writer.stdin is not None and writer.stdout is not None
        writer.stdin.write(b"%d\n" % count)
        writer.stdin.flush()
        assert writer.stdout.read(len(expected)) == expected
        return expected

    first = say(10)
    with filled(small):
        lost = say(20_000)
        small.wait_for_log(f"the log of container {short} loses output: no space left on device")
        kept = small.docker("logs", "writes").stdout
        assert (first + lost).startswith(kept) and len(kept) < len(first + lost)
    assert "is kept again" not in small.log
    last = say(30)
    small.wait_for_log(f"the log of container {short} is kept again")
    logged = small.docker("logs", "writes").stdout
    assert logged.startswith(kept) and logged.endswith(last)
    assert len(logged) - len(kept + last) <= len(b"20000\n")  # what there was room for of the line that breaks off
    small.docker("rm", "-f", "writes")
    writer.communicate()


def test_a_pull_goes_on_where_the_disk_was_full(small: EngineProcess) -> None:
    with FaultyRegistry() as registry:
        layer = layer_tar("big", random.Random(7).randbytes(6_000_000))
        digest = registry.put_image("test/app:1", [layer])["layers"][0]["digest"]
        name = f"{registry.address}/test/app:1"
        downloads = small.data_root / "cache/downloads"
        places = ("blobs/sha256", "layers", "staging")
        before = {path for place in places for path in (small.data_root / place).iterdir()}
        with filled(small):
            os.truncate(small.data_root / "filler", (small.data_root / "filler").stat().st_size - 3_000_000)
            refused = small.docker("pull", name, check=False)
            assert (refused.returncode, "no space left" in refused.stderr.decode().lower()) == (1, True), refused
            assert {path for place in places for path in (small.data_root / place).iterdir()} <= before
            kept = (downloads / f"{digest.removeprefix('sha256:')}.partial").stat().st_size
            assert kept > 1_000_000
        small.docker("pull", "-q", name)
        assert [line.partition(" bytes=")[2] for line in registry.requests if digest in line] == ["", f"{kept}-"]
        assert list(downloads.iterdir()) == []
        small.docker("rmi", name)
