"""What an exec's process leaves behind: children that have inherited its streams. Compared with Docker 28.5.2."""

from __future__ import annotations

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

WRITER = "mkfifo /gate; (read word < /gate; seq 100000; echo $? > /wrote; exec sleep 1000) & exit 7"
"""Leaves a child that writes more than a pipe holds when it is told to, and notes how that went."""


@pytest.fixture
def box(host: EngineProcess) -> EngineProcess:
    host.docker("run", "-d", "--init", "--name", "box", "busybox", "sleep", "1000")
    return host


def test_what_children_write_is_output_until_they_end(box: EngineProcess) -> None:
    script = "(read word < /gate; echo last; echo worst >&2) & echo first"
    box.docker("exec", "box", "mkfifo", "/gate")
    reader = box.start_docker("exec", "box", "sh", "-c", script)
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"first\n"
    box.docker("exec", "box", "sh", "-c", "echo go > /gate")
    assert reader.communicate(timeout=30) == (b"last\n", b"worst\n")
    assert reader.returncode == 0


@pytest.mark.parametrize("flags", [(), ("-d",)], ids=["attached", "detached"])
def test_children_go_on_when_the_exec_has_ended(box: EngineProcess, flags: tuple[str, ...]) -> None:
    done = box.docker("exec", *flags, "box", "sh", "-c", WRITER, check=False)
    assert (done.returncode, done.stdout) == (0 if "-d" in flags else 7, b"")
    box.docker("exec", "box", "sh", "-c", "until [ -p /gate ]; do usleep 10000; done; echo go > /gate")
    assert box.text("exec", "box", "sh", "-c", "until [ -s /wrote ]; do usleep 10000; done; cat /wrote") == "0"
    assert "sleep 1000" in box.text("exec", "box", "ps", "-o", "args")


def test_a_daemon_that_keeps_the_streams_does_not_hold_the_exec(box: EngineProcess) -> None:
    box.docker("exec", "box", "mkdir", "/tables")
    assert box.docker("exec", "box", "crond", "-c", "/tables").stdout == b""
    assert "crond -c /tables" in box.text("exec", "box", "ps", "-o", "args")
    document = box.text("inspect", "-f", "{{.ExecIDs}}", "box")
    assert document in ("[]", "<nil>")
