"""Snapshots, clones, restores, backups and protection, on volumes that containers write to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

# The second file never has more lines than the first, and at most one less.
WRITER = "i=0; while :; do i=$((i+1)); echo $i >> /data/first; echo $i >> /data/second; done"
VOLUME = "ledger"


@pytest.fixture
def volume(host: EngineProcess) -> Iterator[str]:
    host.docker("volume", "create", "--label", "kind=test", VOLUME)
    yield VOLUME
    host.remove_containers()
    for name in host.text("volume", "ls", "-q").split():
        host.tare("volume", "unprotect", name)
        host.tare("volume", "snapshot", "rm", "--all", name)
        host.docker("volume", "rm", name)


def place(host: EngineProcess, volume: str) -> Path:
    return Path(host.text("volume", "inspect", "-f", "{{.Mountpoint}}", volume))


def counts(host: EngineProcess, volume: str) -> tuple[int, int]:
    directory = place(host, volume)
    first, second = ((directory / name).read_bytes() for name in ("first", "second"))
    assert first.endswith(b"\n") and (not second or second.endswith(b"\n"))
    return first.count(b"\n"), second.count(b"\n")


def write(host: EngineProcess, volume: str, text: str) -> None:
    host.docker("run", "--rm", "-v", f"{volume}:/data", "busybox", "sh", "-c", f"echo {text} > /data/file")


def refused(host: EngineProcess, *arguments: str, stdin: bytes | None = None) -> str:
    done = host.tare(*arguments, check=False, stdin=stdin)
    assert done.returncode == 1, done
    return done.stderr.decode()


def start_writer(host: EngineProcess, volume: str, name: str = "writer") -> None:
    host.docker("run", "-d", "--name", name, "-v", f"{volume}:/data", "busybox", "sh", "-c", WRITER)
    host.docker("exec", name, "sh", "-c", "until [ -s /data/second ]; do :; done")


def test_snapshots_under_load_are_moments(host: EngineProcess, volume: str) -> None:
    start_writer(host, volume)
    names = [f"s{number}" for number in range(5)]
    for name in names:
        assert host.tare("volume", "snapshot", "create", volume, name).stdout.decode().strip() == name
    listed = host.tare("volume", "snapshot", "ls", "-q", volume).stdout.decode().split()
    frozen = host.tare("volume", "snapshot", "ls", "--format", "{{.FrozenSeconds}}", volume).stdout.decode().split()
    assert listed == names and all(float(seconds) > 0 for seconds in frozen)
    before = 0
    for name in names:
        host.tare("volume", "clone", "--snapshot", name, volume, f"from-{name}")
        first, second = counts(host, f"from-{name}")
        assert first - second in (0, 1) and first >= before, (name, first, second)
        before = first
    host.docker("exec", "writer", "true")
    assert host.text("inspect", "-f", "{{.State.Status}}", "writer") == "running"
    assert host.text("volume", "inspect", "-f", "{{.Labels.kind}}", "from-s0") == "test"


def test_a_paused_user_stays_paused(host: EngineProcess, volume: str) -> None:
    start_writer(host, volume)
    host.docker("pause", "writer")
    host.tare("volume", "snapshot", "create", volume, "one")
    assert host.text("inspect", "-f", "{{.State.Status}}", "writer") == "paused"
    assert "FROZEN" in [path.read_text().strip() for path in frozen_states()] or frozen_states() == []
    host.docker("unpause", "writer")
    host.docker("exec", "writer", "true")


def frozen_states() -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup/freezer").glob("tare-*/*/freezer.state") if path.exists()]


def test_restore(host: EngineProcess, volume: str) -> None:
    write(host, volume, "old")
    host.tare("volume", "snapshot", "create", volume, "one")
    write(host, volume, "new")
    user = host.text("run", "-d", "--name", "user", "-v", f"{volume}:/data", "busybox", "sleep", "1000")
    said = refused(host, "volume", "restore", volume, "one")
    assert "volume is in use by containers that run - [user (running)] (tare stop user)" in said
    host.docker("stop", "-t", "0", user)
    assert host.tare("volume", "restore", volume, "one").stdout.decode() == f"{volume}\n"
    host.docker("start", user)
    assert host.text("exec", user, "cat", "/data/file") == "old"
    host.docker("rm", "-f", user)
    *_, kept = host.tare("volume", "snapshot", "ls", "-q", volume).stdout.decode().split()
    assert kept.startswith("before-restore-")
    host.tare("volume", "restore", volume, kept)
    assert (place(host, volume) / "file").read_text() == "new\n"


def test_conflicts_and_bad_input(host: EngineProcess, volume: str) -> None:
    host.tare("volume", "snapshot", "create", volume, "one")
    taken = refused(host, "volume", "snapshot", "create", volume, "one")
    assert f"{volume} already has a snapshot one (choose another name or remove it)" in taken
    assert '"a/b" is not a valid snapshot name' in refused(host, "volume", "snapshot", "create", volume, "a/b")
    ghost = refused(host, "volume", "restore", volume, "ghost")
    assert f"no such snapshot: {volume} has no snapshot ghost (it has one)" in ghost
    for command in (("snapshot", "create", "ghost"), ("snapshot", "ls", "ghost"), ("backup", "ghost")):
        assert "get ghost: no such volume" in refused(host, "volume", *command)
    assert "get ghost: no such volume" in refused(host, "volume", "clone", "ghost", "copy")
    assert f"create {volume}: a volume of that name exists" in refused(host, "volume", "clone", volume, volume)
    assert "includes invalid characters" in refused(host, "volume", "clone", volume, "a/b")
    assert "has no snapshot ghost" in refused(host, "volume", "clone", "--snapshot", "ghost", volume, "copy")
    assert "volume has snapshots - [one]" in host.docker("volume", "rm", "-f", volume, check=False).stderr.decode()
    assert host.text("volume", "ls", "-q") == volume


def test_protection(host: EngineProcess, volume: str) -> None:
    host.tare("volume", "protect", volume)
    for command in (("rm", volume), ("rm", "-f", volume)):
        done = host.docker("volume", *command, check=False)
        assert f"remove {volume}: volume is protected (tare volume unprotect {volume})" in done.stderr.decode()
    host.docker("volume", "prune", "-af")
    host.docker("system", "prune", "-f", "--volumes")
    host.docker("run", "--rm", "-v", f"{volume}:/data", "busybox", "true")
    assert host.text("volume", "ls", "-q") == volume
    host.tare("volume", "unprotect", volume)
    assert host.text("volume", "prune", "-af").startswith(f"Deleted Volumes:\n{volume}")


def test_usage(host: EngineProcess, volume: str) -> None:
    host.docker("create", "--name", "user", "-v", f"{volume}:/data", "-v", f"{volume}:/again", "busybox")
    host.tare("volume", "snapshot", "create", volume)
    plain = host.tare("volume", "ls").stdout.decode()
    assert plain == host.docker("volume", "ls").stdout.decode() == f"DRIVER    VOLUME NAME\nlocal     {volume}\n"
    form = "{{.UsedBy}}|{{.Snapshots}}|{{.Protected}}|{{.Links}}"
    assert host.tare("volume", "ls", "-u", "--format", form).stdout.decode() == "user (created)|1|no|1\n"
    (found,) = json.loads(host.tare("volume", "inspect", "--usage", volume).stdout)
    assert found["UsageData"]["RefCount"] == 1 and found["Snapshots"]["Count"] == 1
    assert [user["Destination"] for user in found["UsedBy"]] == ["/again", "/data"]
    ours, theirs = host.tare("volume", "inspect", volume).stdout, host.docker("volume", "inspect", volume).stdout
    assert json.loads(ours) == json.loads(theirs)


@pytest.mark.parametrize("form", ["file", "gzip", "zstd", "directory"])
def test_backup_and_restore(host: EngineProcess, volume: str, tmp_path: Path, form: str) -> None:
    write(host, volume, "old")
    compress = ("--compress", form) if form in ("gzip", "zstd") else ()
    where = f"{tmp_path}/backup" + ("/" if form == "directory" else "")
    host.tare("volume", "backup", *compress, volume, where)
    write(host, volume, "new")
    host.tare("volume", "restore", volume, "--from", where)
    assert (place(host, volume) / "file").read_text() == "old\n"
    host.tare("volume", "restore", "made-anew", "--from", where)
    assert (place(host, "made-anew") / "file").read_text() == "old\n"
    assert host.text("volume", "inspect", "-f", "{{.Labels.kind}}", "made-anew") == "test"


def test_a_damaged_backup_changes_nothing(host: EngineProcess, volume: str) -> None:
    write(host, volume, "old")
    backup = host.tare("volume", "backup", volume, "-").stdout
    write(host, volume, "new")
    damaged = backup.replace(b"old\n", b"odd\n")
    assert damaged != backup
    for data in (damaged, backup[:2048], b"", b"rubbish" * 1000):
        assert "the backup is damaged or none" in refused(host, "volume", "restore", volume, "--from", "-", stdin=data)
        assert "the backup is damaged or none" in refused(host, "volume", "restore", "other", "--from", "-", stdin=data)
    assert (place(host, volume) / "file").read_text() == "new\n"
    assert host.text("volume", "ls", "-q") == volume
    assert host.tare("volume", "snapshot", "ls", "-q", volume).stdout == b""
    assert list((place(host, volume).parents[1] / ".snapshots").iterdir()) == []
