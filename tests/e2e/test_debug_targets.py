"""Tools of another image beside containers and images that have none."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess, program_rootfs
from terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]

WAIT_SECONDS = 30


@pytest.fixture(autouse=True)
def _nothing_left(own: EngineProcess, probe_program: Path) -> Iterator[None]:
    if not own.text("images", "-q", "bare"):
        own.docker(
            "import", "-c", 'ENTRYPOINT ["/probe"]', "-", "bare:latest", stdin=program_rootfs(probe_program, "probe")
        )
    yield
    own.remove_containers()
    until(lambda: leftovers_of(own) == [])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "this does not come true"
        time.sleep(0.02)


def leftovers_of(engine: EngineProcess) -> list[str]:
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(engine.root) in line]
    for name in ("steps", "containers"):
        directory = engine.run_root / name
        found += [str(path) for path in directory.iterdir()] if directory.is_dir() else []
    return found + [str(path) for path in (engine.data_root / "snapshots").glob("*/work")]


def beside(engine: EngineProcess, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return engine.tare("debug", "--image", "busybox", *arguments, check=check)


def run(engine: EngineProcess, *options: str) -> None:
    engine.docker("run", "-d", "--name", "web", *options, "busybox", "sh", "-c", "echo live > /f; exec sleep 1000")


def test_a_running_container_is_joined_and_unchanged(own: EngineProcess) -> None:
    run(own, "--hostname", "shop", "-e", "MODE=strict")
    before = own.text("diff", "web")
    script = "cat /target/f; hostname; ps; cat /proc/1/comm; echo $MODE; touch /target/x"
    found = beside(own, "web", "-c", script, check=False)
    shown = found.stdout.decode()
    assert shown.startswith("live\nshop\n") and "sleep 1000" in shown and shown.endswith("sleep\nstrict\n")
    assert (found.returncode, b"Read-only file system" in found.stderr) == (1, True)
    addresses = own.text("exec", "web", "ip", "-o", "addr")
    assert beside(own, "web", "ip", "-o", "addr").stdout.decode().strip() == addresses
    assert own.text("diff", "web") == before
    assert own.text("ps", "-aq").count("\n") == 0


def test_writing_is_asked_for(own: EngineProcess) -> None:
    run(own)
    assert beside(own, "--write", "web", "-c", "echo new > /target/g; echo x > /h; exit 7", check=False).returncode == 7
    assert own.text("exec", "web", "cat", "/g") == "new"
    assert own.docker("exec", "web", "ls", "/h", check=False).returncode == 1


def test_an_image_from_scratch(own: EngineProcess) -> None:
    assert beside(own, "bare", "ls", "/target").stdout == b"probe\n"
    assert beside(own, "bare", "/target/probe", "exit", "8", check=False).returncode == 8
    assert beside(own, "--write", "bare", "-c", "echo x > /target/x; ls /target").stdout == b"probe\nx\n"
    assert beside(own, "bare", "ls", "/target").stdout == b"probe\n"


def test_a_container_at_rest_with_its_volume(own: EngineProcess) -> None:
    own.docker("run", "--name", "web", "-v", "/data", "busybox", "sh", "-c", "echo kept > /data/f; echo own > /own")
    assert beside(own, "web", "-c", "cat /target/data/f /target/own").stdout == b"kept\nown\n"
    assert beside(own, "--write", "web", "-c", "echo mended > /target/own").returncode == 0
    assert own.docker("cp", "web:/own", "-").stdout.count(b"mended") == 1


def test_what_cannot_be_shown_is_told(own: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    own.docker("run", "--name", "web", "-v", f"{tmp_path}/gone:/data", "busybox", "sh", "-c", "echo own > /own")
    (tmp_path / "gone").rmdir()
    found = beside(own, "web", "cat", "/target/own")
    assert found.stdout == b"own\n"
    assert b"volumes and bind mounts are not shown: " in found.stderr and b"/gone" in found.stderr


def test_ids_of_its_own(own: EngineProcess) -> None:
    own.root.chmod(0o711)
    own.tare("run", "-d", "--name", "web", "--userns", "auto", "busybox", "sleep", "1000")
    running = beside(own, "--write", "web", "-c", "cat /proc/self/uid_map; echo x > /target/x; ls -n /target/x")
    ids, listed = running.stdout.decode().splitlines()
    assert ids.split() == own.text("exec", "web", "cat", "/proc/self/uid_map").split()
    assert listed.split()[2:4] == ["0", "0"]
    own.docker("kill", "web")
    resting = beside(own, "web", "-c", "ls -n /target/x; cat /proc/self/uid_map").stdout.decode().splitlines()
    assert (resting[0], resting[1].split()) == (listed, ids.split())


def waiting(engine: EngineProcess, terminals: list[Terminal], *arguments: str) -> Terminal:
    terminal = Terminal(engine.tare_command("debug", "--image", "busybox", *arguments), engine.environment())
    terminals.append(terminal)
    terminal.until(b"# ")
    return terminal


@pytest.mark.parametrize("options", [(), ("--pid", "host")])
def test_the_end_of_the_container_ends_the_session(
    own: EngineProcess, terminals: list[Terminal], options: tuple[str, ...]
) -> None:
    run(own, *options)
    terminal = waiting(own, terminals, "web")
    own.docker("kill", "web")
    terminal.until(b"container web has ended; the session ends with it")
    assert terminal.close() == 137
    own.docker("start", "web")
    assert own.text("exec", "web", "cat", "/f") == "live"


@pytest.mark.parametrize(("command", "words"), [("start", b"is being started"), ("rm", b"is being removed")])
def test_nobody_who_looks_is_in_the_way(
    own: EngineProcess, terminals: list[Terminal], command: str, words: bytes
) -> None:
    own.docker("create", "--name", "web", "busybox", "sleep", "1000")
    terminal = waiting(own, terminals, "web")
    own.docker("cp", "web:/etc/passwd", "-")  # shares the mount
    own.docker(command, "web")
    terminal.until(b"container web " + words)
    assert terminal.close() == 137


def test_a_killed_engine_leaves_the_target_and_no_session(own: EngineProcess, terminals: list[Terminal]) -> None:
    run(own)
    terminal = waiting(own, terminals, "web")
    own.kill()
    assert terminal.close() != 0
    own.start()
    assert list((own.run_root / "steps").iterdir()) == []
    assert own.text("exec", "web", "cat", "/f") == "live"
    assert own.text("exec", "web", "ps").count("\n") == 2  # the title, its own process, ps


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--image", "nosuch", "busybox"), 125, "tool image nosuch: "),
        (("--image", "bare", "busybox"), 127, "tool image bare:latest has no shell"),
        (("--image", "busybox", "-u", "ghost", "busybox"), 125, "unable to find user ghost"),
        (("--image", "busybox", "busybox", "nope"), 127, "nope"),
        (("--type", "container", "busybox"), 125, "No such container: busybox"),
        (("--image", "busybox", "step:1"), 125, "--image is for containers and images"),
        (("--image", "busybox"), 1, "--image needs a container or image"),
        (("--image", "busybox", "--cap-add", "NOPE", "busybox"), 125, "unknown capability"),
    ],
)
def test_what_cannot_be(own: EngineProcess, arguments: tuple[str, ...], code: int, words: str) -> None:
    refused = own.tare("debug", *arguments, check=False)
    assert words in refused.stderr.decode()
    assert refused.returncode == code
