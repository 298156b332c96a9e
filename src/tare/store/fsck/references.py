"""Rows that name what does not exist, whether a foreign key says so or not."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from tare.errors import InvalidArgument, TareError
from tare.model import Digest, Reference
from tare.oci.image import MEDIA_TYPE_CONFIG, ImageConfig
from tare.store.fsck.database import Violation, read_violations
from tare.store.fsck.findings import Problem, State
from tare.store.fsck.layers import REWRITTEN, restore
from tare.store.fsck.run import Lost, Run
from tare.store.fsck.uses import how_to_get, image_name
from tare.store.gc import Node
from tare.store.threads import run_undoable

_PROTECTING_NOTHING = ("tags", "image_digests", "kept_steps", "volume_protections")
"""Tables whose rows would keep what they name, which is gone: there is nothing to keep any more."""

_KINDS = {
    "tags": "tag",
    "build_cache": "build-cache",
    "kept_steps": "kept-step",
    "kept_step_parts": "kept-step",
    "lease_references": "lease",
    "containers": "container",
    "container_volumes": "container",
    "images": "image",
    "image_layers": "image",
    "image_origins": "image",
    "image_digests": "image",
    "layer_blobs": "layer",
    "snapshots": "snapshot",
    "snapshot_lowers": "snapshot",
    "volume_snapshots": "volume-snapshot",
}


async def find_violations(run: Run) -> list[Violation]:
    """The rows that foreign keys forbid, as they are now."""
    path = run.parts.db.path
    return await run_undoable(lambda abort: read_violations(path, abort), lambda _: None)


async def check_foreign_keys(run: Run) -> None:
    """Every row that names something missing; those of unpacked layers first, as they may bring a layer back."""
    for violation in await find_violations(run):
        where = (violation.parent, violation.value)
        if violation.table == "snapshots" and violation.parent == "layers" and where not in run.promised:
            await _snapshot_without_layer(run, violation)
    await _images_without_row(run)
    told: set[tuple[str, object]] = set()
    for violation in await find_violations(run):
        where = (violation.table, violation.column)
        if (violation.parent, violation.value) in run.promised:
            continue
        if where in (("snapshots", "diff_id"), ("snapshot_lowers", "lower")):
            continue  # above, and with the containers and snapshots themselves
        if where in (("images", "id"), ("image_layers", "diff_id")):
            if (violation.parent, violation.value) not in told:
                told.add((violation.parent, violation.value))
                await _object_without_row(run, violation)
        elif violation.goes_along or violation.table in _PROTECTING_NOTHING:
            await _drop(run, violation)
        else:
            run.leave(_describe(violation, fix=_fix(violation)))


async def _images_without_row(run: Run) -> None:
    """An image that a name or a container has, and whose configuration and layers are there, needs but its row."""
    missing = {str(one.value) for one in await find_violations(run) if one.parent == "images"}
    for image in sorted(missing):
        try:
            document = await run.parts.content.read(Digest.parse(image))
            layers = msgspec.json.decode(document, type=ImageConfig).rootfs.diff_ids
        except (TareError, OSError, msgspec.DecodeError):
            continue  # the image is lost, and what names it is told of
        problem = Problem(
            code="image-row-missing",
            kind="image",
            object=image,
            cause="its configuration is whole and something names it, but the database has lost its row",
            repair="writes the row anew",
        )
        insert = partial(_insert_image, image=image, size=len(document), layers=layers)
        if await run.parts.db.read(lambda connection, layers=layers: _have_rows(connection, layers)):  # type: ignore[misc]
            run.promised.add(("images", image))
            await run.heal(problem, lambda insert=insert: run.change(insert))  # type: ignore[misc]


def _have_rows(connection: sqlite3.Connection, layers: Sequence[str]) -> bool:
    query = "SELECT 1 FROM layers WHERE diff_id = ?"
    return all(connection.execute(query, (diff_id,)).fetchone() for diff_id in layers)


def _insert_image(connection: sqlite3.Connection, *, image: str, size: int, layers: Sequence[str]) -> None:
    now = time.time()
    connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)", (image, size, MEDIA_TYPE_CONFIG, now))
    query = "SELECT size FROM layers WHERE diff_id = ?"
    total = sum(connection.execute(query, (diff_id,)).fetchone()[0] for diff_id in layers)
    connection.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (image, now, total))
    connection.executemany(
        "INSERT OR REPLACE INTO image_layers VALUES (?, ?, ?)",
        [(image, position, diff_id) for position, diff_id in enumerate(layers)],
    )


def _describe(violation: Violation, *, repair: str = "", fix: str = "") -> Problem:
    first = next(iter(violation.row.values()))
    return Problem(
        code="row-dangling",
        kind=_KINDS.get(violation.table, "row"),
        object=str(first),
        cause=f"its row in {violation.table} names {violation.value} ({violation.column}), which {violation.parent}"
        " does not have",
        repair=repair,
        fix=fix,
    )


async def _drop(run: Run, violation: Violation) -> None:
    statement = f'DELETE FROM "{violation.table}" WHERE rowid = ? AND "{violation.column}" = ?'  # noqa: S608 - the schema's names
    problem = _describe(violation, repair="deletes the row: it protects nothing")
    await run.heal(problem, lambda: run.write(statement, violation.rowid, violation.value))


def _fix(violation: Violation) -> str:
    name = str(violation.row.get("name", "")).lstrip("/")
    if violation.table == "containers":
        return (
            f"pull, load, import or build the image {str(violation.value)[:19]} again, or remove the container {name}"
        )
    if violation.parent == "volumes":
        return f"create the volume again: `tare volume create {violation.value}`"
    return "remove what the row is about, or restore the database from a backup"


async def _object_without_row(run: Run, violation: Violation) -> None:
    """An image's configuration or layer of which neither row nor file is left."""
    digest = str(violation.value)
    kind, query = "blob", "SELECT ?"
    if violation.table == "image_layers":
        kind, query = "layer", "SELECT image FROM image_layers WHERE diff_id = ?"

    def users(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
        images = list(dict.fromkeys(row[0] for row in connection.execute(query, (digest,))))
        node = Node(kind, digest)
        return [f"image {image_name(connection, one)}" for one in images], list(
            dict.fromkeys(how_to_get(connection, one, node) for one in images)
        )

    names, fixes = await run.parts.db.read(users)
    run.leave(
        Problem(
            code=f"{kind}-missing",
            kind=kind,
            object=digest,
            cause="neither its row nor its file is there",
            used_by=names,
            fix="; ".join(fixes),
        )
    )


async def _snapshot_without_layer(run: Run, violation: Violation) -> None:
    number, kind, diff_id = str(violation.row["id"]), violation.row["kind"], Digest.parse(str(violation.value))
    if kind != "layer":
        problem = _describe(violation, repair="forgets the layer that had been written of it")
        statement = "UPDATE snapshots SET diff_id = NULL WHERE id = ? AND diff_id = ?"
        await run.heal(problem, lambda: run.write(statement, number, str(diff_id)))
        return
    problem = _describe(violation, repair=f"{REWRITTEN}, if that makes exactly the same tar")
    if not run.options.repair:
        run.promised.add(("layers", str(diff_id)))
        run.tell(problem)
    elif await restore(run, diff_id):
        run.tell(msgspec.structs.replace(problem, state=State.REPAIRED, repair=REWRITTEN))
    else:
        run.lost.append(Lost(Node("snapshot", number), msgspec.structs.replace(problem, repair="")))


async def check_tags(run: Run) -> None:
    """Every name is one that can be read."""
    for (text,) in await run.read("SELECT reference FROM tags ORDER BY reference"):
        run.checked["tags"] += 1
        try:
            Reference.parse(text)
        except InvalidArgument as error:
            problem = Problem(
                code="tag-invalid",
                kind="tag",
                object=text,
                cause=error.message,
                repair="deletes the name; the image stays",
            )
            await run.heal(problem, _writing(run, "DELETE FROM tags WHERE reference = ?", text))


async def check_kept_steps(run: Run) -> None:
    """What the mounts of failed steps show is there."""
    for kind, query in (
        ("layer", "SELECT step, object FROM kept_step_parts WHERE kind = 'layer'"
                  " AND object NOT IN (SELECT diff_id FROM layers)"),
        ("snapshot", "SELECT step, object FROM kept_step_parts WHERE kind = 'snapshot'"
                     " AND object NOT IN (SELECT key FROM snapshots)"),
    ):  # fmt: skip
        for step, name in await run.read(query):
            problem = Problem(
                code="kept-step-part",
                kind="kept-step",
                object=f"step:{step[:8]}",
                cause=f"a mount of it shows the {kind} {name}, which does not exist",
                repair="deletes the row: it protects nothing",
            )
            statement = "DELETE FROM kept_step_parts WHERE step = ? AND kind = ? AND object = ?"
            await run.heal(problem, _writing(run, statement, step, kind, name))


class _Part(msgspec.Struct):
    kind: str
    key: str


class _Result(msgspec.Struct):
    """Of ``build.cache.records.Result`` what refers to something."""

    part: _Part | None = None


async def check_build_cache(run: Run) -> None:
    """Every record can be read and names in its document what it names in its columns."""
    query = (
        "SELECT b.key, b.result, b.diff_id, s.key FROM build_cache b LEFT JOIN snapshots s ON s.id = b.snapshot"
        " WHERE (b.snapshot IS NULL OR s.id IS NOT NULL)"
    )
    for key, text, diff_id, snapshot in await run.read(query):
        run.checked["build cache records"] += 1
        cause = ""
        try:
            part = msgspec.json.decode(text, type=_Result).part
        except msgspec.DecodeError as error:
            cause = f"its document cannot be read: {error}"
        else:
            named = diff_id or snapshot
            if (part.key if part is not None else None) != named:
                cause = (
                    f"its document names {part.key if part is not None else 'nothing'}, its row {named or 'nothing'}"
                )
        if cause:
            problem = Problem(
                code="build-cache-record",
                kind="build-cache",
                object=key,
                cause=cause,
                repair="deletes the record: the step runs again",
            )
            statement = "DELETE FROM build_cache WHERE key = ? AND result = ?"
            await run.heal(problem, _writing(run, statement, key, text))


def _writing(run: Run, statement: str, *values: object) -> Callable[[], Awaitable[int]]:
    return lambda: run.write(statement, *values)
