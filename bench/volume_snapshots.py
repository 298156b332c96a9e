#!/usr/bin/env python3
"""Snapshots of a volume under a database's write load, every one of them started and checked.

    bench/volume_snapshots.py unix:///run/tare/tare.sock --database mariadb --count 50

A database server runs on a volume while four connections write to it. Snapshots are taken in the middle of that. Each
is then cloned to a new volume, on which the server recovers; the database's own check looks at every table and index,
and the sums of a ledger must agree: accounts, tellers, branches and history see the same transactions (TPC-B). For
PostgreSQL these are pgbench and pg_amcheck, for MariaDB (InnoDB) a stored procedure that never ends and mariadb-check.
The engine decides by its file system whether snapshots are reflinks or copies. Exit status 1 when one snapshot fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

USER = "65532:65532"
CONNECTIONS = 4


@dataclass(frozen=True, kw_only=True)
class Database:
    """A server whose data are below ``/db``, and what is done in its container.

    ``make`` makes the data directory and ``serve`` is the server; the other scripts run beside it. ``prepare`` makes
    the ledger with ``{scale}`` times 100000 accounts, ``write`` writes without end, ``count`` prints the number of
    transactions. ``check`` starts the server on a snapshot's data, checks them and prints four sums and the number of
    transactions as its last line.
    """

    name: str
    image: str
    make: str
    serve: str
    ready: str
    prepare: str
    write: str
    writers: int
    count: str
    check: str

    @property
    def volume(self) -> str:
        return f"tare-bench-{self.name}"


_PG = "/usr/lib/postgresql/15/bin"
_PG_OPTIONS = "-c unix_socket_directories=/tmp -c listen_addresses="
_PSQL = f"{_PG}/psql -qAth /tmp -U postgres -v ON_ERROR_STOP=1 -c"
POSTGRES = Database(
    name="postgres",
    image="tare.local/deb/postgresql-15/dash/coreutils:12-nonroot",
    make=f"{_PG}/initdb -D /db/d -U postgres -A trust -k --no-sync",
    serve=f"exec {_PG}/postgres -D /db/d {_PG_OPTIONS}",
    ready=f"until {_PG}/pg_isready -q -h /tmp; do sleep 0.1; done",
    prepare=(
        f"{_PSQL} 'CREATE EXTENSION amcheck' &&"
        f" {_PG}/pgbench -h /tmp -U postgres -i -q -s {{scale}} postgres >/tmp/log 2>&1 || {{ cat /tmp/log; exit 1; }}"
    ),
    write=f"exec {_PG}/pgbench -h /tmp -U postgres -c {CONNECTIONS} -T 3600 postgres",
    writers=1,
    count=f"{_PSQL} 'SELECT count(*) FROM pgbench_history'",
    check=(
        "set -e; rm -f /db/d/postmaster.pid;"
        f' {_PG}/pg_ctl -D /db/d -s -w -o "{_PG_OPTIONS}" -l /tmp/log start || {{ cat /tmp/log; exit 1; }};'
        f" {_PG}/pg_amcheck -h /tmp -U postgres --database postgres --heapallindexed --rootdescend --parent-check;"
        f' {_PSQL} "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),'
        " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),"
        ' (SELECT count(*) FROM pgbench_history)" | tr "|" " ";'
        f" {_PG}/pg_ctl -D /db/d -s -w stop"
    ),
)

_SQL = "mariadb --no-defaults -u root -S /tmp/s -N"
_MARIADBD = (
    "mariadbd --no-defaults --datadir=/db/d --skip-networking --socket=/tmp/s --pid-file=/tmp/pid"
    " --innodb-log-file-size=16M --innodb-buffer-pool-size=64M"
)
_MARIADB_ANSWERS = f"{_SQL} -e 'SELECT 1' >/dev/null 2>&1"
_LEDGER = """
CREATE DATABASE books; USE books;
CREATE TABLE accounts (id INT PRIMARY KEY, balance INT NOT NULL, filler CHAR(84) NOT NULL DEFAULT '') ENGINE=InnoDB;
CREATE TABLE tellers LIKE accounts; CREATE TABLE branches LIKE accounts;
CREATE TABLE history (id INT AUTO_INCREMENT PRIMARY KEY, account INT, delta INT, at TIMESTAMP(6), KEY (account));
INSERT INTO accounts (id, balance) SELECT seq, 0 FROM seq_1_to_{scale}00000;
INSERT INTO tellers (id, balance) SELECT seq, 0 FROM seq_1_to_20;
INSERT INTO branches (id, balance) SELECT seq, 0 FROM seq_1_to_{scale};
DELIMITER //
CREATE PROCEDURE trade() BEGIN
  DECLARE a, t, b, d INT;
  LOOP
    SET a = 1 + FLOOR(RAND() * {scale}00000), t = 1 + FLOOR(RAND() * 20), b = 1 + FLOOR(RAND() * {scale});
    SET d = FLOOR(RAND() * 10001) - 5000;
    START TRANSACTION;
    UPDATE accounts SET balance = balance + d WHERE id = a;
    UPDATE tellers SET balance = balance + d WHERE id = t;
    UPDATE branches SET balance = balance + d WHERE id = b;
    INSERT INTO history (account, delta, at) VALUES (a, d, NOW(6));
    COMMIT;
  END LOOP;
END//
"""
MARIADB = Database(
    name="mariadb",
    image="tare.local/deb/mariadb-server-core/mariadb-client-core/dash/coreutils/sed/grep:12-nonroot",
    make=(
        "mariadb-install-db --no-defaults --force --datadir=/db/d --skip-test-db"
        " --auth-root-authentication-method=normal --innodb-log-file-size=16M >/tmp/log 2>&1"
        " || { cat /tmp/log; exit 1; }"
    ),
    serve=f"exec {_MARIADBD}",
    ready=f"until {_MARIADB_ANSWERS}; do sleep 0.1; done",
    prepare=f"{_SQL} <<'END'\n{_LEDGER}END",
    write=f"exec {_SQL} books -e 'CALL trade()'",
    writers=CONNECTIONS,
    count=f"{_SQL} books -e 'SELECT count(*) FROM history'",
    check=(
        f"{_MARIADBD} >/tmp/log 2>&1 &"
        f" until {_MARIADB_ANSWERS}; do kill -0 $! || {{ cat /tmp/log; exit 1; }}; sleep 0.1; done;"
        " mariadb-check --no-defaults -u root -S /tmp/s --all-databases --extended >/tmp/checked 2>&1 || exit 1;"
        " if ! grep -q '^books.history *OK$' /tmp/checked || grep -qv ' OK$' /tmp/checked; then"
        " cat /tmp/checked; exit 1; fi;"
        f' {_SQL} books -e "SELECT (SELECT sum(balance) FROM accounts), (SELECT sum(balance) FROM tellers),'
        " (SELECT sum(balance) FROM branches), (SELECT coalesce(sum(delta), 0) FROM history),"
        ' (SELECT count(*) FROM history)"; kill $!; wait'
    ),
)
DATABASES = {database.name: database for database in (POSTGRES, MARIADB)}


@dataclass(frozen=True)
class Tare:
    """The command line, talking to one engine."""

    host: str

    def __call__(self, *arguments: str) -> str:
        """Run a command that must succeed; returns its output."""
        done = self.run(*arguments)
        if done.returncode:
            sys.exit(f"tare {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "tare.cli.main", "--host", self.host, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def inside(self, container: str, script: str) -> str:
        """Run a shell script in a container."""
        return self("exec", container, "sh", "-c", script)


def begin(tare: Tare, database: Database, scale: int) -> None:
    """The server on a new volume, with the ledger, and connections that write to it."""
    tare("pull", "-q", database.image)
    tare("volume", "create", database.volume)
    mount = ("--network", "none", "-v", f"{database.volume}:/db")
    tare("run", "--rm", *mount, "-u", "0", database.image, "chown", USER, "/db")
    tare("run", "--rm", *mount, database.image, "sh", "-c", database.make)
    server = database.volume
    tare("run", "-d", "--name", server, *mount, database.image, "sh", "-c", database.serve)
    tare.inside(server, database.ready)
    tare.inside(server, database.prepare.replace("{scale}", str(scale)))
    for _ in range(database.writers):
        tare("exec", "-d", server, "sh", "-c", database.write)
    tare.inside(server, f'until [ "$({database.count})" -gt 100 ]; do sleep 0.1; done')


def check(tare: Tare, database: Database, snapshot: str) -> tuple[str, int]:
    """Start a clone of the snapshot and check it; what is wrong (empty when nothing is), and its transactions."""
    clone = f"{database.volume}-{snapshot}"
    tare("volume", "clone", "--snapshot", snapshot, database.volume, clone)
    mount = ("--network", "none", "-v", f"{clone}:/db")
    done = tare.run("run", "--rm", *mount, database.image, "sh", "-c", database.check)
    tare("volume", "rm", clone)
    if done.returncode:
        return f"exit {done.returncode}: {done.stdout}{done.stderr}", 0
    *sums, transactions = done.stdout.splitlines()[-1].split()
    return ("" if len(sums) == 4 and len(set(sums)) == 1 else f"sums differ: {sums}"), int(transactions)


def end(tare: Tare, database: Database) -> None:
    """Remove everything; what is not there is no error."""
    tare.run("rm", "-f", database.volume)
    tare.run("volume", "snapshot", "rm", "--all", database.volume)
    tare.run("volume", "rm", "-f", database.volume)


def main() -> None:
    """Take the snapshots, check them, print a line for each and the summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", help="the engine's socket: unix:///path")
    parser.add_argument("--database", choices=sorted(DATABASES), default="postgres", help="the server that writes")
    parser.add_argument("--count", type=int, default=50, help="snapshots to take")
    parser.add_argument("--scale", type=int, default=2, help="100000 accounts each")
    asked = parser.parse_args()
    tare, database = Tare(asked.host), DATABASES[asked.database]
    failed, before, walls = 0, 0, []
    try:
        begin(tare, database, asked.scale)
        for number in range(asked.count):
            started = time.monotonic()
            tare("volume", "snapshot", "create", database.volume, f"s{number}")
            walls.append(time.monotonic() - started)
        tare("rm", "-f", database.volume)
        columns = "{{.Name}} {{.Method}} {{.FrozenSeconds}} {{.Bytes}}"
        lines = tare("volume", "snapshot", "ls", "--format", columns, database.volume)
        rows = [line.split() for line in lines.splitlines()]
        for name, method, frozen, size in rows:
            wrong, transactions = check(tare, database, name)
            if not wrong and transactions <= before:
                wrong = f"{transactions} transactions, {before} in the snapshot before it"
            before, failed = transactions, failed + bool(wrong)
            shown = f"{name:5} {method:7} frozen {float(frozen) * 1000:7.1f} ms  {int(size) / 1e6:7.1f} MB  "
            print(f"{shown}{transactions:7} transactions  {wrong or 'whole'}", flush=True)
    finally:
        end(tare, database)
    times = [float(row[2]) * 1000 for row in rows]
    summary = {
        "database": database.name,
        "count": len(rows),
        "failed": failed,
        "method": rows[0][1],
        "frozen_median_ms": round(statistics.median(times), 1),
        "frozen_max_ms": round(max(times), 1),
        "command_median_ms": round(statistics.median(walls) * 1000),
        "size_mb": round(statistics.median(int(row[3]) for row in rows) / 1e6, 1),
    }
    print(json.dumps(summary))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
