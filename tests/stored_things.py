"""A store with one of everything that a check looks at, and what does damage to it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import TarWriter
from tare.model import Digest, Reference, new_id
from tare.model.container import Container, ContainerConfig, HostConfig
from tare.oci.image import ImageConfig, RootFS
from tare.store.fsck.findings import Options, Problem, Progress, Report
from tare.store.origins import ImageOrigin, LayerOrigin
from tare.store.snapshotter import Lower
from tare.store.store import Store

Member = tuple[Entry, bytes]


def file(path: str, data: bytes, **fields: object) -> Member:
    values: dict[str, object] = {"mode": 0o644, "mtime": 1000, "size": len(data), **fields}
    return Entry(path=path, kind=Kind.FILE, **values), data  # type: ignore[arg-type]


def folder(path: str) -> Member:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=0o755, mtime=1000), b""


def tar_of(*members: Member) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for entry, data in members:
        writer.add(entry, io.BytesIO(data) if entry.kind is Kind.FILE else None)
    writer.finish()
    return sink.getvalue()


@dataclass
class Things:
    """``base``, ``top`` are layers of the image ``app:1``; ``base`` and ``step`` of ``built:1``.

    ``foreign`` is a layer of ``loaded:1`` whose tar no directory gives again. ``step`` was written of the committed
    snapshot ``left``. ``cached`` is a layer, ``loose`` a committed snapshot that only the build cache has. ``web`` is a
    container of ``app:1``, ``kept`` the snapshot of a failed step.
    """

    store: Store
    layers: dict[str, Digest] = field(default_factory=dict)
    images: dict[str, Digest] = field(default_factory=dict)
    web: str = ""

    @property
    def root(self) -> Path:
        return self.store.root

    def tar(self, name: str) -> Path:
        return self.store.layers.path(self.layers[name])

    def config(self, name: str) -> Path:
        return self.store.content.path(self.images[name])

    def number(self, key: str) -> int:
        return int(self.query("SELECT id FROM snapshots WHERE key = ?", key)[0][0])

    def directory(self, name: str) -> Path:
        """Of a layer's name or a snapshot's key."""
        key = str(self.layers[name]) if name in self.layers else name
        return self.root / "snapshots" / str(self.number(key))

    def query(self, text: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.store.db.path)) as connection:
            return connection.execute(text, values).fetchall()

    def corrupt(self, *statements: str) -> None:
        """Change rows as no engine does: without foreign keys."""
        with closing(sqlite3.connect(self.store.db.path, timeout=10)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    async def check(self, *, repair: bool = False, deep: bool = False) -> tuple[list[Problem], Report]:
        found: list[Problem] = []

        def observe(one: Problem | Progress) -> None:
            if isinstance(one, Problem):
                found.append(one)

        report = await self.store.check.run(Options(repair=repair, deep=deep), observe)
        assert report.found + report.repaired + report.left == len(found)
        return found, report


@contextmanager
def filled_store() -> Iterator[Things]:
    """A store with one of everything, closed: for copies."""
    top = Path(tempfile.mkdtemp())

    async def make() -> Things:
        store = await Store.open(top / "data")
        try:
            return await fill(store)
        finally:
            await store.close()

    try:
        yield asyncio.run(make())
    finally:
        shutil.rmtree(top)


@asynccontextmanager
async def copy_of(template: Things) -> AsyncIterator[Things]:
    """An open copy of such a store, in memory where the host has a file system there."""
    shared = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    try:
        await asyncio.to_thread(subprocess.run, ["cp", "-a", template.root, top / "data"], check=True)  # devices, too
        store = await Store.open(top / "data")
        try:
            yield Things(store, template.layers, template.images, template.web)
        finally:
            await store.close()
    finally:
        shutil.rmtree(top)


async def _image(things: Things, name: str, layers: Sequence[str]) -> None:
    diff_ids = [str(things.layers[one]) for one in layers]
    config = ImageConfig(architecture="amd64", os="linux", author=name, rootfs=RootFS(diff_ids=diff_ids))
    things.images[name] = await things.store.images.create(config, tag=Reference.parse(name))


async def fill(store: Store) -> Things:
    """Put one of everything into an empty store."""
    things = Things(store)
    async with store.leases.hold() as lease:
        for name, data in (
            (
                "base",
                tar_of(
                    folder("bin"),
                    file("bin/sh", b"program" * 300, mode=0o755),
                    folder("etc"),
                    file("etc/name", b"base"),
                ),
            ),
            ("top", tar_of(folder("etc"), file("etc/name", b"top"), file("etc/.wh.old", b"", mode=0, mtime=0))),
            ("foreign", tar_of(file("z", b"last name first"), file("a", b"not sorted"))),
            ("cached", tar_of(file("cached", b"by a COPY"))),
        ):
            things.layers[name] = (await store.layers.import_stream(io.BytesIO(data), None, lease=lease)).diff_id
        lower = await store.snapshots.ensure_layer(things.layers["base"])
        for key in ("left", "loose", "kept"):
            await store.leases.add(lease, "snapshot", key)
            await store.snapshots.prepare(key, [lower])
            upper = await store.snapshots.upper_path(key)
            (upper / key).write_bytes(b"of a RUN")
            os.utime(upper / key, (1000, 1000))
            await store.snapshots.commit(key)
        await store.snapshots.ensure_layer(things.layers["cached"])
        things.layers["step"] = await store.snapshots.write_layer(Lower("left"))
        await _image(things, "app:1", ("base", "top"))
        await _image(things, "built:1", ("base", "step"))
        await _image(things, "loaded:1", ("foreign",))
        origin = ImageOrigin(below=1, base="app:1", layers=[LayerOrigin(text="RUN make", file="Dockerfile", line=3)])
        await store.origins.save(things.images["built:1"], origin)
        for name in ("top", "step", "foreign"):
            await store.snapshots.ensure_layer(things.layers[name])
        things.web = new_id()
        await store.snapshots.prepare(things.web, [lower, Lower(str(things.layers["top"]))])
        things.corrupt(*_rows(things))
    await store.collect()
    return things


def _rows(things: Things) -> list[str]:
    image = str(things.images["app:1"])
    container = Container(
        id=things.web, name="/web", created="2026-01-01T00:00:00Z", image_id=image, image_name="app:1", path="/bin/sh",
        args=[], config=ContainerConfig(), host_config=HostConfig(), networking={}, mounts=[],
    )  # fmt: skip
    document = msgspec.json.encode(container).decode().replace("'", "''")
    records = {
        "cached": ("layer", str(things.layers["cached"])),
        "loose": ("snapshot", "loose"),
        "left": ("snapshot", "left"),
    }
    statements = [f"INSERT INTO containers VALUES ('{things.web}', '/web', '{image}', 'exited', 0, '{document}')"]
    for name, (kind, key) in records.items():
        result = json.dumps({"part": {"kind": kind, "key": key}, "chain": []})
        snapshot = things.number(key) if kind == "snapshot" else "NULL"
        diff_id = f"'{key}'" if kind == "layer" else "NULL"
        statements.append(
            "INSERT INTO build_cache (key, kind, result, fields, snapshot, diff_id, created, last_used)"
            f" VALUES ('{name}', 'definition', '{result}', '{{}}', {snapshot}, {diff_id}, 0, 0)"
        )
    step = "f" * 64
    statements.append(f"INSERT INTO kept_steps VALUES ('{step}', {things.number('kept')}, 0, '{{}}')")
    statements.append(f"INSERT INTO kept_step_parts VALUES ('{step}', 'layer', '{things.layers['base']}')")
    return statements
