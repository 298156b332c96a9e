"""Images and containers: their rows say what their documents say."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec

from tare.errors import TareError
from tare.model import Digest
from tare.model.container import Container
from tare.oci.image import ImageConfig
from tare.store.fsck.findings import Problem
from tare.store.fsck.run import Run
from tare.store.fsck.uses import how_to_get, image_name

_LAYERS = "SELECT diff_id FROM image_layers WHERE image = ? ORDER BY position"


class _Rows(NamedTuple):
    """An image in the database: its name, its layers, its bytes and those that its layers have; None without a row."""

    name: str
    layers: list[str]
    size: int
    layers_size: int | None


async def read_configurations(run: Run) -> dict[str, list[str]]:
    """The layers that each image has by its configuration; images whose configuration is damaged are left out."""
    found = {}
    for (image,) in await run.read("SELECT id FROM images ORDER BY id"):
        try:
            document = await run.parts.content.read(Digest.parse(image))
            found[image] = list(msgspec.json.decode(document, type=ImageConfig).rootfs.diff_ids)
        except (TareError, OSError, msgspec.DecodeError):
            continue  # the blob is reported as such
    return found


async def check_images(run: Run, configured: dict[str, list[str]]) -> None:
    """Every image's rows beside its configuration."""
    for (image,) in await run.read("SELECT id FROM images ORDER BY id"):
        if image not in configured and not run.is_lost("blob", image):
            await _check_configuration(run, image)
    for image, layers in configured.items():
        run.checked["images"] += 1
        rows = await run.parts.db.read(lambda connection, image=image: _read(connection, image))  # type: ignore[misc]
        if rows is None:
            continue  # removed meanwhile
        if rows.layers != layers:
            await _correct_layers(run, image, layers, rows)
        elif rows.layers_size not in (None, rows.size) and (run.options.repair or run.corrected.isdisjoint(layers)):
            await _correct_size(run, image, rows)


async def _check_configuration(run: Run, image: str) -> None:
    """An image that has come meanwhile, whose blob is told of elsewhere, or is no configuration."""
    try:
        msgspec.json.decode(await run.parts.content.read(Digest.parse(image)), type=ImageConfig)
    except (TareError, OSError):
        return
    except msgspec.DecodeError as error:
        fix = f"remove it: `tare rmi -f {image}`"
        cause = f"its configuration is none: {error}"
        run.leave(Problem(code="image-configuration", kind="image", object=image, cause=cause, fix=fix))


def _read(connection: sqlite3.Connection, image: str) -> _Rows | None:
    row = connection.execute("SELECT size FROM images WHERE id = ?", (image,)).fetchone()
    if row is None:
        return None
    layers = [one[0] for one in connection.execute(_LAYERS, (image,))]
    return _Rows(image_name(connection, image), layers, row[0], _sum(connection, layers))


def _sum(connection: sqlite3.Connection, layers: list[str]) -> int | None:
    """Bytes of layers; None when one has no row."""
    total = 0
    for diff_id in layers:
        row = connection.execute("SELECT size FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
        if row is None:
            return None
        total += row[0]
    return total


async def _correct_size(run: Run, image: str, rows: _Rows) -> None:
    problem = Problem(
        code="image-size",
        kind="image",
        object=rows.name,
        cause=f"the database says {rows.size} bytes, and its layers have {rows.layers_size}",
        repair="corrects the size in the database",
    )
    await run.heal(problem, lambda: run.write("UPDATE images SET size = ? WHERE id = ?", rows.layers_size, image))


async def _correct_layers(run: Run, image: str, layers: list[str], rows: _Rows) -> None:
    problem = Problem(
        code="image-layers",
        kind="image",
        object=rows.name,
        cause=f"the database has {len(rows.layers)} layers of it, its configuration names {len(layers)} (or others)",
        repair="writes the rows anew, as the configuration has them",
    )

    wanted = list(enumerate(layers))

    def rewrite(connection: sqlite3.Connection) -> None:
        query = "SELECT position, diff_id FROM image_layers WHERE image = ?"
        wrong = [row for row in connection.execute(query, (image,)) if row not in wanted]
        connection.executemany(
            "DELETE FROM image_layers WHERE image = ? AND position = ? AND diff_id = ?",
            [(image, *row) for row in wrong],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO image_layers SELECT ?, ?, diff_id FROM layers WHERE diff_id = ?",
            [(image, *row) for row in wanted],
        )
        connection.execute("UPDATE images SET size = coalesce(?, size) WHERE id = ?", (_sum(connection, layers), image))

    if await run.parts.db.read(lambda connection: _sum(connection, layers)) is not None:
        await run.heal(problem, lambda: run.change(rewrite))
        return
    if run.options.repair:
        await run.change(rewrite)  # what is left of its layers must stay
    fix = await run.parts.db.read(lambda connection: how_to_get(connection, image))
    run.leave(msgspec.structs.replace(problem, repair="", fix=fix))


async def check_containers(run: Run, configured: dict[str, list[str]]) -> None:
    """Every container's document can be read, its writable layer is there and stands on its image's layers."""
    for key, name, image, document in await run.read("SELECT id, name, image, document FROM containers ORDER BY name"):
        run.checked["containers"] += 1
        shown = name.lstrip("/")
        try:
            container = msgspec.json.decode(document, type=Container)
        except msgspec.DecodeError as error:
            cause, fix = f"its document cannot be read: {error}", "restore the database from a backup"
            run.leave(Problem(code="container-document", kind="container", object=shown, cause=cause, fix=fix))
            continue
        mounted = {detail.image for detail in container.mount_details.values() if detail.image}
        await _check_mounted_images(run, key, shown, mounted)
        await _check_writable_layer(run, key, shown, configured.get(image, []))


async def _exists(run: Run, container: str) -> bool:
    return bool(await run.read("SELECT 1 FROM containers WHERE id = ?", container))


async def _check_mounted_images(run: Run, key: str, shown: str, images: set[str]) -> None:
    for image in sorted(images):
        if not await run.read("SELECT 1 FROM images WHERE id = ?", image) and await _exists(run, key):
            run.leave(
                Problem(
                    code="container-mount",
                    kind="container",
                    object=shown,
                    cause=f"it mounts the image {image}, which does not exist",
                    fix="pull, load, import or build that image again, or remove the container",
                )
            )


async def _check_writable_layer(run: Run, key: str, shown: str, layers: list[str]) -> None:
    rows = await run.read("SELECT id FROM snapshots WHERE key = ? AND kind = 'active'", key)
    if not rows:
        if await _exists(run, key):
            run.leave(
                Problem(
                    code="container-snapshot",
                    kind="container",
                    object=shown,
                    cause="the database has no writable layer of it: what it had written is lost",
                    fix="remove the container and make it again",
                )
            )
        return
    number = rows[0][0]

    def stands_on(connection: sqlite3.Connection) -> list[str] | None:
        query = (
            "SELECT s.key FROM snapshot_lowers l LEFT JOIN snapshots s ON s.id = l.lower"
            " WHERE l.snapshot = ? ORDER BY l.position"
        )
        if connection.execute("SELECT 1 FROM snapshots WHERE id = ?", (number,)).fetchone() is None:
            return None
        return [row[0] for row in connection.execute(query, (number,))]

    actual = await run.parts.db.read(stands_on)
    if actual is None or actual == layers or not layers:
        return  # removed meanwhile, or as it should be, or nobody knows what it should be
    problem = Problem(
        code="container-layers",
        kind="container",
        object=shown,
        cause="its writable layer does not stand on the layers of its image",
        repair="lets it stand on them",
    )
    if any(run.is_lost("layer", diff_id) for diff_id in layers):
        run.leave(msgspec.structs.replace(problem, repair="", fix="get its image again, then repair again"))
    else:
        await run.heal(problem, lambda: _stand_on(run, number, layers))


async def _stand_on(run: Run, number: str, layers: list[str]) -> None:
    for diff_id in layers:
        await run.parts.snapshots.ensure_layer(Digest.parse(diff_id))

    def rewrite(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM snapshot_lowers WHERE snapshot = ?", (number,))
        connection.executemany(
            "INSERT INTO snapshot_lowers SELECT ?, ?, id FROM snapshots WHERE key = ?",
            [(number, position, diff_id) for position, diff_id in enumerate(layers)],
        )

    await run.change(rewrite)
