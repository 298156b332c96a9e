"""``tare`` against a real engine, with Docker's own command line beside it where words and exit codes must agree."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import tare
from engine_process import EngineProcess, docker_program
from tare.client.endpoint import Endpoint
from tare.client.launcher import start_engine
from tare.errors import NotFound, Unavailable

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SECONDS = 60
TARE = [sys.executable, "-m", "tare.cli.main"]
LOOP = 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'


def command(
    host: EngineProcess, *words: str, stdin: bytes | None = None, program: Sequence[str] = TARE
) -> subprocess.CompletedProcess[bytes]:
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [*program, "-H", host.host, *words], capture_output=True, timeout=SECONDS, check=False, **source
    )


def good(host: EngineProcess, *words: str, stdin: bytes | None = None) -> str:
    done = command(host, *words, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42"),
        ("run", "--rm", "-w", "/tmp", "-u", "1000:1000", "-e", "A=1", "busybox", "sh", "-c", "pwd; id -u; echo $A"),
        ("run", "--rm", "--entrypoint", "echo", "busybox", "a", "-b"),
        ("rm", "nosuch"),
        ("rm", "-f", "nosuch"),
        ("stop", "nosuch"),
        ("start", "nosuch"),
        ("logs", "nosuch"),
        ("exec", "nosuch", "true"),
        ("inspect", "nosuch"),
        ("image", "inspect", "nosuch"),
        ("network", "inspect", "nosuch"),
        ("volume", "inspect", "nosuch"),
        ("rmi", "nosuch"),
        ("volume", "rm", "nosuch"),
        ("ps", "--format", "{{.Names}}"),
        ("images", "--format", r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Size}}"),
        ("network", "ls"),
        ("volume", "ls"),
        ("history", "--format", r"table {{.ID}}\t{{.CreatedBy}}\t{{.Size}}", "busybox"),
    ],
    ids=" ".join,
)
def test_same_as_docker(host: EngineProcess, words: tuple[str, ...]) -> None:
    ours = command(host, *words)
    theirs = command(host, *words, program=[docker_program()])
    assert ours.returncode == theirs.returncode
    if words[0] == "images":  # docker sorts by whole seconds, and images that are equally old in any order
        head, *rest = theirs.stdout.splitlines()
        assert ours.stdout.splitlines()[0] == head
        assert sorted(ours.stdout.splitlines()[1:]) == sorted(rest)
    else:
        assert ours.stdout == theirs.stdout
    assert ours.stderr.replace(b"tare", b"docker") == theirs.stderr


@pytest.mark.parametrize("name", ["nosuch", "/etc"])
def test_same_as_docker_with_the_cause_on_lines_of_its_own(host: EngineProcess, name: str) -> None:
    words = ("run", "--rm", "busybox", name)
    ours = command(host, *words)
    theirs = command(host, *words, program=[docker_program()])
    assert ours.returncode == theirs.returncode
    message, cause, fix, *rest = ours.stderr.replace(b"tare", b"docker").splitlines()
    cause = cause.removeprefix(b"cause: ").rpartition(b" [")[0]
    fix = fix.removeprefix(b"fix:   ")
    assert [message + b" (" + cause + b"; " + fix + b")", *rest] == theirs.stderr.splitlines()


def test_wrong_usage(host: EngineProcess) -> None:
    wrong = command(host, "run", "--nosuch", "busybox")
    assert wrong.returncode == 125
    assert b"no such option" in wrong.stderr.lower()
    unknown = command(host, "sp")
    assert unknown.returncode == 1
    assert b"did you mean" in unknown.stderr


def test_life_of_a_container(host: EngineProcess) -> None:
    identifier = good(
        host, "run", "-d", "--name", "cli1", "-v", "cli-data:/data", "-l", "a=b", "busybox", "sh", "-c", LOOP
    )
    assert len(identifier.strip()) == 64
    assert good(host, "ps", "--format", "{{.Names}} {{.State}} {{.Mounts}}") == "cli1 running cli-data\n"
    for form in ("{{.Platform}} {{json .Platform}}", r"table {{.ID}}\t{{.Platform}}"):
        assert good(host, "ps", "--format", form) == host.docker("ps", "--format", form).stdout.decode()
    assert '"Networks":"bridge","Platform":null,"Ports":""' in good(host, "ps", "--format", "json")
    assert good(host, "inspect", "-f", "{{.State.Status}} {{json .Config.Labels}}", "cli1") == 'running {"a":"b"}\n'
    ended = command(host, "exec", "cli1", "sh", "-c", "echo in; exit 9")
    assert (ended.returncode, ended.stdout) == (9, b"in\n")
    assert (
        good(host, "exec", "-i", "-e", "X=1", "-w", "/data", "cli1", "sh", "-c", "cat; echo $X; pwd", stdin=b"from\n")
        == "from\n1\n/data\n"
    )
    good(host, "rename", "cli1", "cli2")
    assert good(host, "stop", "cli2") == "cli2\n"
    assert good(host, "wait", "cli2") == "5\n"
    assert good(host, "logs", "cli2") == "ready\n"
    assert good(host, "rm", "-v", "cli2") == "cli2\n"
    assert good(host, "volume", "rm", "cli-data") == "cli-data\n"


def test_exec_gives_the_exit_code_every_time(host: EngineProcess) -> None:
    good(host, "run", "-d", "--name", "codes", "busybox", "sh", "-c", LOOP)
    codes = [command(host, "exec", "codes", "sh", "-c", f"exit {number}").returncode for number in range(1, 9)]
    assert codes == list(range(1, 9))


def test_standard_input(host: EngineProcess) -> None:
    data = os.urandom(300_000)
    done = command(host, "run", "-i", "--rm", "busybox", "cat", stdin=data)
    assert (done.returncode, done.stdout == data) == (0, True)


def test_signals_reach_the_process(host: EngineProcess) -> None:
    running = subprocess.Popen(
        [*TARE, "-H", host.host, "run", "--rm", "busybox", "sh", "-c", LOOP], stdout=subprocess.PIPE
    )
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(SECONDS) == 5


def _until(fd: int, word: bytes) -> bytes:
    found = b""
    while word not in found:
        found += os.read(fd, 4096)
    return found


def test_terminal_and_detach_keys(host: EngineProcess) -> None:
    fd, terminal = pty.openpty()
    words = [*TARE, "-H", host.host, "run", "-it", "--name", "term", "busybox", "sh"]
    running = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    try:
        _until(fd, b"# ")
        os.write(fd, b"tty; echo $((6 * 7))\r")
        assert b"/dev/pts/" in _until(fd, b"42\r\n")
        os.write(fd, b"\x10\x11")
        _until(fd, b"read escape sequence")
        assert running.wait(SECONDS) == 0
    finally:
        running.kill()
        running.wait()
        os.close(fd)
    assert good(host, "inspect", "-f", "{{.State.Running}}", "term") == "true\n"


def test_build(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox AS tools\nRUN echo made > /made\nFROM busybox\nCOPY --from=tools /made /made\nCMD cat /made\n"
    )
    done = command(host, "build", "-t", "cli-built", "--iidfile", str(tmp_path / "id"), str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    assert b"left behind" in done.stderr
    assert good(host, "run", "--rm", "cli-built") == "made\n"
    assert good(host, "build", "-q", str(tmp_path)).strip() == (tmp_path / "id").read_text()
    weighed = json.loads(good(host, "weigh", "--json", "cli-built"))
    assert weighed["layers"] == 2
    assert "Untagged: cli-built:latest" in good(host, "rmi", "cli-built")


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM busybox\nRUN echo last words; exit 7\n", ["last words", "exit code: 7", "Dockerfile:2"]),
        ("FROM busybox\nCOPYY a b\n", ["Dockerfile:2:1", "COPYY", "^^^^^", "did you mean COPY"]),
        ("FROM busybox\nCOPY nothing /\n", ["Dockerfile:2", "nothing", "not found"]),
    ],
)
def test_build_that_fails(host: EngineProcess, tmp_path: Path, dockerfile: str, words: list[str]) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    done = command(host, "build", "-t", "cli-failed", str(tmp_path))
    assert done.returncode == 1
    assert all(word in done.stderr.decode() for word in words), done.stderr.decode()
    assert command(host, "inspect", "cli-failed").returncode == 1


def test_networks(host: EngineProcess) -> None:
    identifier = good(host, "network", "create", "--label", "a=b", "cli-net").strip()
    assert good(host, "network", "ls", "--no-trunc", "-f", "name=cli-net", "-q") == f"{identifier}\n"
    good(host, "run", "-d", "--name", "onnet", "--network", "cli-net", "busybox", "sh", "-c", LOOP)
    address = good(host, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "onnet").strip()
    assert address in good(host, "network", "inspect", "cli-net")
    assert command(host, "network", "rm", "cli-net").returncode == 1
    good(host, "rm", "-f", "onnet")
    assert good(host, "network", "rm", "cli-net") == "cli-net\n"


async def test_the_client_as_a_library(host: EngineProcess) -> None:
    async with tare.Client(host.host) as client:
        assert (await client.system.version())["Version"] == tare.__version__
        with pytest.raises(NotFound, match="No such container: nosuch"):
            await client.containers.inspect("nosuch")


def test_the_client_without_a_loop(host: EngineProcess) -> None:
    with tare.connect(host.host) as connection:
        assert "busybox:latest" in str(connection.run(lambda client: client.images.list()))


async def test_two_clients_start_one_engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("l")
    endpoint = Endpoint(path=f"{root}/r/s")
    options = ["--data-root", f"{root}/d", "--run-root", f"{root}/r", "--socket", endpoint.path, "--stop-containers"]
    await asyncio.gather(start_engine(endpoint, options), start_engine(endpoint, options))
    pid = int((root / "r" / "tared.pid").read_text())
    try:
        second = Endpoint(path=f"{root}/r2/s")
        with pytest.raises(Unavailable, match="in use by another engine"):
            await start_engine(
                second, ["--data-root", f"{root}/d", "--run-root", f"{root}/r2", "--socket", second.path]
            )
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0


def test_no_engine_at_a_named_host(tmp_path: Path) -> None:
    done = subprocess.run(
        [*TARE, "-H", f"unix://{tmp_path}/none", "ps"], capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 1
    assert b"cannot connect to the Tare engine" in done.stderr


def test_doctor_says_that_this_host_is_ready() -> None:
    done = subprocess.run([*TARE, "doctor", "--json"], capture_output=True, timeout=SECONDS, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 0, document
    assert document["ready"]
