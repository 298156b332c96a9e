"""Engines that crash, engines side by side, engines that must not start."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture(autouse=True)
def _no_containers_left(own: EngineProcess) -> Iterator[None]:
    yield
    own.remove_containers()


def fetch(port: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return bytes(answer.read())


def test_containers_outlive_a_killed_engine(own: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("alive")
    web = ("busybox", "sh", "-c", 'httpd -p 80 -h /www; echo up; read line; echo "got $line"; exit 21')
    own.docker("run", "-di", "--name", "web", "-p", "127.0.0.1::80", "-v", f"{tmp_path}:/www:ro", *web)
    own.docker("exec", "web", "timeout", "10", "sh", "-c", "until wget -q -O /dev/null http://127.0.0.1/; do :; done")
    waiting = "until [ -e /gate/open ]; do sleep 0.05; done"
    gate = tmp_path / "gate"
    gate.mkdir()
    script = f"echo before; {waiting}; echo after; exit 23"
    own.docker("run", "-d", "--name", "brief", "-v", f"{gate}:/gate", "busybox", "sh", "-c", script)
    port = own.text("port", "web", "80/tcp").rpartition(":")[2]
    identifier, pid = own.text("inspect", "-f", "{{.Id}} {{.State.Pid}}", "web").split()
    brief = int(own.text("inspect", "-f", "{{.State.Pid}}", "brief"))

    own.kill()
    assert fetch(port) == b"alive"
    (gate / "open").touch()
    subprocess.run(["tail", f"--pid={brief}", "-s", "0.05", "-f", "/dev/null"], check=True, timeout=30)
    own.start()

    assert own.text("inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.Running}}", "web") == f"{identifier} {pid} true"
    assert own.text("ps", "--format", "{{.Names}}") == "web"
    assert fetch(port) == b"alive"
    assert own.text("exec", "web", "echo", "inside") == "inside"
    assert own.text("logs", "web") == "up"
    assert own.text("logs", "brief").split() == ["before", "after"]
    assert own.text("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "brief") == "exited 23"
    assert own.text("wait", "brief") == "23"
    assert own.docker("attach", "web", stdin=b"again\n", check=False).returncode == 21
    assert own.text("logs", "web").splitlines() == ["up", "got again"]


def test_adopted_container_is_waited_for_and_stopped(own: EngineProcess) -> None:
    script = "trap 'exit 9' TERM; while :; do sleep 0.05; done"
    own.docker("run", "-d", "--name", "adopted", "busybox", "sh", "-c", script)
    own.restart()
    waiting = own.start_docker("wait", "adopted")
    own.docker("stop", "adopted")
    assert waiting.communicate(timeout=30)[0] == b"9\n"
    own.docker("start", "adopted")
    assert own.text("inspect", "-f", "{{.State.Running}}", "adopted") == "true"


def test_container_with_rm_that_ended_meanwhile_is_removed(own: EngineProcess) -> None:
    own.docker("run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1000")
    pid = own.text("inspect", "-f", "{{.State.Pid}}", "gone")
    own.kill()
    subprocess.run(["kill", "-9", pid], check=True)
    subprocess.run(["tail", f"--pid={pid}", "-s", "0.05", "-f", "/dev/null"], check=True, timeout=30)
    own.start()
    assert own.text("ps", "-aq") == ""


def test_engine_that_ends_during_a_build_leaves_nothing(own: EngineProcess) -> None:
    build = own.start_docker("build", "--no-cache", "-")
    assert build.stdin is not None
    assert build.stdout is not None
    build.stdin.write(b"FROM busybox\nRUN echo beg''un; sleep 1000\n")
    build.stdin.close()
    build.stdin = None
    for line in build.stdout:
        if line == b"begun\n":
            break
    own.restart()
    build.communicate(timeout=30)
    assert own.text("ps", "-aq") == ""
    steps = own.run_root / "steps"
    assert not steps.exists() or not list(steps.iterdir())
    survivors = subprocess.run(["pgrep", "-f", "^sleep 1000$"], capture_output=True, text=True, check=False).stdout
    mounted = Path("/proc/self/mountinfo").read_text()
    assert f"{own.run_root}/steps" not in mounted, survivors


def test_engines_side_by_side(own: EngineProcess, host: EngineProcess) -> None:
    for engine, word in ((own, "mine"), (host, "yours")):
        engine.docker("run", "-d", "--name", "same", "-e", f"WORD={word}", "busybox", "sleep", "1000")
    assert own.text("exec", "same", "sh", "-c", "echo $WORD") == "mine"
    assert host.text("exec", "same", "sh", "-c", "echo $WORD") == "yours"
    own.docker("rm", "-f", "same")
    assert host.text("inspect", "-f", "{{.State.Running}}", "same") == "true"


def test_second_engine_on_the_same_data_says_so(own: EngineProcess, tmp_path: Path) -> None:
    command = [*own.command(), "--run-root", str(tmp_path / "r"), "--socket", str(tmp_path / "s")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert str(own.data_root) in ended.stderr
    assert "another engine" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert own.text("info", "-f", "{{.DockerRootDir}}") == str(own.data_root)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--config", "/nonexistent.toml"), 1, "/nonexistent.toml: no such configuration file"),
        (("--socket", "/tmp/" + "s" * 120), 1, "longer than 107 bytes"),
        (("--colour", "red"), 2, "unrecognized arguments: --colour red"),
        (("--runtime", "no-such-runtime"), 1, "no-such-runtime"),
    ],
)
def test_engine_that_cannot_start(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    engine = EngineProcess(tmp_path)
    ended = subprocess.run([*engine.command(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, words in ended.stderr) == (status, True), ended.stderr
    assert "Traceback" not in ended.stderr
