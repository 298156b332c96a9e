"""Engines killed while they copy volumes: nobody stays frozen, nothing half-made stays, and no data are lost."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crash_points import CrashingEngine

pytestmark = [pytest.mark.root, pytest.mark.e2e]

# The second file never has more lines than the first, and at most one less.
WRITER = "i=0; while usleep 500; do i=$((i+1)); echo $i >> /data/first; echo $i >> /data/second; done"
VOLUME, MADE = "ledger", "made"
EVERY_STEP = bool(os.environ.get("TARE_TEST_CRASH_STRIDE"))
MOST_STEPS = 120
"""More than any of these operations has; each of them is tried when the environment sets a stride."""

# Where the engine is killed: a step's name and its number (odd: before a call, even: after it), and what is there then.
SNAPSHOT = {
    "_copy_file 3": False,
    "frozen_pass 2": False,
    "finish 2": False,
    "add 2": True,
}
CLONE = {"frozen_pass 2": False, "install 2": False, "installed 1": True}
BACKUP = {"frozen_pass 1": False, "write_manifest 2": False}
RESTORE = {"exchange 1": False, "exchange 2": True}
FROM_BACKUP = {"read_backup 2": False}
FROZEN = {"frozen_pass 1", "frozen_pass 2"}


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[CrashingEngine]:
    engine = CrashingEngine.make()
    assert isinstance(engine, CrashingEngine)
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def _volume(own: CrashingEngine) -> Iterator[None]:
    own.docker("volume", "create", VOLUME)
    yield
    own.plan.unlink(missing_ok=True)
    if own.process is not None and own.process.poll() is not None:
        own.begin_again()
    own.remove_containers()
    remove(own, MADE)
    remove(own, VOLUME)


def remove(own: CrashingEngine, volume: str) -> None:
    own.tare("volume", "snapshot", "rm", "--all", volume, check=False)
    own.docker("volume", "rm", "-f", volume)


def crash(own: CrashingEngine, point: int | str, *operation: str, stdin: bytes | None = None) -> bool:
    """Run ``operation`` on an engine that is killed at ``point``, and start it again; False when it came to its end."""
    own.crash_at(point)
    done = own.tare(*operation, check=False, stdin=stdin)
    if not own.has_crashed():
        assert done.returncode == 0, (point, done)
        return False
    if point in FROZEN:
        assert is_frozen(own, "writer"), point
    own.begin_again()
    return True


def points(chosen: dict[str, bool]) -> Iterator[tuple[int | str, bool | None]]:
    """Where to kill the engine, and whether the operation is done then (None: not known)."""
    if EVERY_STEP:
        yield from ((step, None) for step in range(1, MOST_STEPS))
    else:
        yield from chosen.items()


def start_writer(own: CrashingEngine) -> None:
    own.docker("run", "-d", "--name", "writer", "-v", f"{VOLUME}:/data", "busybox", "sh", "-c", WRITER)
    own.docker("exec", "writer", "sh", "-c", "until [ -s /data/second ]; do usleep 1000; done")


def is_frozen(own: CrashingEngine, name: str) -> bool:
    """As the kernel tells; the engine need not be there."""
    with closing(sqlite3.connect(f"file:{own.data_root}/tare.db?mode=ro", uri=True)) as database:
        (identifier,) = database.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
    for pattern, word in (("freezer/tare-*/{}/freezer.state", "FROZEN"), ("tare-*/{}/cgroup.freeze", "1")):
        for state in Path("/sys/fs/cgroup").glob(pattern.format(identifier)):
            return state.read_text().strip() == word
    raise AssertionError(f"{name} has no cgroup")


def assert_nothing_half_made(own: CrashingEngine) -> tuple[set[str], set[str]]:
    """Rows and directories agree, nobody is frozen; answers the volumes and the snapshots of the ledger."""
    with closing(sqlite3.connect(f"file:{own.data_root}/tare.db?mode=ro", uri=True)) as database:
        volumes = {name for (name,) in database.execute("SELECT name FROM volumes")}
        rows = database.execute("SELECT directory, name, pending_inode FROM volume_snapshots").fetchall()
        assert database.execute("SELECT * FROM frozen_cgroups").fetchall() == []
    assert [row for row in rows if row[2] is not None] == []
    root = own.data_root / "volumes"
    assert names(root) - {".snapshots"} == volumes
    assert names(root / ".snapshots") == {directory for directory, _, _ in rows}
    assert list(root.glob("*/.unfinished")) == []
    return volumes, {name for _, name, _ in rows}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def assert_writes_on(own: CrashingEngine) -> None:
    script = "n=$(wc -l < /data/second); until [ $(wc -l < /data/second) -gt $n ]; do usleep 1000; done"
    own.docker("exec", "writer", "sh", "-c", script)


def assert_is_a_moment(directory: Path) -> None:
    first, second = ((directory / name).read_bytes() for name in ("first", "second"))
    assert first.endswith(b"\n") and second.endswith(b"\n")
    assert first.count(b"\n") - second.count(b"\n") in (0, 1)


def place(own: CrashingEngine, volume: str) -> Path:
    return own.data_root / "volumes" / volume / "_data"


def content(directory: Path) -> str:
    """A digest of names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        digest.update(f"{path.relative_to(directory)}\0{path.stat().st_mode:o}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def test_killed_while_a_snapshot_is_taken(own: CrashingEngine) -> None:
    start_writer(own)
    for point, done in points(SNAPSHOT):
        ended = not crash(own, point, "volume", "snapshot", "create", VOLUME, MADE)
        _, snapshots = assert_nothing_half_made(own)
        assert snapshots == ({MADE} if done or (done is None and snapshots) else set()), point
        assert_writes_on(own)
        if snapshots:
            (directory,) = (own.data_root / "volumes/.snapshots").iterdir()
            assert_is_a_moment(directory / "data")
            own.tare("volume", "snapshot", "rm", VOLUME, MADE)
        if ended:
            return
    assert not EVERY_STEP, "more steps than are tried"


def test_killed_while_a_volume_is_cloned(own: CrashingEngine) -> None:
    start_writer(own)
    for point, done in points(CLONE):
        ended = not crash(own, point, "volume", "clone", VOLUME, MADE)
        volumes, _ = assert_nothing_half_made(own)
        assert volumes == ({VOLUME, MADE} if done or (done is None and MADE in volumes) else {VOLUME}), point
        assert_writes_on(own)
        if MADE in volumes:
            assert_is_a_moment(place(own, MADE))
            remove(own, MADE)
        if ended:
            return
    assert not EVERY_STEP, "more steps than are tried"


def test_killed_while_a_backup_is_written(own: CrashingEngine, tmp_path: Path) -> None:
    start_writer(own)
    for point, _ in points(BACKUP):
        ended = not crash(own, point, "volume", "backup", VOLUME, str(tmp_path / "backup"))
        assert assert_nothing_half_made(own) == ({VOLUME}, set()), point
        assert_writes_on(own)
        assert names(tmp_path) <= {"backup"} if ended else names(tmp_path) == set(), point
        if ended:
            return
    assert not EVERY_STEP, "more steps than are tried"


@pytest.mark.parametrize(("source", "chosen"), [("snapshot", RESTORE), ("backup", FROM_BACKUP)])
def test_killed_while_a_volume_is_restored(own: CrashingEngine, source: str, chosen: dict[str, bool]) -> None:
    directory = place(own, VOLUME)
    (directory / "old").write_text("old")
    (directory / "both").write_text("old " * 100000)
    old = content(directory)
    backup = None
    if source == "backup":
        backup = own.tare("volume", "backup", VOLUME, "-").stdout
    else:
        own.tare("volume", "snapshot", "create", VOLUME, "old")
    (directory / "old").unlink()
    (directory / "new").write_text("new")
    (directory / "both").write_text("new " * 100000)
    new = content(directory)
    for point, done in points(chosen):
        chosen_source = ("old",) if backup is None else ("--from", "-")
        ended = not crash(own, point, "volume", "restore", VOLUME, *chosen_source, stdin=backup)
        _, snapshots = assert_nothing_half_made(own)
        found, kept = content(directory), snapshots - {"old"}
        assert found in ((old,) if done or ended else (new,) if done is False else (old, new)), point
        assert len(kept) == (found == old), point
        if found == old:
            own.tare("volume", "restore", VOLUME, *kept)
            assert content(directory) == new, point
            own.tare("volume", "snapshot", "rm", VOLUME, *(assert_nothing_half_made(own)[1] - {"old"}))
        if ended:
            return
    assert not EVERY_STEP, "more steps than are tried"
