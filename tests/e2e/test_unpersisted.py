"""Data in containers: what is named before it goes, and that the volume proposed keeps it."""

from __future__ import annotations

import json
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

WRITES_LOGS = (
    "mkdir -p /var/log/app; i=0;"
    "while [ $i -lt 500 ]; do echo line $i of the log; i=$((i+1)); done > /var/log/app/app.log"
)
LIKE_APT = (
    "mkdir -p /var/cache/apt/archives /var/lib/apt/lists /var/lib/dpkg/info /run;"
    "for f in /var/cache/apt/archives/a.deb /var/lib/apt/lists/index /var/lib/dpkg/status /var/lib/dpkg/info/a.list"
    " /tmp/work /root/.cache /run/app.pid /usr/bin/new-program;"
    "do dd if=/dev/zero of=$f bs=64k count=4 2>/dev/null; done"
)


def run(host: EngineProcess, name: str, script: str, *options: str) -> None:
    host.docker("run", "--name", name, *options, "busybox", "sh", "-c", script)


def found(client: docker_py.DockerClient, name: str) -> list[dict[str, Any]]:
    answer = client.api._get(client.api._url("/tare/containers/{0}/unpersisted", name))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["Data"])


def test_a_database_is_named_and_the_volume_keeps_it(
    host: EngineProcess, client: docker_py.DockerClient, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "made.sqlite") as database:
        database.execute("CREATE TABLE t (a)")
        database.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(5000)])
    database.close()
    source = ("-v", f"{tmp_path}:/in:ro")
    copies = "mkdir -p /var/lib/shop && cp /in/made.sqlite /var/lib/shop/state"
    run(host, "shop", copies, *source)
    (loss,) = found(client, "shop")
    size = (tmp_path / "made.sqlite").stat().st_size
    assert loss == {
        "Path": "/var/lib/shop",
        "Kind": "SQLite database",
        "Size": size,
        "Files": 1,
        "Option": "-v shop-data:/var/lib/shop",
    }
    removed = host.tare("rm", "shop")
    assert removed.stdout == b"shop\n"
    assert removed.stderr.decode() == (
        f"note: shop: {size / 1000:.3g}kB in /var/lib/shop would have been kept with -v shop-data:/var/lib/shop\n"
    )
    option = shlex.split(loss["Option"])
    run(host, "shop", copies, *source, *option)
    assert found(client, "shop") == []
    assert host.tare("rm", "shop").stderr == b""
    kept = host.text("run", "--rm", *option, "busybox", "wc", "-c", "/var/lib/shop/state")
    assert kept.split()[0] == str(size)
    host.docker("volume", "rm", "shop-data")


def test_logs_of_a_running_container(host: EngineProcess, client: docker_py.DockerClient) -> None:
    host.docker("run", "-d", "--name", "logger", "busybox", "sh", "-c", f"{WRITES_LOGS}; : > /done; sleep 100")
    host.docker("exec", "logger", "sh", "-c", "while [ ! -e /done ]; do :; done")
    (loss,) = found(client, "logger")
    assert (loss["Path"], loss["Kind"], loss["Option"]) == ("/var/log/app", "logs", "-v logger-logs:/var/log/app")
    shown = host.tare("diff", "--unpersisted", "logger").stdout
    assert shown == host.tare("unpersisted", "logger").stdout
    absent = host.tare("diff", "--unpersisted", "ghost", check=False)
    assert (absent.returncode, absent.stdout) == (1, b"") and b"No such container: ghost" in absent.stderr
    listed = shown.decode().splitlines()
    assert listed[0].split() == ["SIZE", "FILES", "KIND", "PATH", "KEEP", "WITH"]
    assert listed[1].endswith("-v logger-logs:/var/log/app")
    assert b"note: logger: " in host.tare("rm", "-f", "logger").stderr


def test_caches_and_programs_are_no_data(host: EngineProcess, client: docker_py.DockerClient) -> None:
    run(host, "quiet", LIKE_APT)
    assert found(client, "quiet") == []
    assert host.tare("rm", "quiet").stderr == b""


def test_a_change_of_owner_is_no_data(host: EngineProcess, client: docker_py.DockerClient, tmp_path: Path) -> None:
    context, image = tmp_path / "context", "with-data"
    context.mkdir()
    run_step = "RUN mkdir -p /srv/site && head -c 200000 /dev/zero > /srv/site/page\n"
    (context / "Dockerfile").write_text(f"FROM busybox\n{run_step}")
    host.tare("build", "-q", "-t", image, str(context))
    host.docker("run", "--name", "owner", image, "chown", "-R", "405:100", "/srv/site")
    assert found(client, "owner") == []
    host.docker("run", "--name", "content", image, "sh", "-c", "echo more >> /srv/site/page")
    assert [one["Path"] for one in found(client, "content")] == ["/srv/site"]
    host.docker("rm", "owner", "content")
    host.docker("rmi", image)


def test_prune_tells_what_went(host: EngineProcess) -> None:
    for name in ("one", "two"):
        run(host, name, f"mkdir /data && dd if=/dev/zero of=/data/{name} bs=64k count=2")
    run(host, "plain", "true")
    host.docker("run", "-d", "--name", "live", "busybox", "sh", "-c", "mkdir /data; sleep 100")
    pruned = host.tare("container", "prune", "-f")
    notes = sorted(pruned.stderr.decode().splitlines())
    assert notes == [
        "note: one: 131kB in /data would have been kept with -v one-data:/data",
        "note: two: 131kB in /data would have been kept with -v two-data:/data",
    ]
    assert pruned.stdout.startswith(b"Deleted Containers:\n")
    run(host, "three", "mkdir /data && dd if=/dev/zero of=/data/x bs=64k count=2")
    pruned = host.tare("system", "prune", "-f")
    assert pruned.stderr == b"note: three: 131kB in /data would have been kept with -v three-data:/data\n"


def test_containers_that_were_made_to_go_say_nothing(host: EngineProcess, client: docker_py.DockerClient) -> None:
    writes = "mkdir /data; dd if=/dev/zero of=/data/x bs=64k count=2 2>/dev/null"
    ended = host.tare("run", "--rm", "busybox", "sh", "-c", writes)
    assert (ended.stdout, ended.stderr) == (b"", b"")
    host.docker("run", "-d", "--rm", "--name", "brief", "busybox", "sh", "-c", f"{writes}; : > /done; sleep 100")
    host.docker("exec", "brief", "sh", "-c", "while [ ! -e /done ]; do :; done")
    assert [one["Path"] for one in found(client, "brief")] == ["/data"]
    assert host.tare("rm", "-f", "brief").stderr == b""


def test_nobody_and_wrong_numbers(host: EngineProcess, client: docker_py.DockerClient) -> None:
    missing = host.tare("unpersisted", "nobody", check=False)
    assert (missing.returncode, missing.stderr) == (1, b"Error response from daemon: No such container: nobody\n")
    run(host, "there", "true")
    answer = client.api._get(client.api._url("/tare/containers/there/unpersisted"), params={"entries": "many"})
    assert answer.status_code == 400
    assert "entries" in json.loads(answer.text)["message"]
    many = "mkdir /data; i=0; while [ $i -lt 50 ]; do echo $i > /data/$i; i=$((i+1)); done"
    run(host, "many", many)
    answer = client.api._get(client.api._url("/tare/containers/many/unpersisted"), params={"entries": "20"})
    assert answer.json()["Complete"] is False
