"""Bytes in and out: standard streams, terminals, logs and exec."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import docker as docker_py
import pytest

from engine_process import EngineProcess, docker_program
from terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MEGABYTE = os.urandom(1 << 20)


@pytest.fixture
def box(host: EngineProcess) -> str:
    host.docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo begun; exec sleep 1000")
    return "box"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_streams_are_apart_and_in_order(host: EngineProcess) -> None:
    ended = host.docker("run", "--rm", "busybox", "sh", "-c", "echo o1; echo e1 >&2; echo o2; echo e2 >&2")
    assert (ended.stdout, ended.stderr) == (b"o1\no2\n", b"e1\ne2\n")


def test_run_carries_binary_exactly(host: EngineProcess) -> None:
    ended = host.docker("run", "-i", "--rm", "busybox", "cat", stdin=MEGABYTE)
    assert (len(ended.stdout), digest(ended.stdout)) == (len(MEGABYTE), digest(MEGABYTE))


def test_exec_carries_binary_exactly(host: EngineProcess, box: str) -> None:
    ended = host.docker("exec", "-i", box, "cat", stdin=MEGABYTE)
    assert (len(ended.stdout), digest(ended.stdout)) == (len(MEGABYTE), digest(MEGABYTE))


def test_end_of_input_is_seen_before_the_answer(host: EngineProcess) -> None:
    ended = host.docker("run", "-i", "--rm", "busybox", "sh", "-c", "wc -c; echo done", stdin=b"12345")
    assert ended.stdout == b"5\ndone\n"


def test_without_i_there_is_no_input(host: EngineProcess) -> None:
    assert host.docker("run", "--rm", "busybox", "sh", "-c", "wc -c", stdin=b"12345").stdout == b"0\n"


def test_logs_tail_since_and_timestamps(host: EngineProcess) -> None:
    host.docker("run", "--name", "said", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; echo e >&2")
    everything = host.docker("logs", "said")
    assert (everything.stdout, everything.stderr) == (b"1\n2\n3\n4\n5\n", b"e\n")
    assert host.docker("logs", "--tail", "0", "said").stdout == b""
    assert b"1" not in host.docker("logs", "--tail", "3", "said").stdout
    lines = host.text("logs", "-t", "said").splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \d", line) for line in lines), lines
    third = lines[2].split()[0]
    assert "3" in host.text("logs", "--since", third, "said").split()
    assert host.docker("logs", "--since", "2099-01-01T00:00:00Z", "said").stdout == b""
    assert host.docker("logs", "--until", "2001-01-01T00:00:00Z", "said").stdout == b""


def test_log_lines_without_newline_and_very_long_ones(host: EngineProcess) -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x; printf '\\nno newline'"
    host.docker("run", "--name", "long", "busybox", "sh", "-c", script)
    assert host.docker("logs", "long").stdout == b"x" * 100000 + b"\nno newline"


def test_logs_follow_ends_with_the_container(host: EngineProcess) -> None:
    script = "echo 1; read line; echo $line"
    host.docker("run", "-di", "--name", "talk", "busybox", "sh", "-c", script)
    follower = host.start_docker("logs", "-f", "talk")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"1\n"
    host.docker("attach", "talk", stdin=b"two\n")
    out, _ = follower.communicate(timeout=30)
    assert (follower.returncode, out) == (0, b"two\n")


def test_attach_gets_the_exit_code(host: EngineProcess) -> None:
    host.docker("run", "-di", "--name", "asked", "busybox", "sh", "-c", "read code; exit $code")
    assert host.docker("attach", "asked", stdin=b"9\n", check=False).returncode == 9


@pytest.mark.parametrize(
    ("options", "command", "code", "output"),
    [
        ((), ("sh", "-c", "exit 42"), 42, b""),
        ((), ("true",), 0, b""),
        (("-e", "A=1"), ("sh", "-c", "echo $A"), 0, b"1\n"),
        (("-u", "guest"), ("id",), 0, b"uid=405(guest) gid=100(users) groups=10(wheel),100(users)\n"),
        (("-u", "7:8"), ("sh", "-c", "id -u; id -g"), 0, b"7\n8\n"),
        (("-w", "/tmp"), ("pwd",), 0, b"/tmp\n"),
        ((), ("sh", "-c", "kill -9 $$"), 137, b""),
    ],
)
def test_exec(
    host: EngineProcess, box: str, options: tuple[str, ...], command: tuple[str, ...], code: int, output: bytes
) -> None:
    ended = host.docker("exec", *options, box, *command, check=False)
    assert (ended.returncode, ended.stdout) == (code, output), ended.stderr


def test_exec_that_cannot_be(host: EngineProcess, box: str) -> None:
    missing = host.docker("exec", box, "nope", check=False)
    assert (missing.returncode, b"executable file not found in $PATH" in missing.stdout + missing.stderr) == (127, True)
    refused = host.docker("exec", box, "/etc/passwd", check=False)
    assert (refused.returncode, b"permission denied" in refused.stdout + refused.stderr) == (126, True)
    user = host.docker("exec", "-u", "nobody", box, "true", check=False)
    assert (user.returncode, b"unable to find user nobody" in user.stderr) == (1, True)
    assert b"No such container: ghost" in host.docker("exec", "ghost", "true", check=False).stderr
    host.docker("stop", "-t", "0", box)
    stopped = host.docker("exec", box, "true", check=False)
    assert (stopped.returncode, b"is not running" in stopped.stderr) == (1, True)


def test_detached_exec_runs(host: EngineProcess, box: str) -> None:
    host.docker("exec", box, "mkfifo", "/tmp/signal")
    host.docker("exec", "-d", box, "sh", "-c", "echo went > /tmp/signal")
    assert host.text("exec", box, "cat", "/tmp/signal") == "went"


def in_terminal(host: EngineProcess, *arguments: str) -> Terminal:
    """A docker command under a pseudo-terminal."""
    return Terminal([docker_program(), *arguments], host.environment())


@pytest.mark.timeout(60)
def test_terminal_of_run(host: EngineProcess, terminals: list[Terminal]) -> None:
    terminal = in_terminal(host, "run", "-it", "--rm", "busybox", "sh")
    terminals.append(terminal)
    terminal.until(b"# ")
    terminal.send(b"tty; stty size; echo 'mark''ed'\n")
    shown = terminal.until(b"marked\r\n")
    assert b"/dev/pts/0\r\n" in shown
    assert b"31 97\r\n" in shown
    # The client passes the signal on and sets the size by itself, in either order: wait for the size, not the signal.
    terminal.send(
        b"trap 'echo win''ch' WINCH; echo trap''ped; until stty size | grep -q '40 120'; do sleep 0.1; done\n"
    )
    terminal.until(b"trapped\r\n")
    terminal.resize(40, 120)
    terminal.until(b"winch\r\n")
    terminal.send(b"exit 17\n")
    assert terminal.close() == 17


@pytest.mark.timeout(60)
def test_terminal_of_exec(host: EngineProcess, box: str, terminals: list[Terminal]) -> None:
    terminal = in_terminal(host, "exec", "-it", box, "sh")
    terminals.append(terminal)
    terminal.until(b"# ")
    terminal.send(b"stty size; test -t 0 && echo 'is a'' terminal'\n")
    assert b"31 97\r\n" in terminal.until(b"is a terminal\r\n")
    terminal.send(b"exit 3\n")
    assert terminal.close() == 3


@pytest.mark.timeout(60)
def test_detach_keys_leave_the_container_running(host: EngineProcess, terminals: list[Terminal]) -> None:
    terminal = in_terminal(host, "run", "-it", "--name", "left", "busybox", "sh")
    terminals.append(terminal)
    terminal.until(b"# ")
    terminal.send(b"\x10\x11")
    assert terminal.close() == 0
    assert host.text("inspect", "-f", "{{.State.Running}}", "left") == "true"


@pytest.mark.timeout(60)
def test_detach_keys_of_ones_own(host: EngineProcess, terminals: list[Terminal], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"detachKeys": "ctrl-x,y"}')
    tare = [sys.executable, "-m", "tare.cli.main", "-H", host.host]
    environment = {**host.environment(), "DOCKER_CONFIG": str(tmp_path)}

    def leave(keys: bytes, *words: str) -> None:
        terminal = Terminal([*tare, *words], environment)
        terminals.append(terminal)
        terminal.until(b"ready")  # the terminal is raw by now
        # ctrl-p,ctrl-q mean nothing here: they come out as they went in
        terminal.send(b"\x10\x11-typed\r")
        terminal.until(b"^P^Q-typed")
        terminal.send(keys)
        terminal.until(b"read escape sequence")
        assert terminal.close() == 0
        assert host.text("inspect", "-f", "{{.State.Running}}", "own") == "true"

    script = "stty -icanon -ixon; echo ready; exec cat"
    leave(b"\x18y", "run", "-it", "--name", "own", "busybox", "sh", "-c", script)
    leave(b"\x18y", "exec", "-it", "own", "sh", "-c", script)
    host.docker("stop", "-t", "0", "own")
    leave(b"zz", "start", "-ai", "--detach-keys", "z,z", "own")
    host.docker("stop", "-t", "0", "own")
    script = 'stty -icanon -ixon; while :; do read -t 1 line && echo "$line" || echo ready; done'
    host.docker("rm", "own")
    host.docker("run", "-dit", "--name", "own", "busybox", "sh", "-c", script)
    leave(b"zz", "attach", "--detach-keys", "z,z", "own")
    refused = subprocess.run(
        [*tare, "attach", "--detach-keys", "ctrl-nothing", "own"], capture_output=True, check=False
    )
    assert (refused.returncode, b"Invalid detach keys (ctrl-nothing) provided" in refused.stderr) == (1, True)


@pytest.mark.timeout(60)
def test_the_engine_knows_detach_keys_too(host: EngineProcess) -> None:
    host.docker("run", "-dit", "--name", "raw", "busybox", "cat")
    api = docker_py.APIClient(base_url=host.host)
    with pytest.raises(docker_py.errors.APIError, match="Invalid detach keys") as raised:
        api.attach_socket("raw", {"stdin": 1, "stdout": 1, "stream": 1, "detachKeys": "ctrl-nothing"})
    assert raised.value.status_code == 400
    attached = api.attach_socket("raw", {"stdin": 1, "stdout": 1, "stream": 1, "detachKeys": "ctrl-a,b"})
    run = api.exec_create("raw", "cat", stdin=True, tty=True, detach_keys="ctrl-a,b")["Id"]
    executed = api.exec_start(run, tty=True, socket=True)
    for stream in (attached._sock, executed._sock):
        stream.settimeout(30)
        stream.sendall(b"x\r")
        seen = b""
        while b"x\r\nx\r\n" not in seen:
            seen += stream.recv(4096)
        stream.sendall(b"\x01")
        stream.sendall(b"b")
        assert stream.recv(4096) == b""
        stream.close()
    assert api.inspect_container("raw")["State"]["Running"]
    assert api.exec_inspect(run)["Running"]
    for opened in (attached, executed):
        opened._response.close()
        opened.close()
    api.close()
