"""What becomes of real programs' data: each kind of storage through stops, kills and new containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine_process import CHECKOUT, EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]

POSTGRES_BASE = "tare.local/deb/postgresql-15/dash/coreutils:12-nonroot"
DATABASE_USER = 65532
CRON_BASE = "tare.local/deb/cron/libfaketime/dash/coreutils/grep:12"
MARIADB_BASE = "tare.local/deb/mariadb-server-core/mariadb-client-core/dash/coreutils/sed/grep:12-nonroot"
PROGRAMS = "/usr/lib/postgresql/15/bin"
PSQL = f"{PROGRAMS}/psql -qAth /tmp -U postgres -v ON_ERROR_STOP=1 -c"
MYSQL = "mariadb --no-defaults -u root -S /tmp/s -N -e"


@dataclass(frozen=True)
class Program:
    """A program with data in ``directory``; scripts run in its container, ``$1`` being the line to write.

    ``prepare`` has instructions for its image: a database is initialised once, in ``/seed``, and begins with a copy.
    """

    image: str
    directory: str
    user: int
    serve: str
    ready: str
    write: str
    read: str
    prepare: str = ""


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
    prepare=f"RUN {PROGRAMS}/initdb -D /seed/d -U postgres -A trust --wal-segsize=1 --no-sync",
    serve=(
        "[ -f /pg/d/PG_VERSION ] || cp -a /seed/d /pg/ || exit 1;"
        # process ids are small in a container: that of a killed server may be one that runs, so it would not start
        " rm -f /pg/d/postmaster.pid /tmp/.s.PGSQL.5432.lock;"
        f" exec {PROGRAMS}/postgres -D /pg/d -c unix_socket_directories=/tmp -c listen_addresses="
        " -c fsync=off"  # no power fails here
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
    prepare=(
        "RUN mariadb-install-db --no-defaults --force --datadir=/seed/d --skip-test-db"
        " --auth-root-authentication-method=normal --innodb-log-file-size=4M"
    ),
    serve=(
        "[ -d /db/d/mysql ] || cp -a /seed/d /db/ || exit 1;"
        " exec mariadbd --no-defaults --datadir=/db/d --skip-networking --socket=/tmp/s --pid-file=/tmp/pid"
        " --innodb-log-file-size=4M --innodb-buffer-pool-size=16M --innodb-flush-log-at-trx-commit=2"
    ),
    ready=(
        f"until {MYSQL} 'SELECT 1' >/dev/null 2>&1; do sleep 0.1; done;"
        f" {MYSQL} 'CREATE DATABASE IF NOT EXISTS books; CREATE TABLE IF NOT EXISTS books.ledger (line text)'"
    ),
    write=f"{MYSQL} \"INSERT INTO books.ledger VALUES ('$1')\"",
    read=f"{MYSQL} 'SELECT line FROM books.ledger'",
)
# Debian's cron, for which a minute takes a fifth of a second; its job writes what it finds.
CRON = Program(
    image="persistent-cron",
    directory="/data",
    user=0,
    prepare=(
        "RUN for kind in auth account session; do echo $kind required pam_permit.so; done"
        " | tee /etc/pam.d/cron > /etc/pam.d/other\n"
        "RUN echo '* * * * * root mv /todo /doing 2>/dev/null && cat /doing >> /data/lines' > /etc/cron.d/job"
    ),
    serve=(
        "LD_PRELOAD=/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1 FAKETIME='+0 x300' NO_FAKE_STAT=1"
        " exec cron -f"
    ),
    ready="mkdir -p /data; touch /data/lines",
    write='echo "$1" > /new; mv /new /todo; until grep -qx "$1" /data/lines; do sleep 0.02; done',
    read="cat /data/lines",
)
# Whether a new container reads it after ``rm`` and after ``rm -v``; whether a volume is there after them.
STORAGE = {
    "bind": (True, True, False, False),
    "named": (True, True, True, True),
    "anonymous": (False, False, True, False),
    "none": (False, False, False, False),
}


def build(engine: EngineProcess, base: str, program: Program) -> None:
    """The base with a data directory of the user's, which new volumes take over."""
    directory = f"RUN mkdir {program.directory} /seed && chown {program.user} {program.directory} /seed"
    lines = f"FROM {base}\nUSER 0\n{directory}\nUSER {program.user}\n{program.prepare}\n"
    engine.docker("build", "-q", "-t", program.image, "-", stdin=lines.encode(), timeout=110)


@pytest.fixture(scope="module")
def images(engine: EngineProcess) -> None:
    """The images of all programs that come from Debian."""
    programs = ((POSTGRES_BASE, POSTGRES), (MARIADB_BASE, MARIADB), (CRON_BASE, CRON))
    with ThreadPoolExecutor(len(programs)) as pool:
        for done in [pool.submit(build, engine, base, program) for base, program in programs]:
            done.result()


@dataclass(frozen=True)
class Life:
    """A program's containers, one after the other, with one kind of storage for its data."""

    host: EngineProcess
    program: Program
    storage: str
    directory: Path

    @property
    def name(self) -> str:
        return f"kept-{self.storage}"

    def serve(self) -> None:
        data, volume = self.program.directory, f"persistent-{self.program.image}"
        source = {"bind": f"{self.directory}:{data}", "named": f"{volume}:{data}", "anonymous": data, "none": None}
        mount = () if source[self.storage] is None else ("-v", str(source[self.storage]))
        self.host.docker(
            "run", "-d", "--init", "--name", self.name, "--network", "none", *mount, self.program.image,
            "sh", "-c", self.program.serve,
        )  # fmt: skip
        self.inside(self.program.ready)

    def inside(self, script: str, *arguments: str) -> list[str]:
        return self.host.text("exec", self.name, "sh", "-c", script, "sh", *arguments).split()

    def write(self, line: str) -> None:
        self.inside(self.program.write, line)

    def read(self) -> list[str]:
        return sorted(self.inside(self.program.read))

    def undergo(self, event: str) -> None:
        if event == "kill":  # as the kernel's memory killer does: no word to the engine
            os.kill(int(self.host.text("inspect", "-f", "{{.State.Pid}}", self.name)), signal.SIGKILL)
            assert self.host.text("wait", self.name) == "137"
        else:
            self.host.docker(event, "-t", "5", self.name)
        self.host.docker("start", self.name)  # no error after a restart: it runs

    def volume(self) -> str:
        """The name of its volume; empty when it has none."""
        return self.host.text("inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", self.name)

    def has_volume(self, name: str) -> bool:
        return name != "" and self.host.docker("volume", "inspect", name, check=False).returncode == 0


def outlives_its_container(life: Life) -> None:
    """Write a line before each event and read all lines after it."""
    storage, written, left = life.storage, list[str](), set[str]()
    *kept, left_by_rm, left_by_rm_v = STORAGE[storage]
    try:
        life.serve()
        for event in ("stop", "restart", "kill"):
            life.write(event)
            written.append(event)
            life.undergo(event)
            life.inside(life.program.ready)
            assert life.read() == sorted(written), (storage, event)
        for flags, survives, leaves in (((), kept[0], left_by_rm), (("-v",), kept[1], left_by_rm_v)):
            volume = life.volume()
            left.add(volume)
            life.host.docker("rm", "-f", *flags, life.name)
            assert life.has_volume(volume) == leaves, (storage, flags)
            life.serve()
            written = written if survives else []
            assert life.read() == sorted(written), (storage, flags)
            life.write(f"after{len(flags)}")
            written.append(f"after{len(flags)}")
    finally:
        life.host.docker("rm", "-f", "-v", life.name, check=False)
        for volume in left - {""}:
            life.host.docker("volume", "rm", "-f", volume)


def outlive_their_containers(host: EngineProcess, program: Program, directory: Path) -> None:
    """Every kind of storage, at the same time."""
    os.chown(directory, program.user, program.user)
    before = host.text("volume", "ls", "-q")
    with ThreadPoolExecutor(len(STORAGE)) as pool:
        for done in [pool.submit(outlives_its_container, Life(host, program, kind, directory)) for kind in STORAGE]:
            done.result()
    assert host.text("volume", "ls", "-q") == before


def test_a_log(host: EngineProcess, tmp_path: Path) -> None:
    outlive_their_containers(host, LOG_WRITER, tmp_path)


@pytest.mark.network
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("program", [POSTGRES, MARIADB, CRON], ids=["postgresql", "mariadb", "a cron job"])
def test_a_program_from_debian(host: EngineProcess, program: Program, tmp_path: Path) -> None:
    outlive_their_containers(host, program, tmp_path)


@pytest.mark.network
@pytest.mark.usefixtures("images")
def test_every_snapshot_under_load_is_whole(host: EngineProcess) -> None:
    """The benchmark, shortened: each snapshot is started, the database's own check runs, the ledger's sums agree."""
    command = (sys.executable, CHECKOUT / "bench/volume_snapshots.py", host.host, "--count", "3", "--scale", "1")
    running = [
        subprocess.Popen([*command, "--database", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in ("postgres", "mariadb")
    ]
    said = [process.communicate(timeout=100)[0] for process in running]
    for process, lines in zip(running, said, strict=True):
        assert process.returncode == 0, lines
        summary = json.loads(lines.splitlines()[-1])
        assert (summary["count"], summary["failed"]) == (3, 0), lines
