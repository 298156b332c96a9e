"""Drivers beside plain directories: local mounts, S3 buckets, plugins; each with the ways in which it fails."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import docker as docker_py
import pytest

from engine_process import Completed, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

TESTS = Path(__file__).parents[1]
WORDS = "AKIAEXAMPLE:very-secret-words"


class Program:
    """A server of these tests: started, it says one line when it is ready."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        assert self.line, f"{arguments[0]} did not start"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drivers")
    for name in ("plugins", "specs", "array"):
        (made / name).mkdir()
    (made / "keys").write_text(f"{WORDS}\n")
    (made / "keys").chmod(0o600)
    (made / "tare.toml").write_text(
        f"""[volumes]
plugin_sockets = "{made}/plugins"
plugin_specs = ["{made}/specs"]
plugin_connect_seconds = 0.4
plugin_work_seconds = 2.0
plugin_ask_seconds = 2.0
s3_mount_seconds = 20.0
"""
    )
    return made


@pytest.fixture(scope="module")
def drivers(place: Path, busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine with directories of its own for plugins."""
    running = EngineProcess.make("--config", str(place / "tare.toml"))
    running.import_busybox(busybox_tar)
    yield running
    running.remove_containers()
    running.stop()


@pytest.fixture
def host(drivers: EngineProcess) -> Iterator[EngineProcess]:
    yield drivers
    drivers.remove_containers()
    if names := drivers.text("volume", "ls", "-q").split():
        drivers.docker("volume", "rm", "-f", *names)


@pytest.fixture
def plugin(place: Path) -> Iterator[Program]:
    """The plugin ``array``."""
    running = Program(str(TESTS / "volume_plugin.py"), str(place / "plugins" / "array.sock"), str(place / "array"))
    yield running
    running.stop()
    (place / "array" / "state.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that takes all keys, with the bucket ``bucket-1``."""
    running = Program(str(TESTS / "s3_server.py"))
    address = f"http://127.0.0.1:{running.line}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket-1", method="PUT")).close()
    yield address
    running.stop()


def run(host: EngineProcess, volume: str, script: str, *options: str, check: bool = True) -> Completed:
    return host.docker("run", "--rm", "-v", f"{volume}:/data", *options, "busybox", "sh", "-c", script, check=check)


def fetch(address: str) -> HTTPResponse:
    """An object as its owner gets it; the server looks for keys, not at them."""
    signature = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/s3/aws4_request"
    request = urllib.request.Request(
        address, headers={"Authorization": f"{signature}, SignedHeaders=host, Signature=0"}
    )
    answer: HTTPResponse = urllib.request.urlopen(request)
    return answer


def refused(done: Completed, *words: str) -> None:
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr.decode(), done.stderr.decode()


def nothing_is_mounted(host: EngineProcess, volume: str) -> None:
    assert f"/volumes/{volume}/_data" not in Path("/proc/self/mountinfo").read_text()
    assert host.text("ps", "-aq") == ""


def test_tmpfs_volume_with_owner(host: EngineProcess) -> None:
    options = ("type=tmpfs", "device=tmpfs", "o=size=1m", "uid=405", "gid=100", "mode=700")
    host.docker("volume", "create", *(word for option in options for word in ("-o", option)), "memory")
    seen = run(host, "memory", "grep ' /data ' /proc/mounts; stat -c '%u %g %a' /data").stdout.decode()
    assert "tmpfs /data tmpfs rw" in seen and "size=1024k" in seen and seen.splitlines()[-1] == "405 100 700"
    nothing_is_mounted(host, "memory")


def test_one_mount_for_all_users_until_the_last_goes(host: EngineProcess) -> None:
    host.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "shared")
    for name in ("one", "two"):
        host.docker("run", "-d", "--name", name, "-v", "shared:/data", "busybox", "sleep", "1000")
    host.docker("exec", "one", "sh", "-c", "echo text > /data/file")
    host.docker("rm", "-f", "one")
    assert host.text("exec", "two", "cat", "/data/file") == "text"
    taken = host.docker("volume", "rm", "shared", check=False)
    refused(taken, "volume is in use - [", "two is running: tare rm -f two")
    host.docker("rm", "-f", "two")
    nothing_is_mounted(host, "shared")


def test_mounts_survive_the_engine(host: EngineProcess) -> None:
    host.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "kept")
    host.docker("run", "-d", "--name", "user", "-v", "kept:/data", "busybox", "sleep", "1000")
    host.docker("exec", "user", "sh", "-c", "echo text > /data/file")
    host.restart(signal.SIGKILL)
    assert host.text("exec", "user", "cat", "/data/file") == "text"
    assert run(host, "kept", "cat /data/file").stdout == b"text\n"
    host.docker("rm", "-f", "user")
    nothing_is_mounted(host, "kept")


def test_a_directory_of_the_host_by_option(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host")
    options = ("-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}")
    host.docker("volume", "create", *options, "bound")
    assert run(host, "bound", "cat /data/file; echo back > /data/answer").stdout == b"of the host"
    host.docker("volume", "rm", "bound")
    assert (tmp_path / "answer").read_text() == "back\n"
    host.docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}/absent", "gone")
    refused(
        run(host, "gone", "true", check=False),
        "error while mounting volume '", f"mount {tmp_path}/absent:", "flags: 0x1000: no such file or directory",
    )  # fmt: skip
    nothing_is_mounted(host, "gone")


def test_a_file_system_in_a_file(host: EngineProcess, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as disk:
        disk.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    host.docker("volume", "create", "-o", "type=ext4", "-o", "o=loop", "-o", f"device={image}", "disk")
    run(host, "disk", "echo text > /data/file")
    assert run(host, "disk", "cat /data/file; grep -c ' /data ext4 ' /proc/mounts").stdout == b"text\n1\n"
    nothing_is_mounted(host, "disk")


def test_nfs_that_this_kernel_has_not(host: EngineProcess) -> None:
    if "nfs" in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has NFS")
    options = ("-o", "type=nfs", "-o", "o=addr=127.0.0.1", "-o", "device=:/export")
    host.docker("volume", "create", *options, "remote")
    refused(run(host, "remote", "true", check=False), "data: addr=127.0.0.1: no such device", "nfs-common")
    nothing_is_mounted(host, "remote")


def test_storage_that_does_not_answer(host: EngineProcess, tmp_path: Path) -> None:
    """A FUSE file system whose server never answers: what looks into it waits in the kernel until it is killed."""
    silent = tmp_path / "tare-silent"
    silent.mkdir()
    fuse = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
    script = (
        "import ctypes,sys; sys.exit(ctypes.CDLL(None, use_errno=True)"
        ".mount(b'silent', sys.argv[1].encode(), b'fuse', 0, sys.argv[2].encode()))"
    )
    subprocess.run([sys.executable, "-c", script, silent, data], pass_fds=[fuse], check=True)
    try:
        options = ("type=none", "o=bind", f"device={silent}/export", "mount-timeout=500ms", "mount-retries=1")
        host.docker("volume", "create", *(word for option in options for word in ("-o", option)), "silent")
        refused(run(host, "silent", "true", check=False), "no answer within 0.5 seconds", "mount-timeout=")
        nothing_is_mounted(host, "silent")
        found = subprocess.run(["pgrep", "-fc", f"mount.*{silent}/export"], capture_output=True, check=False)
        assert found.stdout.strip() == b"0"
    finally:
        subprocess.run(["umount", "-l", silent], check=True)
        os.close(fuse)


def test_bucket(host: EngineProcess, s3: str, place: Path) -> None:
    options = ("bucket=bucket-1", f"endpoint={s3}", f"credentials-file={place}/keys", "prefix=a/b")
    host.docker("volume", "create", "-d", "s3", *(word for option in options for word in ("-o", option)), "objects")
    host.docker("run", "-d", "--name", "writer", "-v", "objects:/data", "busybox", "sleep", "1000")
    host.docker("exec", "writer", "sh", "-c", "mkdir /data/d && echo text > /data/d/file && chown 405 /data/d/file")
    with fetch(f"{s3}/bucket-1/a/b/d/file") as stored:
        assert stored.read() == b"text\n"
    (found,) = json.loads(host.docker("volume", "inspect", "objects").stdout)
    assert (found["Scope"], found["Status"]["state"]) == ("global", "mounted")
    process = found["Status"]["pid"]
    assert (
        b"secret" not in Path(f"/proc/{process}/cmdline").read_bytes() + Path(f"/proc/{process}/environ").read_bytes()
    )
    host.restart(signal.SIGKILL)  # the bucket's process goes on and is found again
    assert host.text("exec", "writer", "stat", "-c", "%u", "/data/d/file") == "405"
    fd = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    select.select([fd], [], [])
    os.close(fd)
    refused(host.docker("exec", "writer", "ls", "/data", check=False), "/data")
    (found,) = json.loads(host.docker("volume", "inspect", "objects").stdout)
    assert found["Status"]["state"] == "dead" and "start them again" in found["Status"]["error"]
    host.docker("restart", "-t", "0", "writer")
    assert host.text("exec", "writer", "cat", "/data/d/file") == "text"
    host.docker("rm", "-f", "writer")
    (place / "local").write_bytes(os.urandom(6 << 20))
    host.tare("volume", "cp", f"{place}/local", "objects:/d/copied")
    host.tare("volume", "cp", "objects:d/copied", f"{place}/back")
    assert (place / "back").read_bytes() == (place / "local").read_bytes()
    nothing_is_mounted(host, "objects")
    host.docker("volume", "rm", "objects")
    with fetch(f"{s3}/bucket-1/a/b/d/file") as stored:
        assert stored.read() == b"text\n", "removing a volume must not delete a bucket's objects"
    assert "very-secret-words" not in host.log
    assert b"very-secret-words" not in b"".join(path.read_bytes() for path in host.data_root.glob("tare.db*"))


@pytest.mark.parametrize(
    ("bucket", "address", "words"),
    [
        ("absent-1", "", "no such bucket"),
        ("bucket-1", "http://127.0.0.1:9", "cannot connect"),
        ("bucket-1", "refusing", "are refused, or may not use this bucket"),
    ],
)
def test_buckets_that_cannot_be_mounted(
    host: EngineProcess, s3: str, place: Path, bucket: str, address: str, words: str
) -> None:
    strict = Program(str(TESTS / "s3_refusing_server.py")) if address == "refusing" else None
    try:
        endpoint = f"http://127.0.0.1:{strict.line}" if strict is not None else address or s3
        options = (f"bucket={bucket}", f"endpoint={endpoint}", f"credentials-file={place}/keys")
        host.docker("volume", "create", "-d", "s3", *(word for option in options for word in ("-o", option)), "wrong")
        refused(run(host, "wrong", "true", check=False), f"s3://{bucket} at {endpoint}", words)
        nothing_is_mounted(host, "wrong")
    finally:
        if strict is not None:
            strict.stop()


def test_bucket_options_that_are_refused(host: EngineProcess, place: Path) -> None:
    def create(*options: str) -> Completed:
        words = [word for option in options for word in ("-o", option)]
        return host.docker("volume", "create", "-d", "s3", *words, "wrong", check=False)

    keys = place / "exposed"
    keys.write_text(WORDS)
    keys.chmod(0o644)
    refused(create("bucket=bucket-1", f"credentials-file={keys}"), "others could read or change it", "chmod 600")
    keys.write_text("no keys")
    keys.chmod(0o600)
    refused(create("bucket=bucket-1", f"credentials-file={keys}"), "has no line ACCESS_KEY:SECRET_KEY")
    refused(create("bucket=bucket-1", f"credentials-file={place}/none"), "no such file or directory")
    refused(create("bucket=bucket-1"), 'missing required option: "credentials-file"')
    refused(create("bucket=x,allow_root", f"credentials-file={keys}"), 'invalid value for option "bucket"')
    refused(create("secret=x"), 'invalid option: "secret"')
    assert host.text("volume", "ls", "-q") == ""


def test_plugin(host: EngineProcess, plugin: Program, place: Path) -> None:
    assert host.text("volume", "create", "-d", "array", "-o", "size=1", "lun") == "lun"
    run(host, "lun", "echo text > /data/file")
    assert (place / "array" / "vol-lun" / "file").read_text() == "text\n"
    assert run(host, "fresh", "true", "--volume-driver", "array").returncode == 0
    listed = host.text("volume", "ls", "--format", "{{.Driver}} {{.Name}} {{.Scope}}").splitlines()
    assert sorted(listed) == ["array fresh global", "array lun global"]
    (found,) = json.loads(host.docker("volume", "inspect", "lun").stdout)
    assert (found["Driver"], found["Scope"], found["Status"]) == ("array", "global", {"mounts": 0})
    host.docker("run", "-d", "--name", "user", "-v", "lun:/data", "busybox", "sleep", "1000")
    refused(host.docker("volume", "rm", "lun", check=False), "volume is in use - [")
    host.restart(signal.SIGKILL)
    assert json.loads((place / "array" / "state.json").read_text())["lun"]["mounts"] != []
    host.docker("rm", "-f", "user")
    assert json.loads((place / "array" / "state.json").read_text())["lun"]["mounts"] == []
    host.docker("volume", "rm", "lun")
    assert "lun" not in json.loads((place / "array" / "state.json").read_text())


def test_files_of_a_plugins_volumes(host: EngineProcess, plugin: Program, place: Path, tmp_path: Path) -> None:
    host.docker("volume", "create", "-d", "array", "lun")
    (tmp_path / "file").write_text("text")
    host.tare("volume", "cp", f"{tmp_path}/file", "lun:/")
    assert (place / "array" / "vol-lun" / "file").read_text() == "text"
    (place / "array" / "vol-own").mkdir()
    (place / "array" / "vol-own" / "file").write_text("of the plugin's own")
    state = json.loads((place / "array" / "state.json").read_text())
    state["own"] = {"path": str(place / "array" / "vol-own"), "options": {}, "mounts": []}
    (place / "array" / "state.json").write_text(json.dumps(state))
    host.tare("volume", "cp", "own:/file", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "of the plugin's own"
    state = json.loads((place / "array" / "state.json").read_text())
    assert [one["mounts"] for one in state.values()] == [[], []]
    assert host.tare("volume", "ls", "-q").stderr == b""
    plugin.stop()
    listed = host.tare("volume", "ls", "-q")
    cause = f"cannot connect to plugin 'array' at unix://{place}/plugins/array.sock"
    assert listed.stdout == b"lun\nown\n" and listed.stderr.startswith(b"WARNING: list array: VolumeDriver.List: ")
    client = docker_py.APIClient(base_url=host.host)
    (warning,) = client.volumes()["Warnings"]
    client.close()
    assert cause in warning and f"WARNING: {warning}\n" == listed.stderr.decode()
    refused(host.tare("volume", "cp", "lun:/file", "-", check=False), "error while mounting volume", cause)


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        ("hang-mount", "VolumeDriver.Mount: plugin 'array' does not answer: no result within 2 seconds"),
        ("die-mount", "VolumeDriver.Mount: plugin 'array' went away"),
        ("refuse-mount", "VolumeDriver.Mount: the array is offline"),
    ],
)
def test_plugins_that_fail_to_mount(host: EngineProcess, plugin: Program, behave: str, words: str) -> None:
    host.docker("volume", "create", "-d", "array", "-o", f"behave={behave}", "bad")
    refused(run(host, "bad", "true", check=False), "error while mounting volume '", words)
    assert host.text("ps", "-aq") == ""
    plugin.stop()
    assert host.text("volume", "ls", "-q") == "bad"
    refused(host.docker("volume", "rm", "bad", check=False), "remove bad: ")
    host.docker("volume", "rm", "-f", "bad")  # forgotten, as its driver is gone


def test_plugins_that_are_not_there(host: EngineProcess, plugin: Program, place: Path) -> None:
    words = 'create none: error looking up volume plugin none: plugin "none" not found'
    refused(host.docker("volume", "create", "-d", "none", "none", check=False), words)
    refused(
        host.docker("volume", "create", "-d", "array", "-o", "behave=refuse-create", "full", check=False),
        "create full: VolumeDriver.Create: no room on the array",
    )
    (place / "specs" / "dead.spec").write_text(f"unix://{place}/nobody.sock\n")
    (place / "specs" / "broken.json").write_text("{")
    try:
        refused(
            host.docker("volume", "create", "-d", "dead", "x1", check=False),
            f"cannot connect to plugin 'dead' at unix://{place}/nobody.sock",
        )
        refused(host.docker("volume", "create", "-d", "broken", "x1", check=False), 'plugin "broken" not found')
    finally:
        for name in ("dead.spec", "broken.json"):
            (place / "specs" / name).unlink()
    assert host.text("volume", "ls", "-q") == ""
