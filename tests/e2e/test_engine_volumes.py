"""Data that outlive containers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine_process import EngineProcess, UnixConnection

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture
def volume(host: EngineProcess) -> Iterator[str]:
    yield host.text("volume", "create", "kept")
    host.remove_containers()
    host.docker("volume", "rm", "-f", "kept")


def box(host: EngineProcess, *options: str, script: str) -> str:
    return host.text("run", "--rm", *options, "busybox", "sh", "-c", script)


def test_named_volume_outlives_containers(host: EngineProcess, volume: str) -> None:
    box(host, "-v", f"{volume}:/data", script="echo text > /data/file; echo lost > /elsewhere")
    assert box(
        host, "-v", f"{volume}:/data:ro", script="cat /data/file; ls /elsewhere 2>&1; touch /data/x 2>&1; true"
    ) == ("text\nls: /elsewhere: No such file or directory\ntouch: /data/x: Read-only file system")


def test_run_makes_a_missing_volume(host: EngineProcess) -> None:
    box(host, "-v", "implied:/data", script="echo 1 > /data/file")
    assert "implied" in host.text("volume", "ls", "-q").split()
    assert host.text("volume", "rm", "implied") == "implied"


def test_volume_in_use_is_kept(host: EngineProcess, volume: str) -> None:
    user = host.text("create", "-v", f"{volume}:/data", "busybox")
    refused = host.docker("volume", "rm", volume, check=False)
    assert refused.returncode == 1
    assert f"volume is in use - [{user}]" in refused.stderr.decode()
    host.docker("rm", user)
    assert host.text("volume", "rm", volume) == volume


def ask(host: EngineProcess, method: str, path: str, body: object = None) -> int:
    with closing(UnixConnection(host.socket)) as connection:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_volumes_of_a_container_that_is_being_made_stay(host: EngineProcess, volume: str) -> None:
    made, answers = threading.Event(), set()

    def clean_up() -> None:
        while not made.is_set():
            answers.add(ask(host, "POST", "/volumes/prune"))
            answers.add(ask(host, "DELETE", f"/volumes/{volume}?force=1"))

    cleaner = threading.Thread(target=clean_up)
    cleaner.start()
    try:
        body = {"Image": "busybox", "Volumes": {"/anonymous": {}}, "HostConfig": {"Binds": [f"{volume}:/named"]}}
        assert [ask(host, "POST", "/containers/create", body) for _ in range(10)] == [201] * 10
    finally:
        made.set()
        cleaner.join()
    assert answers <= {200, 204, 409}
    host.docker("rm", "-f", "-v", *host.text("ps", "-aq").split())


def test_volume_that_is_not_there(host: EngineProcess) -> None:
    refused = host.docker("volume", "inspect", "ghost", check=False)
    assert (refused.returncode, b"ghost" in refused.stderr) == (1, True)
    assert host.docker("volume", "rm", "-f", "ghost").returncode == 0
    assert b"includes invalid characters" in host.docker("volume", "create", "a/b", check=False).stderr


def test_anonymous_volumes_go_with_rm(host: EngineProcess) -> None:
    before = host.text("volume", "ls", "-q")
    box(host, "-v", "/data", script="echo 1 > /data/file; grep -q ' /data ' /proc/mounts")
    assert host.text("volume", "ls", "-q") == before
    keeper = host.text("create", "-v", "/data", "busybox")
    assert len(host.text("volume", "ls", "-q").split()) == len(before.split()) + 1
    host.docker("rm", "-v", keeper)
    assert host.text("volume", "ls", "-q") == before


def test_empty_volume_gets_what_the_image_has(host: EngineProcess, volume: str) -> None:
    script = (
        "ls -ln /copied | awk '{print $1, $3, $4, $9}'; ls -ldn /copied | awk '{print $1, $3}'; readlink /copied/link"
    )
    recipe = (
        b"FROM busybox\nRUN mkdir -m 750 /copied && echo a > /copied/a && chmod 600 /copied/a && "
        b"chown -R 405:100 /copied && ln -s a /copied/link\nVOLUME /auto\n"
    )
    host.docker("build", "-q", "-t", "filled", "-", stdin=recipe)
    try:
        wanted = host.text("run", "--rm", "filled", "sh", "-c", script)
        assert host.text("run", "--rm", "-v", f"{volume}:/copied", "filled", "sh", "-c", script) == wanted
        host.docker("run", "--rm", "-v", f"{volume}:/copied", "filled", "rm", "/copied/a")
        again = host.text("run", "--rm", "-v", f"{volume}:/copied", "filled", "ls", "/copied")
        assert again == "link", "a volume with content must stay as it is"
        assert host.text("run", "--rm", "-v", f"{volume}2:/copied:nocopy", "filled", "ls", "-A", "/copied") == ""
        host.docker("volume", "rm", f"{volume}2")
        mounts = json.loads(
            host.docker("inspect", "-f", "{{json .Mounts}}", host.text("create", "filled", "true")).stdout
        )
        assert [(mount["Type"], mount["Destination"]) for mount in mounts] == [("volume", "/auto")]
    finally:
        host.remove_containers()
        host.docker("rmi", "-f", "filled")


def test_bind_mounts(host: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    seen = box(host, "-v", f"{tmp_path}:/host", script="cat /host/file; echo back > /host/answer")
    assert (seen, (tmp_path / "answer").read_text()) == ("from the host", "back\n")
    refused = box(host, "-v", f"{tmp_path}:/host:ro", script="echo x 2>&1 > /host/answer || echo refused")
    assert refused.splitlines()[-1] == "refused"
    assert box(host, "-v", f"{tmp_path}/file:/one", script="cat /one") == "from the host"


def test_missing_bind_source(host: EngineProcess, tmp_path: Path) -> None:
    box(host, "-v", f"{tmp_path}/made/here:/host", script="touch /host/x")
    assert (tmp_path / "made" / "here" / "x").exists()
    mount = f"type=bind,source={tmp_path}/absent,target=/host"
    refused = host.docker("run", "--rm", "--mount", mount, "busybox", "true", check=False)
    assert refused.returncode == 125
    assert f"bind source path does not exist: {tmp_path}/absent" in refused.stderr.decode()
    assert not (tmp_path / "absent").exists()


def test_duplicate_mount_points(host: EngineProcess) -> None:
    refused = host.docker("run", "--rm", "-v", "/a", "-v", "/tmp:/a", "--tmpfs", "/a", "busybox", check=False)
    assert (refused.returncode, b"Duplicate mount point: /a" in refused.stderr) == (125, True)


def test_volumes_from(host: EngineProcess) -> None:
    host.docker("run", "--name", "source", "-v", "/shared", "busybox", "sh", "-c", "echo given > /shared/file")
    assert host.text("run", "--rm", "--volumes-from", "source:ro", "busybox", "cat", "/shared/file") == "given"
    missing = host.docker("run", "--rm", "--volumes-from", "ghost", "busybox", check=False)
    assert (missing.returncode, b"No such container: ghost" in missing.stderr) == (125, True)


def test_links_in_a_container_do_not_lead_mounts_out(host: EngineProcess, tmp_path: Path) -> None:
    """A link in the image at a mount's destination must be resolved inside the container."""
    target = tmp_path / "victim"
    target.mkdir()
    host.docker("build", "-q", "-t", "linked", "-", stdin=f"FROM busybox\nRUN ln -s {target} /data\n".encode())
    try:
        host.text("run", "--rm", "-v", "/data", "linked", "touch", "/data/x")
        assert list(target.iterdir()) == []
    finally:
        host.docker("rmi", "-f", "linked")
