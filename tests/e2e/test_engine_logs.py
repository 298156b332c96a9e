"""Logs that are rotated while they are written and read, and the options of their drivers."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from pathlib import Path

import pytest

from engine_process import EngineProcess
from file_events import IN_DELETE, IN_MOVED_TO, watching

pytestmark = [pytest.mark.root, pytest.mark.e2e]

LINES = 20_000
ROUNDS = 6
ROUND = b"".join(b"%d\n" % number for number in range(1, LINES + 1))


def files_of(host: EngineProcess, name: str) -> list[Path]:
    directory = host.data_root / "containers" / host.text("inspect", "-f", "{{.Id}}", name)
    return sorted(path for path in directory.iterdir() if path.name.startswith("container.log"))


@pytest.mark.timeout(120)
def test_a_follower_slower_than_the_rotation_loses_nothing(host: EngineProcess) -> None:
    options = ("--log-opt", "max-size=200k", "--log-opt", "max-file=3")
    script = f"while read go; do seq {LINES}; done"
    host.docker("run", "-di", "--name", "fast", *options, "busybox", "sh", "-c", script)
    directory = files_of(host, "fast")[0].parent
    follower = host.start_docker("logs", "-f", "fast")
    writer = host.start_docker("attach", "fast")
    assert writer.stdin is not None and writer.stdout is not None and follower.stdout is not None
    for number in range(ROUNDS):
        with watching(directory, IN_MOVED_TO) as events:  # each round fills a file several times over
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
            assert writer.stdout.read(len(ROUND)) == ROUND
            events.wait()
        if number == 0:
            assert follower.stdout.read(2) == ROUND[:2]  # it follows, and reads no more until all is written
    host.docker("stop", "-t", "0", "fast")
    writer.communicate()
    out = follower.stdout.read()  # not communicate(), which passes over what the first read has buffered
    assert (follower.wait(60), follower.communicate()[1]) == (0, b"")
    assert digest(ROUND[:2] + out) == digest(ROUND * ROUNDS)
    # What is kept is the end of it, without a gap, in at most three files.
    kept = host.docker("logs", "fast").stdout
    assert 0 < len(kept) < len(ROUND) * ROUNDS
    assert (ROUND * ROUNDS).endswith(kept)
    assert {path.name for path in files_of(host, "fast")} - {"container.log.tmp"} == {
        "container.log", "container.log.1", "container.log.2",
    }  # fmt: skip
    assert host.docker("logs", "--tail", "3", "fast").stdout == b"".join(kept.splitlines(keepends=True)[-3:])
    host.docker("rm", "fast")
    assert not directory.exists()


def settled(directory: Path) -> bool:
    """No rotation is due or under way, and its compression is over; once nothing is written this stays so."""
    names = {path.name for path in directory.iterdir()}
    if "container.log.1.gz" not in names or "container.log.1" in names:
        return False
    with contextlib.suppress(FileNotFoundError):
        return (directory / "container.log").stat().st_size < 200_000
    return False


@pytest.mark.timeout(120)
def test_rotated_files_are_compressed_and_read_as_before(host: EngineProcess) -> None:
    options = ("--log-driver", "local", "--log-opt", "max-size=200k", "--log-opt", "max-file=3")
    script = f"while read go; do seq {LINES}; done"
    host.docker("run", "-di", "--name", "packed", *options, "busybox", "sh", "-c", script)
    directory = files_of(host, "packed")[0].parent
    writer = host.start_docker("attach", "packed")
    assert writer.stdin is not None and writer.stdout is not None
    for _ in range(3):
        with watching(directory, IN_MOVED_TO | IN_DELETE) as events:
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
            assert writer.stdout.read(len(ROUND)) == ROUND
            while not settled(directory):
                events.wait()
    packed = directory / "container.log.1.gz"
    plain = gzip.decompress(packed.read_bytes())
    assert packed.stat().st_size * 5 < len(plain) >= 200_000
    kept = host.docker("logs", "packed").stdout
    assert len(plain.splitlines()) < len(kept.splitlines())
    assert (ROUND * 3).endswith(kept)
    lines = kept.splitlines(keepends=True)
    into_packed = len((directory / "container.log").read_bytes().splitlines()) + 7
    for count in (1, into_packed):
        assert host.docker("logs", "--tail", str(count), "packed").stdout == b"".join(lines[-count:])
    host.docker("rm", "-f", "packed")
    writer.communicate()
    assert not directory.exists()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.timeout(120)
def test_a_log_goes_on_without_the_engine_and_the_next_one_rotates_it(host: EngineProcess) -> None:
    options = ("--log-opt", "max-size=200k")
    script = f"mkfifo /go; read go < /go; seq {LINES}; echo > /go; cat"
    host.docker("run", "-di", "--name", "kept", *options, "busybox", "sh", "-c", script)
    pid = host.text("inspect", "-f", "{{.State.Pid}}", "kept")
    fifo = Path(f"/proc/{pid}/root/go")
    directory = files_of(host, "kept")[0].parent
    host.docker("exec", "kept", "sh", "-c", "until test -p /go; do sleep 0.1; done")
    host.kill()
    fifo.write_bytes(b"go\n")
    assert fifo.read_bytes() == b"\n"  # all is written
    with watching(directory, IN_MOVED_TO) as events:
        host.start()
        while not (directory / "container.log.1").exists() or not (directory / "container.log").exists():
            events.wait()
    assert host.docker("logs", "kept").stdout == ROUND
    host.docker("restart", "-t", "0", "kept")
    host.docker("exec", "kept", "true")
    assert host.docker("logs", "kept").stdout == ROUND


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--log-driver", "gelf"), 'error looking up logging plugin gelf: plugin "gelf" not found'),
        (
            ("--log-driver", "journald", "--log-opt", "max-size=1m"),
            "unknown log opt 'max-size' for journald log driver",
        ),
        (("--log-opt", "max-sise=1"), "unknown log opt 'max-sise' for json-file log driver"),
        (("--log-opt", "max-size=much"), "failed to initialize logging driver: invalid size: 'much'"),
        (("--log-opt", "max-size=0"), "failed to initialize logging driver: max-size must be a positive number"),
        (("--log-opt", "max-file=0"), "failed to initialize logging driver: max-file cannot be less than 1"),
        (("--log-opt", "mode=odd"), "logger: logging mode not supported: odd"),
        (
            ("--log-driver", "local", "--log-opt", "max-file=1", "--log-opt", "compress=true"),
            "compression cannot be enabled when max file count is 1",
        ),
    ],
)
def test_wrong_options_are_refused_in_docker_s_words(host: EngineProcess, options: tuple[str, ...], words: str) -> None:
    refused = host.docker("create", "--name", "wrong", *options, "busybox", "true", check=False)
    assert (refused.returncode != 0, words in refused.stderr.decode()) == (True, True), refused.stderr
    assert host.text("ps", "-aq") == ""


def test_details_tell_labels_variables_and_tag(host: EngineProcess) -> None:
    options = ("--log-opt", "labels=team", "--log-opt", "env-regex=^AP", "--log-opt", "tag={{.Name}}/x")
    host.docker(
        "run", "--name", "told", "-l", "team=a b", "-e", "APP=1", "-e", "B=2", *options, "busybox", "echo", "hi"
    )
    assert host.docker("logs", "--details", "told").stdout == b"APP=1,tag=told%2Fx,team=a+b hi\n"
    assert host.tare("logs", "--details", "told").stdout == b"APP=1,tag=told%2Fx,team=a+b hi\n"
    host.docker("run", "--name", "plain", "busybox", "echo", "hi")
    assert host.docker("logs", "--details", "plain").stdout == b" hi\n"
