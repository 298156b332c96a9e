"""What looks like data in a writable layer, and what does not."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tare.diagnosis.losses import Findings, find_losses


def put(root: Path, name: str, size: int | bytes = 10_000) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(size if isinstance(size, bytes) else b"x" * size)
    return path


def look(upper: Path, *lowers: Path, **options: object) -> list[tuple[str, str, bool]]:
    found: Findings = find_losses(upper, lowers, **options)  # type: ignore[arg-type]
    assert found.complete
    return [(loss.path, loss.kind, loss.alone) for loss in found.losses]


@pytest.mark.parametrize(
    "name",
    [
        "tmp/upload.bin",
        "var/tmp/upload.bin",
        "run/app.state",
        "dev/shm/x",
        "var/cache/apt/archives/x.deb",
        "var/lib/apt/lists/index",
        "var/lib/dpkg/status",
        "var/lib/dpkg/info/bash.list",
        "var/log/apt/history.log",
        "var/log/dpkg.log",
        "var/log/alternatives.log",
        "lib/apk/db/installed",
        "var/lib/rpm/rpmdb.sqlite",
        "etc/hosts",
        "etc/nginx/nginx.conf",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/lib/python3/dist-packages/x/__init__.py",
        "usr/local/lib/python3.12/site-packages/pandas/data.csv",
        "usr/bin/program",
        "usr/src/app/__pycache__/main.cpython-312.pyc",
        "app/node_modules/x/data/db.sqlite",
        "app/.git/objects/pack/p.pack",
        "app/venv/lib/x.py",
        "app/main.pyc",
        "root/.bash_history",
        "root/.cache/pip/x",
        "root/.npm/_cacache/x",
        "home/u/.viminfo",
        "home/u/.config/x/state",
        "var/lib/app/app.pid",
        "var/lib/app/db.lock",
        "data/socket.sock",
    ],
)
def test_false_alarms(tmp_path: Path, name: str) -> None:
    image, upper = tmp_path / "image", tmp_path / "upper"
    put(image, "app/main.py")
    put(upper, name, 3 << 20)
    assert look(upper, image, working_directory="/app") == []


@pytest.mark.parametrize(
    ("name", "place", "kind"),
    [
        ("var/lib/app/x/y.bin", "/var/lib/app", "data"),
        ("var/lib/single", "/var/lib", "data"),
        ("var/www/html/config.php", "/var/www/html", "data"),
        ("var/spool/cron/root", "/var/spool/cron", "data"),
        ("var/log/app.log", "/var/log", "logs"),
        ("var/log/nginx/access.log.1.gz", "/var/log/nginx", "logs"),
        ("srv/files/a", "/srv/files", "data"),
        ("data/a/b/c", "/data", "data"),
        ("home/u/thesis.tex", "/home/u", "data"),
        ("root/notes.txt", "/root", "data"),
        ("uploads/photo.jpg", "/uploads", "data"),
        ("app/uploads/photo.jpg", "/app/uploads", "data"),
        ("app/logs/app.log", "/app/logs", "logs"),
        ("opt/tool/data/x.bin", "/opt/tool/data", "data"),
        ("home/u/.n8n/database.sqlite", "/home/u/.n8n", "data"),
    ],
)
def test_places(tmp_path: Path, name: str, place: str, kind: str) -> None:
    image, upper = tmp_path / "image", tmp_path / "upper"
    put(image, "app/main.py")
    put(upper, name)
    assert look(upper, image, working_directory="/app") == [(place, kind, False)]


def test_a_file_alone_in_the_working_directory(tmp_path: Path) -> None:
    put(tmp_path / "image", "usr/src/app/main.py")
    put(tmp_path / "upper", "usr/src/app/db.csv")
    put(tmp_path / "upper", "usr/src/app/settings.py")
    found = look(tmp_path / "upper", tmp_path / "image", working_directory="/usr/src/app")
    assert found == [("/usr/src/app/db.csv", "data", True)]


def test_databases_are_known_by_their_content(tmp_path: Path) -> None:
    place = put(tmp_path, "usr/local/service/state", b"").parent
    (place / "state").unlink()
    with sqlite3.connect(place / "state") as database:
        database.execute("CREATE TABLE t (a)")
    database.close()
    put(tmp_path, "var/lib/postgresql/15/main/PG_VERSION", b"15\n")
    put(tmp_path, "var/lib/postgresql/15/main/base/1/2601")
    put(tmp_path, "opt/mysql/data/ibdata1", 20_000)
    found = {path: kind for path, kind, _ in look(tmp_path)}
    assert found == {
        "/usr/local/service/state": "SQLite database",
        "/var/lib/postgresql": "PostgreSQL database",
        "/opt/mysql/data": "MySQL or MariaDB database",
    }


def test_what_the_image_has_counts_when_it_has_changed(tmp_path: Path) -> None:
    image, upper = tmp_path / "image", tmp_path / "upper"
    for name in ("var/lib/app/same", "var/lib/other/new", "app/data/table.csv", "app/main.py"):
        old = put(image, name, 100_000)
        new = put(upper, name, 100_000)
        os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))  # as a change of the owner leaves it
    assert look(upper, image, working_directory="/app") == []
    put(upper, "var/lib/other/new", 100_001)
    put(upper, "app/data/table.csv", 100_010)
    put(upper, "app/main.py", 300_000)
    assert look(upper, image, working_directory="/app") == [("/var/lib/other", "data", False)]
    put(upper, "app/data/table.csv", 200_000)
    assert ("/app/data", "data", False) in look(upper, image, working_directory="/app")


def test_logs_are_grouped(tmp_path: Path) -> None:
    put(tmp_path, "var/log/nginx/access.log")
    put(tmp_path, "var/log/app.log")
    put(tmp_path, "var/log/tiny.log", 100)
    (loss,) = find_losses(tmp_path).losses
    assert (loss.path, loss.kind, loss.files) == ("/var/log", "logs", 2)


def test_links_are_not_followed_and_devices_not_opened(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    put(tmp_path, "outside/secret.db")
    (upper / "data").mkdir(parents=True)
    (upper / "data" / "link").symlink_to(tmp_path / "outside")
    (upper / "var").symlink_to(tmp_path / "outside")
    os.mkfifo(upper / "data" / "pipe")
    assert look(upper) == []


def test_too_many_files_are_said(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path, f"data/{number}", 5000)
    found = find_losses(tmp_path, limit=20)
    assert not found.complete
    assert found.losses[0].files < 20
    assert find_losses(tmp_path, limit=100).losses[0].files == 60


def test_deep_trees_end(tmp_path: Path) -> None:
    deep = tmp_path / "data" / "/".join("d" * 200)
    deep.mkdir(parents=True)
    put(deep, "x")
    assert look(tmp_path) == []
