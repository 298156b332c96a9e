"""What becomes of real programs' data: each kind of storage through stops, kills and new containers."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]

POSTGRES_BASE = "tare.local/deb/postgresql-15/dash/coreutils:12-nonroot"
POSTGRES_USER = 65532
PROGRAMS = "/usr/lib/postgresql/15/bin"
PSQL = f"{PROGRAMS}/psql -qAth /tmp -U postgres -v ON_ERROR_STOP=1 -c"


@dataclass(frozen=True)
class Program:
    """A program with data in ``directory``; scripts run in its container, ``$1`` being the line to write."""

    image: str
    directory: str
    user: int
    serve: str
    ready: str
    write: str
    read: str


LOG_WRITER = Program(
    image="busybox",
    directory="/logs",
    user=0,
    serve=(
        "mkdir -p /logs; [ -p /lines ] || mkfifo /lines; exec 3<>/lines; touch /logs/app.log;"
        ' while read -r line <&3; do echo "$line" >> /logs/app.log; done'
    ),
    ready="until [ -p /lines ] && [ -f /logs/app.log ]; do usleep 10000; done",
    write='echo "$1" > /lines; until grep -qx "$1" /logs/app.log; do usleep 10000; done',
    read="cat /logs/app.log",
)
POSTGRES = Program(
    image="persistent-postgres",
    directory="/pg",
    user=POSTGRES_USER,
    serve=(
        f"[ -f /pg/d/PG_VERSION ] || {PROGRAMS}/initdb -D /pg/d -U postgres -A trust >/dev/null || exit 1;"
        f" exec {PROGRAMS}/postgres -D /pg/d -c unix_socket_directories=/tmp -c listen_addresses="
    ),
    ready=(
        f"until {PROGRAMS}/pg_isready -q -h /tmp; do sleep 0.1; done;"
        f" {PSQL} 'SET client_min_messages=error; CREATE TABLE IF NOT EXISTS ledger (line text)'"
    ),
    write=f"{PSQL} \"INSERT INTO ledger VALUES ('$1')\"",
    read=f"{PSQL} 'SELECT line FROM ledger ORDER BY line'",
)
# What a new container reads that was made after ``rm`` and after ``rm -v``; anonymous volumes left by each.
STORAGE = {"bind": (True, True, 0), "named": (True, True, 0), "anonymous": (False, False, 1), "none": (False, False, 0)}


@pytest.fixture(scope="module")
def postgres(engine: EngineProcess) -> str:
    """PostgreSQL with a data directory of its user's, which new volumes take over."""
    lines = f"FROM {POSTGRES_BASE}\nUSER 0\nRUN mkdir /pg && chown {POSTGRES_USER} /pg\nUSER {POSTGRES_USER}\n"
    engine.docker("build", "-q", "-t", POSTGRES.image, "-", stdin=lines.encode(), timeout=110)
    return POSTGRES.image


def serve(host: EngineProcess, program: Program, options: tuple[str, ...]) -> None:
    host.docker(
        "run", "-d", "--init", "--name", "kept", "--network", "none", *options, program.image,
        "sh", "-c", program.serve,
    )  # fmt: skip
    inside(host, program.ready)


def inside(host: EngineProcess, script: str, *arguments: str) -> list[str]:
    return host.text("exec", "kept", "sh", "-c", script, "sh", *arguments).split()


def volumes(host: EngineProcess) -> set[str]:
    return set(host.text("volume", "ls", "-q").split())


def kill_main_process(host: EngineProcess) -> None:
    """As the kernel's memory killer does: no word to the engine."""
    os.kill(int(host.text("inspect", "-f", "{{.State.Pid}}", "kept")), signal.SIGKILL)
    assert host.text("wait", "kept") == "137"


def outlives_its_container(host: EngineProcess, program: Program, storage: str, directory: Path) -> None:
    """Write a line before each event and read all lines after it."""
    os.chown(directory, program.user, program.user)
    source = {"bind": f"{directory}:", "named": "persistent:", "anonymous": "", "none": None}[storage]
    options = () if source is None else ("-v", f"{source}{program.directory}")
    before = volumes(host)
    kept_by_rm, kept_by_rm_v, left = STORAGE[storage]
    try:
        serve(host, program, options)
        written: list[str] = []
        for event in ("stop", "restart", "kill"):
            inside(host, program.write, event)
            written.append(event)
            if event == "restart":
                host.docker("restart", "-t", "5", "kept")
            else:
                kill_main_process(host) if event == "kill" else host.docker("stop", "-t", "5", "kept")
                host.docker("start", "kept")
            inside(host, program.ready)
            assert sorted(inside(host, program.read)) == sorted(written), event
        for flags, kept in (((), kept_by_rm), (("-v",), kept_by_rm_v)):
            host.docker("rm", "-f", *flags, "kept")
            serve(host, program, options)
            written = written if kept else []
            assert sorted(inside(host, program.read)) == sorted(written), flags
            inside(host, program.write, f"after{len(flags)}")
            written.append(f"after{len(flags)}")
        host.docker("rm", "-f", "-v", "kept")
        orphans = volumes(host) - before - {"persistent"}
        assert len(orphans) == left
    finally:
        host.docker("rm", "-f", "-v", "kept", check=False)
        for volume in volumes(host) - before:
            host.docker("volume", "rm", volume)


@pytest.mark.parametrize("storage", STORAGE)
def test_a_log(host: EngineProcess, storage: str, tmp_path: Path) -> None:
    outlives_its_container(host, LOG_WRITER, storage, tmp_path)


@pytest.mark.network
@pytest.mark.parametrize("storage", STORAGE)
def test_postgresql(host: EngineProcess, postgres: str, storage: str, tmp_path: Path) -> None:
    assert postgres
    outlives_its_container(host, POSTGRES, storage, tmp_path)
