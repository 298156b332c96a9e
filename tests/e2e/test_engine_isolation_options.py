"""Containers with ids, memory and namespaces of their own or another's, and the killing of what takes too much."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

FIRST = 0x7000_0000


def _state(host: EngineProcess, name: str) -> dict[str, object]:
    state: dict[str, object] = json.loads(host.text("inspect", name))[0]["State"]
    return state


@pytest.fixture(autouse=True, scope="module")
def _reachable(engine: EngineProcess) -> Iterator[None]:
    """Others may pass through the engine's directory, as they may where engines are by default."""
    engine.root.chmod(0o711)
    yield
    engine.root.chmod(0o700)


@pytest.fixture
def own(host: EngineProcess, tmp_path: Path) -> Iterator[EngineProcess]:
    """The engine with a container ``own`` that has ids of its own, a bind mount and a volume."""
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 7, 8)
    host.tare(
        "run", "-d", "--name", "own", "--userns", "auto:size=2000", "-v", f"{tmp_path}/data:/data",
        "-v", "own-data:/named",
        "busybox", "sh", "-c", "touch /data/file /named/file /root-file; chown 33:34 /root-file; sleep 600",
    )  # fmt: skip
    yield host
    host.docker("rm", "-f", "own", check=False)
    host.docker("volume", "rm", "-f", "own-data")


def _wait_for(host: EngineProcess, path: str) -> None:
    host.docker("exec", "own", "sh", "-c", f"until test -e {path}; do usleep 10000; done")


def test_a_container_has_ids_of_its_own_and_stores_plain_ones(own: EngineProcess, tmp_path: Path) -> None:
    _wait_for(own, "/root-file")
    pid = int(str(_state(own, "own")["Pid"]))
    inside, outside, size = Path(f"/proc/{pid}/uid_map").read_text().split()
    assert (inside, size) == ("0", "2000")
    assert int(outside) >= FIRST
    assert os.stat(f"/proc/{pid}").st_uid == int(outside)
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    seen = own.text("exec", "own", "stat", "-c", "%u:%g", "/", "/data", "/data/file", "/root-file", "/etc/hosts")
    assert seen.split() == ["0:0", "7:8", "0:0", "33:34", "0:0"]
    stored = (tmp_path / "data/file").stat()
    assert (stored.st_uid, stored.st_gid) == (0, 0)
    upper = next(own.data_root.glob("snapshots/*/upper/root-file"))
    assert (upper.stat().st_uid, upper.stat().st_gid) == (33, 34)
    named = own.data_root / "volumes/own-data/_data/file"
    assert named.stat().st_uid == 0


def test_its_root_has_no_power_over_the_host(own: EngineProcess) -> None:
    done = own.docker("exec", "own", "sh", "-c", "echo 1 > /proc/sys/kernel/panic", check=False)
    assert done.returncode != 0
    assert b"0 0 " not in own.docker("exec", "own", "cat", "/proc/self/uid_map").stdout
    done = own.docker("exec", "own", "mknod", "/disk", "b", "8", "0", check=False)
    assert (done.returncode, b"Operation not permitted" in done.stderr) == (1, True)


def test_a_closed_directory_above_is_named(host: EngineProcess) -> None:
    host.root.chmod(0o700)
    try:
        refused = host.tare("run", "--rm", "--userns", "auto", "busybox", "true", check=False)
    finally:
        host.root.chmod(0o711)
    assert refused.returncode == 125
    assert f"{host.root} is closed to others (mode 0700)" in refused.stderr.decode()


def test_users_of_an_exec_are_inside_the_range(own: EngineProcess) -> None:
    assert own.text("exec", "-u", "1999:1998", "own", "id").startswith("uid=1999 gid=1998")
    refused = own.docker("exec", "-u", "2000", "own", "id", check=False)
    assert refused.returncode != 0
    assert b"the id 2000 is outside of the container's 2000 ids" in refused.stderr + refused.stdout


def test_it_comes_back_with_the_same_ids(own: EngineProcess) -> None:
    before = json.loads(own.text("inspect", "own"))[0]["HostConfig"]["UsernsMode"]
    mapped = Path(f"/proc/{_state(own, 'own')['Pid']}/uid_map").read_text()
    own.docker("restart", "-t", "0", "own")
    assert Path(f"/proc/{_state(own, 'own')['Pid']}/uid_map").read_text() == mapped
    assert before == "auto:size=2000"
    own.docker("rm", "-f", "own")
    assert not any((own.run_root / "isolation").iterdir())


def test_no_two_containers_have_an_id_in_common(host: EngineProcess) -> None:
    for name in ("first", "second", "third"):
        host.tare("run", "-d", "--name", name, "--userns", "auto", "--network", "none", "busybox", "sleep", "600")

    def first_of(name: str) -> int:
        return int(Path(f"/proc/{_state(host, name)['Pid']}/uid_map").read_text().split()[1])

    ranges = sorted(first_of(name) for name in ("first", "second", "third"))
    assert all(later - earlier >= 65536 for earlier, later in itertools.pairwise(ranges))
    gap = first_of("second")
    host.docker("rm", "-f", "second")
    host.tare("run", "-d", "--name", "fourth", "--userns", "auto", "--network", "none", "busybox", "sleep", "600")
    assert first_of("fourth") == gap


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--userns", "auto", "--privileged"), "--privileged cannot share with a user namespace"),
        (("--userns", "auto", "--pid", "host"), "--pid cannot share with a user namespace"),
        (("--userns", "auto", "--network", "host"), "--network cannot share with a user namespace"),
        (("--userns", "auto:size=5"), "a size is 1024 to"),
        (("--userns", "auto:colour=red"), "invalid USER mode: auto:colour=red"),
        (("--userns", "auto", "-u", "70000"), "the id 70000 is outside of the container's 65536 ids"),
        (
            ("--userns", "auto", "-v", "/proc/sys:/x"),
            "/proc/sys: the file system proc cannot be mounted with other ids",
        ),
    ],
)
def test_what_ids_of_its_own_cannot_go_with(host: EngineProcess, options: tuple[str, ...], words: str) -> None:
    refused = host.tare("run", "--rm", *options, "busybox", "true", check=False)
    assert refused.returncode == 125
    assert words in refused.stderr.decode()
    assert host.text("ps", "-aq") == ""


def test_shared_memory_and_queues_are_shared_with_who_joins(host: EngineProcess) -> None:
    host.docker("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "1m", "busybox", "sleep", "600")
    host.docker("exec", "donor", "sh", "-c", "echo hello > /dev/shm/greeting")
    joined = ("run", "--rm", "--ipc", "container:donor", "busybox", "sh", "-c")
    assert host.text(*joined, "cat /dev/shm/greeting; echo reply > /dev/shm/reply; readlink /proc/self/ns/ipc") == (
        f"hello\n{host.text('exec', 'donor', 'readlink', '/proc/self/ns/ipc')}"
    )
    assert host.text("exec", "donor", "cat", "/dev/shm/reply") == "reply"
    full = host.docker(*joined, "dd if=/dev/zero of=/dev/shm/big bs=64k count=32 2>&1", check=False)
    assert b"No space left" in full.stdout
    host.docker("kill", "donor")
    refused = host.docker(*joined, "true", check=False)
    assert refused.returncode == 125
    assert b"failed to join IPC namespace: container " in refused.stderr
    assert b" is not running" in refused.stderr
    assert not any((host.run_root / "isolation").iterdir())


def test_private_memory_is_not_joined(host: EngineProcess) -> None:
    host.docker("run", "-d", "--name", "private", "busybox", "sleep", "600")
    refused = host.docker("run", "--rm", "--ipc", "container:private", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert b"non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in refused.stderr


def test_who_joins_a_pid_namespace_sees_its_processes_and_ends_with_it(host: EngineProcess) -> None:
    host.docker("run", "-d", "--name", "leader", "busybox", "sleep", "4711")
    assert "sleep 4711" in host.text("run", "--rm", "--pid", "container:leader", "busybox", "ps")
    host.docker("run", "-d", "--name", "follower", "--pid", "container:leader", "busybox", "sleep", "4712")
    mode = json.loads(host.text("inspect", "follower"))[0]["HostConfig"]["PidMode"]
    assert mode == f"container:{json.loads(host.text('inspect', 'leader'))[0]['Id']}"
    host.docker("rename", "leader", "captain")
    host.docker("restart", "-t", "0", "captain")
    assert host.text("wait", "follower") == "137"
    host.docker("start", "follower")  # joins the namespace that the leader has now
    assert "sleep 4712" in host.text("exec", "captain", "ps")
    host.docker("kill", "captain")
    host.docker("wait", "follower")
    refused = host.docker("start", "follower", check=False)
    assert b"failed to join PID namespace: container " in refused.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [("exec tail -c 64m /dev/zero", 137), ("tail -c 64m /dev/zero; exit 3", 3)],
    ids=["first process", "child"],
)
def test_being_killed_for_memory_is_told(host: EngineProcess, command: str, code: int) -> None:
    before = host.text("info", "-f", "{{.SystemTime}}")
    limits = ("-m", "16m", "--memory-swap", "16m")
    done = host.docker("run", "--name", "hog", *limits, "busybox", "sh", "-c", command, check=False)
    assert done.returncode == code
    assert _state(host, "hog")["OOMKilled"] is True
    after = host.text("info", "-f", "{{.SystemTime}}")
    events = host.text(
        "events", "--since", before, "--until", after, "--filter", "container=hog", "--format", "{{.Action}}"
    )
    assert "oom" in events.split()
    host.docker("start", "hog")
    host.docker("wait", "hog")


def test_each_killed_child_is_told_while_the_container_goes_on(host: EngineProcess) -> None:
    before = host.text("info", "-f", "{{.SystemTime}}")
    events = host.start_docker("events", "--since", before, "--filter", "container=hogs", "--format", "{{.Action}}")
    assert events.stdout is not None
    script = "for n in 1 2; do read go; tail -c 64m /dev/zero; done; read go"
    limits = ("-m", "16m", "--memory-swap", "16m")
    host.docker("run", "-di", "--name", "hogs", *limits, "busybox", "sh", "-c", script)
    feed = host.start_docker("attach", "hogs")
    assert feed.stdin is not None
    seen: list[bytes] = []
    for _ in range(2):
        feed.stdin.write(b"go\n")
        feed.stdin.flush()
        while (action := events.stdout.readline()) != b"oom\n":
            seen.append(action)
        state = _state(host, "hogs")
        assert (state["OOMKilled"], state["Status"]) == (True, "running")
    assert b"die\n" not in seen
    feed.stdin.write(b"go\n")
    feed.communicate()
    assert events.stdout.readline() == b"die\n"
    events.terminate()
    events.communicate()
    state = _state(host, "hogs")
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 0)
    host.docker("start", "hogs")
    assert _state(host, "hogs")["OOMKilled"] is False


def test_a_container_that_ends_by_itself_was_not_killed_for_memory(host: EngineProcess) -> None:
    host.docker("run", "--name", "calm", "-m", "32m", "busybox", "sh", "-c", "kill -KILL $$; exit 137", check=False)
    assert _state(host, "calm")["OOMKilled"] is False


def test_limits_that_need_a_parent(host: EngineProcess) -> None:
    parent = f"/tare-options-{os.getpid()}"
    shown = host.text(
        "run",
        "--name",
        "nested",
        "--cgroup-parent",
        parent,
        "--cgroupns",
        "host",
        "busybox",
        "grep",
        ":pids:",
        "/proc/self/cgroup",
    )
    assert parent in shown
    host.docker("rm", "nested")
    for directory in Path("/sys/fs/cgroup").glob(f"*{parent}"):
        directory.rmdir()


def test_flags_take_values_and_option_words_end_at_the_image(host: EngineProcess) -> None:
    assert host.tare("run", "--rm=true", "--init=false", "busybox", "echo", "--rm=false").stdout == b"--rm=false\n"
    assert host.text("ps", "-aq") == ""
    refused = host.tare("run", "--init=perhaps", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert b'invalid argument "perhaps" for "--init" flag: strconv.ParseBool' in refused.stderr


def test_a_cidfile_names_the_container(host: EngineProcess, tmp_path: Path) -> None:
    host.tare("run", "--cidfile", f"{tmp_path}/id", "--name", "noted", "busybox", "true")
    assert (tmp_path / "id").read_text() == json.loads(host.text("inspect", "noted"))[0]["Id"]


@pytest.mark.parametrize("running", [True, False])
def test_copies_and_exports_have_plain_owners(own: EngineProcess, tmp_path: Path, running: bool) -> None:
    _wait_for(own, "/root-file")
    (tmp_path / "copied").write_text("x")
    os.chown(tmp_path / "copied", 12, 13)
    if not running:
        own.docker("kill", "own")
    for place in ("/copied", "/named/copied"):
        own.docker("cp", "-a", f"{tmp_path}/copied", f"own:{place}")
        with tarfile.open(fileobj=io.BytesIO(own.docker("cp", f"own:{place}", "-").stdout)) as archive:
            assert [(member.uid, member.gid) for member in archive] == [(12, 13)]
    with tarfile.open(fileobj=io.BytesIO(own.docker("export", "own").stdout)) as archive:
        owners = {member.name: (member.uid, member.gid) for member in archive}
    assert (owners["root-file"], owners["copied"], owners["etc"]) == ((33, 34), (12, 13), (0, 0))
    own.docker("commit", "own", "committed")
    shown = own.text("run", "--rm", "committed", "stat", "-c", "%u:%g", "/root-file", "/copied", "/etc")
    assert shown.split() == ["33:34", "12:13", "0:0"]
    own.docker("rmi", "committed")
    if not running:
        own.docker("start", "own")
    assert own.text("exec", "own", "stat", "-c", "%u:%g", "/copied", "/named/copied").split() == ["12:13", "12:13"]
