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
DATABASE_USER = 65532
MARIADB_BASE = "tare.local/deb/mariadb-server-core/mariadb-client-core/dash/coreutils/sed/grep:12-nonroot"
PROGRAMS = "/usr/lib/postgresql/15/bin"
PSQL = f"{PROGRAMS}/psql -qAth /tmp -U postgres -v ON_ERROR_STOP=1 -c"
MYSQL = "mariadb --no-defaults -u root -S /tmp/s -N -e"


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
    user=DATABASE_USER,
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
MARIADB = Program(
    image="persistent-mariadb",
    directory="/db",
    user=DATABASE_USER,
    serve=(
        "[ -d /db/d/mysql ] || mariadb-install-db --no-defaults --force --datadir=/db/d --skip-test-db"
        " --auth-root-authentication-method=normal --innodb-log-file-size=4M >/tmp/install 2>&1"
        " || { cat /tmp/install; exit 1; };"
        " exec mariadbd --no-defaults --datadir=/db/d --skip-networking --socket=/tmp/s --pid-file=/tmp/pid"
        " --innodb-log-file-size=4M --innodb-buffer-pool-size=16M"
    ),
    ready=(
        f"until {MYSQL} 'SELECT 1' >/dev/null 2>&1; do sleep 0.1; done;"
        f" {MYSQL} 'CREATE DATABASE IF NOT EXISTS books; CREATE TABLE IF NOT EXISTS books.ledger (line text)'"
    ),
    write=f"{MYSQL} \"INSERT INTO books.ledger VALUES ('$1')\"",
    read=f"{MYSQL} 'SELECT line FROM books.ledger'",
)
# What a new container reads that was made after ``rm`` and after ``rm -v``; anonymous volumes left by each.
STORAGE = {"bind": (True, True, 0), "named": (True, True, 0), "anonymous": (False, False, 1), "none": (False, False, 0)}


def build(engine: EngineProcess, base: str, program: Program) -> None:
    """The base with a data directory of the user's, which new volumes take over."""
    directory = f"RUN mkdir {program.directory} && chown {program.user} {program.directory}"
    lines = f"FROM {base}\nUSER 0\n{directory}\nUSER {program.user}\n"
    engine.docker("build", "-q", "-t", program.image, "-", stdin=lines.encode(), timeout=110)


@pytest.fixture(scope="module")
def postgres(engine: EngineProcess) -> Program:
    build(engine, POSTGRES_BASE, POSTGRES)
    return POSTGRES


@pytest.fixture(scope="module")
def mariadb(engine: EngineProcess) -> Program:
    build(engine, MARIADB_BASE, MARIADB)
    return MARIADB


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
def test_postgresql(host: EngineProcess, postgres: Program, storage: str, tmp_path: Path) -> None:
    outlives_its_container(host, postgres, storage, tmp_path)


@pytest.mark.network
@pytest.mark.parametrize("storage", STORAGE)
def test_mariadb(host: EngineProcess, mariadb: Program, storage: str, tmp_path: Path) -> None:
    outlives_its_container(host, mariadb, storage, tmp_path)
