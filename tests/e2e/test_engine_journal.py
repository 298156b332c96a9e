"""The log driver ``journald`` with a real systemd-journald of the test's own, in a mount namespace."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

JOURNALD = Path("/lib/systemd/systemd-journald")
SETTINGS = "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nRateLimitIntervalSec=0\n"
SETUP = """
mount -t tmpfs none /run/systemd && mount -t tmpfs none /run/log && mkdir /run/systemd/journal /run/log/journal &&
mount --bind "$0" /etc/systemd/journald.conf && exec "$1"
"""
READY_SECONDS = 30


@dataclass
class JournalEngine(EngineProcess):
    """An engine in the mount namespace of another process."""

    namespace: str = ""

    def command(self) -> list[str]:
        return ["nsenter", f"--mount={self.namespace}", "--", *super().command()]


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A mount namespace with a journal of its own."""
    assert JOURNALD.exists(), "no systemd-journald: run `make setup` (package systemd)"
    directory = Path(tempfile.mkdtemp(prefix="tare-j"))
    (directory / "conf").write_text(SETTINGS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(directory / "notify"))
        notices.settimeout(READY_SECONDS)
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SETUP, str(directory / "conf"), str(JOURNALD)],
            env=os.environ | {"NOTIFY_SOCKET": str(directory / "notify")},
        )
        try:
            while b"READY=1" not in notices.recv(4096):
                pass
            yield f"/proc/{process.pid}/ns/mnt"
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(directory)


@pytest.fixture(scope="module")
def journal(namespace: str, busybox_tar: bytes) -> Iterator[JournalEngine]:
    """An engine that sees that journal, with the image ``busybox``; its default driver is the usual one."""
    engine = JournalEngine(Path(tempfile.mkdtemp(prefix="tare-t")), namespace=namespace)
    (engine.root / "config").mkdir()
    engine.start()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.remove_containers()
    engine.stop()


def run(engine: EngineProcess, name: str, script: str, *options: str) -> None:
    engine.docker("run", "--name", name, "--log-driver", "journald", *options, "busybox", "sh", "-c", script)


def entries(namespace: str, *matches: str) -> list[dict[str, object]]:
    command = ["nsenter", f"--mount={namespace}", "--", "journalctl", "--all", "-o", "json", *matches]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    return [json.loads(line) for line in found.splitlines()]


def test_both_streams_come_back_byte_for_byte(journal: JournalEngine) -> None:
    script = (
        r"printf 'one\n\n\377\000bin\n'; printf 'wrong\n' >&2; head -c 30000 /dev/zero | tr '\0' x; echo; printf end"
    )
    run(journal, "bytes", script)
    done = journal.docker("logs", "bytes")
    assert done.stdout == b"one\n\n\xff\x00bin\n" + b"x" * 30000 + b"\nend"
    assert done.stderr == b"wrong\n"


def test_the_journal_knows_the_container_s_name_and_tag(journal: JournalEngine, namespace: str) -> None:
    run(journal, "tagged", "echo hi", "--log-opt", "tag={{.Name}}/x", "--log-opt", "env=APP", "-e", "APP=1")
    assert journal.docker("logs", "--details", "tagged").stdout == b"APP=1,tag=tagged%2Fx hi\n"
    [entry] = entries(namespace, "CONTAINER_NAME=tagged")
    container_id = journal.text("inspect", "-f", "{{.Id}}", "tagged")
    found = [entry.get(name) for name in ("MESSAGE", "CONTAINER_ID", "CONTAINER_ID_FULL", "CONTAINER_TAG", "PRIORITY")]
    assert found == ["hi\n", container_id[:12], container_id, "tagged/x", "6"]


def test_the_tail_counts_lines_and_times_bound_them(journal: JournalEngine) -> None:
    run(journal, "counted", "seq 1 500; head -c 30000 /dev/zero | tr '\\0' x; echo; echo last")
    assert journal.docker("logs", "-n", "2", "counted").stdout == b"x" * 30000 + b"\nlast\n"
    assert journal.docker("logs", "-n", "3", "counted").stdout == b"500\n" + b"x" * 30000 + b"\nlast\n"
    assert journal.docker("logs", "-n", "0", "counted").stdout == b""
    stamped = journal.text("logs", "-t", "counted").splitlines()
    moments = [line.split(" ", 1)[0] for line in stamped]
    assert moments == sorted(moments)
    middle = moments[250]
    earlier = journal.text("logs", "-t", "--until", middle, "counted").splitlines()
    later = journal.text("logs", "-t", "--since", middle, "counted").splitlines()
    assert earlier == [line for line in stamped if line.split(" ", 1)[0] <= middle]
    assert later == [line for line in stamped if line.split(" ", 1)[0] >= middle]


@pytest.mark.timeout(120)
def test_a_follower_gets_all_lines_and_ends_with_the_container(journal: JournalEngine) -> None:
    journal.docker(
        "run", "-di", "--name", "live", "--log-driver", "journald", "busybox",
        "sh", "-c", "echo before; read go; seq 20000; printf end",
    )  # fmt: skip
    follower = journal.start_docker("logs", "-f", "live")
    fresh = journal.start_docker("logs", "-f", "-n", "0", "live")
    assert follower.stdout is not None and fresh.stdout is not None
    assert follower.stdout.readline() == b"before\n"
    journal.docker("attach", "live", stdin=b"go\n")
    expected = b"".join(b"%d\n" % number for number in range(1, 20001)) + b"end"
    assert follower.communicate()[0] == expected
    assert (b"before\n" + expected).endswith(fresh.communicate()[0])
    assert (follower.returncode, fresh.returncode) == (0, 0)
    assert journal.docker("logs", "live").stdout == b"before\n" + expected


def test_logs_outlive_a_restart_of_container_and_engine(journal: JournalEngine) -> None:
    run(journal, "again", "echo round")
    journal.docker("start", "-a", "again")
    journal.restart()
    assert journal.docker("logs", "again").stdout == b"round\nround\n"


def test_a_host_without_journal_refuses_to_start_the_container(host: EngineProcess) -> None:
    if Path("/run/systemd/journal/socket").exists():
        pytest.skip("this host has a journal")
    host.docker("create", "--name", "silent", "--log-driver", "journald", "busybox", "true")
    refused = host.docker("start", "silent", check=False)
    assert b"failed to initialize logging driver: journald is not enabled on this host" in refused.stderr
    assert host.text("inspect", "-f", "{{.State.Status}}", "silent") == "created"
