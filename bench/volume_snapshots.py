#!/usr/bin/env python3
"""Snapshots of a volume under a database's write load, every one of them started and checked.

    bench/volume_snapshots.py unix:///run/tare/tare.sock --count 50

PostgreSQL runs on a volume while pgbench writes to it with four connections. Snapshots are taken in the middle of that.
Each is then cloned to a new volume, on which PostgreSQL recovers; pg_amcheck looks at every table and index, and the
sums of pgbench's ledger must agree: accounts, tellers, branches and history see the same transactions (TPC-B). The
engine decides by its file system whether snapshots are reflinks or copies. Exit status 1 when one snapshot fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

IMAGE = "tare.local/deb/postgresql-15/dash/coreutils:12-nonroot"
USER = "65532:65532"
VOLUME, SERVER = "tare-bench-ledger", "tare-bench-postgres"
PROGRAMS = "/usr/lib/postgresql/15/bin"
OPTIONS = "-c unix_socket_directories=/tmp -c listen_addresses="
SUMS = (
    "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
    " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),"
    " (SELECT count(*) FROM pgbench_history)"
)
CHECK = f"""
set -e
export PATH={PROGRAMS}:/usr/bin:/bin PGHOST=/tmp PGUSER=postgres
rm -f /pg/d/postmaster.pid
pg_ctl -D /pg/d -s -w -o "{OPTIONS}" -l /tmp/log start || {{ cat /tmp/log; exit 1; }}
pg_amcheck --database postgres --heapallindexed --rootdescend --parent-check
psql -At -c "{SUMS}" postgres
pg_ctl -D /pg/d -s -w stop
"""


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


def begin(tare: Tare, scale: int) -> None:
    """PostgreSQL on a new volume, with pgbench's tables, and pgbench writing to them."""
    tare("pull", "-q", IMAGE)
    tare("volume", "create", VOLUME)
    mount = ("--network", "none", "-v", f"{VOLUME}:/pg")
    tare("run", "--rm", *mount, "-u", "0", IMAGE, "chown", USER, "/pg")
    tare("run", "--rm", *mount, IMAGE, f"{PROGRAMS}/initdb", "-D", "/pg/d", "-U", "postgres", "-A", "trust", "-k")
    tare("run", "-d", "--name", SERVER, *mount, IMAGE, f"{PROGRAMS}/postgres", "-D", "/pg/d", *OPTIONS.split())
    ready = f"until {PROGRAMS}/pg_isready -q -h /tmp; do sleep 0.1; done"
    tare("exec", SERVER, "sh", "-c", ready)
    tare("exec", SERVER, f"{PROGRAMS}/psql", "-qh", "/tmp", "-U", "postgres", "-c", "CREATE EXTENSION amcheck")
    pgbench = f"exec {PROGRAMS}/pgbench -h /tmp -U postgres"
    tare("exec", SERVER, "sh", "-c", f"{pgbench} -i -q -s {scale} postgres 2>&1")
    tare("exec", "-d", SERVER, "sh", "-c", f"{pgbench} -c 4 -T 3600 postgres")
    written = f"{PROGRAMS}/psql -Ath /tmp -U postgres -c 'SELECT count(*) > 100 FROM pgbench_history'"
    tare("exec", SERVER, "sh", "-c", f'until [ "$({written})" = t ]; do sleep 0.1; done')


def check(tare: Tare, snapshot: str) -> tuple[str, int]:
    """Start a clone of the snapshot and check it; what is wrong (empty when nothing is), and its transactions."""
    clone = f"{VOLUME}-{snapshot}"
    tare("volume", "clone", "--snapshot", snapshot, VOLUME, clone)
    done = tare.run("run", "--rm", "--network", "none", "-v", f"{clone}:/pg", IMAGE, "sh", "-c", CHECK)
    tare("volume", "rm", clone)
    if done.returncode:
        return f"exit {done.returncode}: {done.stdout}{done.stderr}", 0
    *sums, transactions = done.stdout.split()[-1].split("|")
    return ("" if len(set(sums)) == 1 else f"sums differ: {sums}"), int(transactions)


def end(tare: Tare) -> None:
    """Remove everything; what is not there is no error."""
    tare.run("rm", "-f", SERVER)
    tare.run("volume", "snapshot", "rm", "--all", VOLUME)
    tare.run("volume", "rm", "-f", VOLUME)


def main() -> None:
    """Take the snapshots, check them, print a line for each and the summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", help="the engine's socket: unix:///path")
    parser.add_argument("--count", type=int, default=50, help="snapshots to take")
    parser.add_argument("--scale", type=int, default=2, help="pgbench's scale: 100000 accounts each")
    asked = parser.parse_args()
    tare = Tare(asked.host)
    failed, before, walls = 0, 0, []
    try:
        begin(tare, asked.scale)
        for number in range(asked.count):
            started = time.monotonic()
            tare("volume", "snapshot", "create", VOLUME, f"s{number}")
            walls.append(time.monotonic() - started)
        tare("rm", "-f", SERVER)
        lines = tare(
            "volume", "snapshot", "ls", "--format", "{{.Name}} {{.Method}} {{.FrozenSeconds}} {{.Bytes}}", VOLUME
        )
        rows = [line.split() for line in lines.splitlines()]
        for name, method, frozen, size in rows:
            wrong, transactions = check(tare, name)
            if not wrong and transactions <= before:
                wrong = f"{transactions} transactions, {before} in the snapshot before it"
            before, failed = transactions, failed + bool(wrong)
            shown = f"{name:5} {method:7} frozen {float(frozen) * 1000:7.1f} ms  {int(size) / 1e6:7.1f} MB  "
            print(f"{shown}{transactions:7} transactions  {wrong or 'whole'}", flush=True)
    finally:
        end(tare)
    times = [float(row[2]) * 1000 for row in rows]
    summary = {
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
