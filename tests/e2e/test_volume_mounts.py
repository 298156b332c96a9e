"""What ``--mount`` can ask for beyond a path: subpaths, images, owners, what is below a source."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from engine_process import Completed, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture
def volume(host: EngineProcess) -> Iterator[str]:
    yield host.text("volume", "create", "parts")
    host.remove_containers()
    host.docker("volume", "rm", "-f", "parts")


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file system mounted below it."""
    (tmp_path / "top" / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tare-below", tmp_path / "top" / "below"], check=True)
    (tmp_path / "top" / "below" / "file").write_text("below")
    yield tmp_path / "top"
    subprocess.run(["umount", tmp_path / "top" / "below"], check=True)


def mount(host: EngineProcess, text: str, script: str, *options: str, check: bool = True) -> Completed:
    """Run a script with a mount at /x, by Tare's own command line, which knows options that Docker's does not."""
    arguments = ("run", "--rm", "--mount", f"{text},target=/x", *options, "busybox", "sh", "-c", script)
    return host.tare(*arguments, check=check)


def seen(host: EngineProcess, text: str, script: str, *options: str) -> str:
    return mount(host, text, script, *options).stdout.decode().strip()


def test_subpath(host: EngineProcess, volume: str) -> None:
    fill = (
        "mkdir -p /x/a/b && echo text > /x/a/b/file && ln -s a/b /x/link && ln -s /etc /x/out && ln -s ../../.. /x/up"
    )
    mount(host, f"source={volume}", fill)
    assert seen(host, f"source={volume},volume-subpath=a/b", "cat /x/file") == "text"
    assert seen(host, f"source={volume},volume-subpath=a/b/file", "cat /x") == "text"
    assert (
        seen(host, f"source={volume},volume-subpath=link,readonly", "cat /x/file; touch /x/n || echo no") == "text\nno"
    )
    for outside in ("out/passwd", "out"):
        refused = mount(host, f"source={volume},volume-subpath={outside}", "ls /x", check=False)
        assert b"cannot access path" in refused.stderr and b"no such file or directory" in refused.stderr
    assert seen(host, f"source={volume},volume-subpath=up", "ls /x") == "a\nlink\nout\nup", "the volume is its own root"
    assert not list((host.run_root / "mounts").iterdir())


def test_copy_up_into_a_subpath(host: EngineProcess, volume: str) -> None:
    mount(host, f"source={volume}", "mkdir /x/etc")
    arguments = ("run", "--rm", "--mount", f"source={volume},target=/etc,volume-subpath=etc", "busybox", "ls", "/etc")
    assert "passwd" in host.tare(*arguments).stdout.decode()


def test_image(host: EngineProcess, client: docker_py.DockerClient) -> None:
    assert seen(host, "type=image,source=busybox", "ls -d /x/bin; touch /x/n || echo read-only") == "/x/bin\nread-only"
    assert "root:x:0:0" in seen(host, "type=image,source=busybox,image-subpath=etc/passwd", "cat /x")
    absent = {"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "image", "Source": "absent:1", "Target": "/x"}]}}
    answer = client.api.post(f"{client.api.base_url}/v1.51/containers/create", json=absent)
    assert (answer.status_code, answer.json()["message"]) == (404, "No such image: absent:1")
    container = host.tare("create", "--mount", "type=image,source=busybox,target=/x", "busybox").stdout.decode().strip()
    assert json.loads(host.docker("inspect", "-f", "{{json .Mounts}}", container).stdout)[0]["Type"] == "image"


def test_an_image_that_is_mounted_is_in_use(host: EngineProcess, busybox_tar: bytes) -> None:
    host.docker("import", "-", "mounted:latest", stdin=busybox_tar + bytes(1024))
    host.docker(
        "create", "--name", "has-it", "--mount", "type=image,source=mounted,target=/x", "busybox", "ls", "/x/bin/ls"
    )
    refused = host.docker("rmi", "mounted", check=False)
    assert (refused.returncode, b"(must force) - container" in refused.stderr) == (1, True)
    assert host.docker("start", "-a", "has-it").stdout == b"/x/bin/ls\n"
    host.docker("rm", "has-it")
    host.docker("rmi", "mounted")


def test_initial_owner(host: EngineProcess, volume: str) -> None:
    script = "stat -c '%u %g %a' /x"
    assert seen(host, "source=owned,uid=405,gid=100,mode=2750", script) == "405 100 2750"
    assert seen(host, "source=owned,uid=7", script) == "405 100 2750", "only when it is made"
    host.docker("volume", "rm", "owned")
    host.tare("run", "--rm", "--mount", "source=owned,target=/etc,uid=405", "busybox", "true")
    filled = seen(host, "source=owned", f"{script}; ls /x/passwd")
    assert filled == "405 0 755\n/x/passwd", "the content of the image does not take the owner back"
    host.docker("volume", "rm", "owned")
    refused = mount(host, "source=owned,uid=me", "true", check=False)
    assert b'create owned: invalid value for option "uid"' in refused.stderr
    assert "owned" not in host.text("volume", "ls", "-q").split()


def test_ids(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        subprocess.run(["chown", "1234:2345", path], check=True)
    script = "stat -c '%u %g' /x/file; touch /x/made-$(id -u)"
    assert seen(host, f"type=bind,source={tmp_path},idmap", script, "--user", "guest") == "405 100"
    assert seen(host, f"type=bind,source={tmp_path},idmap=uids=1234-0-1;gids=2345-0-1", script) == "0 0"
    for name in ("made-405", "made-0"):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid) == (1234, 2345), name
    for wrong in ("uids=1-2", "users=1-2-3", "uids=0-0-0", "uids=0-4294967295-2"):
        refused = mount(host, f"type=bind,source={tmp_path},idmap={wrong}", "true", check=False)
        assert b"invalid idmap" in refused.stderr, wrong


def test_mounts_below_a_source(host: EngineProcess, nested: Path) -> None:
    source = f"type=bind,source={nested}"
    script = "cat /x/below/file 2>/dev/null; touch /x/below/new 2>/dev/null && echo written; true"
    assert seen(host, source, script) == "belowwritten"
    assert seen(host, f"{source},bind-recursive=disabled", script) == "written"
    assert not (nested / "below" / "new2").exists()
    assert seen(host, f"{source},readonly", script) == "below"
    assert seen(host, f"{source},readonly,bind-recursive=writable", script) == "belowwritten"
    forced = f"{source},readonly,bind-recursive=readonly,bind-propagation=rprivate"
    assert seen(host, forced, script) == "below"


def test_propagation(host: EngineProcess, tmp_path: Path) -> None:
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-private", tmp_path], check=True)
        refused = mount(host, f"type=bind,source={tmp_path},bind-propagation=rshared", "true", check=False)
        assert f"path {tmp_path} is mounted on {tmp_path} but it is not a shared mount".encode() in refused.stderr
        subprocess.run(["mount", "--make-shared", tmp_path], check=True)
        (tmp_path / "in").mkdir()
        host.docker("run", "-d", "--name", "peer", "-v", f"{tmp_path}:/x:rslave", "busybox", "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", "tare-in", tmp_path / "in"], check=True)
        try:
            assert "/x/in" in host.text("exec", "peer", "cat", "/proc/mounts")
        finally:
            subprocess.run(["umount", tmp_path / "in"], check=True)
    finally:
        host.remove_containers()
        subprocess.run(["umount", tmp_path], check=True)


def test_sources_and_targets_that_do_not_fit(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for source, target in ((tmp_path, "/etc/passwd"), (tmp_path / "file", "/etc")):
        refused = host.docker("run", "--rm", "-v", f"{source}:{target}", "busybox", "true", check=False)
        assert (refused.returncode, b"not a directory" in refused.stderr) == (125, True)
    refused = host.docker("run", "--rm", "-v", f"{tmp_path}/file/below:/x", "busybox", "true", check=False)
    assert b"error while creating mount source path" in refused.stderr
    made = mount(host, f"type=bind,source={tmp_path}/new/dir,bind-create-src", "ls -d /x")
    assert (made.stdout, (tmp_path / "new" / "dir").is_dir()) == (b"/x\n", True)
    assert host.text("ps", "-aq") == ""


def test_a_volume_that_is_mounted_elsewhere_is_kept(host: EngineProcess, volume: str, tmp_path: Path) -> None:
    place = host.text("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
    (Path(place) / "file").write_text("x")
    subprocess.run(["mount", "--bind", place, tmp_path], check=True)
    try:
        refused = host.docker("volume", "rm", volume, check=False)
        assert f"its directory is mounted at {tmp_path} (umount {tmp_path})\n".encode() in refused.stderr
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    holder = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", 'mount --bind "$1" "$2" && echo ready && read -r end', "-", place, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        refused = host.docker("volume", "rm", "-f", volume, check=False)
        assert f"its directory is mounted at {tmp_path} of process".encode() in refused.stderr
        assert f" -m umount {tmp_path})\n".encode() in refused.stderr
        assert (Path(place) / "file").exists()
    finally:
        holder.communicate(b"\n")
    host.docker("volume", "rm", volume)
    assert not Path(place).exists()


def test_volumes_from_with_details(host: EngineProcess, volume: str) -> None:
    mount(host, f"source={volume}", "mkdir /x/a && echo text > /x/a/file")
    host.tare("create", "--name", "giver", "--mount", f"source={volume},target=/x,volume-subpath=a", "busybox")
    assert host.text("run", "--rm", "--volumes-from", "giver:ro", "busybox", "cat", "/x/file") == "text"
    refused = host.docker("run", "--rm", "--volumes-from", "giver:odd", "busybox", "true", check=False)
    assert b"invalid mode: odd" in refused.stderr


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_what_the_source_s_mount_forbids_stays_forbidden(host: EngineProcess, tmp_path: Path, runtime: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,nosuid,nodev", "none", tmp_path], check=True)
    try:
        (tmp_path / "program").write_text("#!/bin/sh\n")
        (tmp_path / "program").chmod(0o755)
        script = "grep ' /x ' /proc/mounts | cut -d' ' -f4; /x/program; touch /x/file"
        run = ("run", "--rm", "--runtime", runtime, "-v", f"{tmp_path}:/x", "busybox", "sh", "-c", script)
        seen = host.docker(*run, check=False)
        options = seen.stdout.decode().strip().split(",")
        assert (seen.returncode, options[0], {"noexec", "nosuid", "nodev"} <= set(options)) == (0, "rw", True)
        assert b"Permission denied" in seen.stderr
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        seen = host.docker(*run, check=False)
        assert (seen.returncode, seen.stdout[:3]) == (1, b"ro,")
        assert b"Read-only file system" in seen.stderr
    finally:
        subprocess.run(["umount", tmp_path], check=True)
