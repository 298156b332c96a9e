"""What the stages of a project were when it was last built, to explain what a later build runs anew.

A project is a context and a Dockerfile's name in it; a stage's steps are replaced by each build that went well.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tare.store.store import Store

_PROJECTS = 500  # projects that are remembered; the ones not built for the longest time go first


class PastStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that made a layer: its instruction, its key with the fields, and what it stood on.

    ``base`` is the image reference where the step was the first over one, ``below`` the key of what it stood on.
    """

    op: str
    text: str
    key: str
    fields: dict[str, Any]
    variables: dict[str, str] = {}
    base: str = ""


Steps = Mapping[str, tuple[PastStep, ...]]
"""A project's steps by stage, in order."""


def project_key(context: str, dockerfile: str) -> str:
    """The project of a context (directory, URL or name) and a Dockerfile's name."""
    return hashlib.sha256(f"{context}\0{dockerfile}".encode()).hexdigest()


class BuildHistory:
    """Rows of table ``build_history``."""

    def __init__(self, store: Store) -> None:
        self._db = store.db

    async def load(self, project: str) -> Steps:
        """The stages of ``project``; empty for one that was not built before."""
        query = "SELECT stage, steps FROM build_history WHERE project = ?"
        rows = await self._db.read(lambda db: db.execute(query, (project,)).fetchall())
        return {stage: tuple(msgspec.json.decode(steps, type=list[PastStep])) for stage, steps in rows}

    async def save(self, project: str, stages: Steps) -> None:
        """Replace these stages; writes nothing where nothing changed."""
        rows = [(project, stage, _digest(steps), steps) for stage, steps in stages.items()]
        query = "SELECT stage, digest FROM build_history WHERE project = ?"
        known = dict(await self._db.read(lambda db: db.execute(query, (project,)).fetchall()))
        changed = [row for row in rows if known.get(row[1]) != row[2]]
        if not changed:
            return
        now = time.time()
        values = [(*row[:3], msgspec.json.encode(row[3]).decode(), now) for row in changed]
        await self._db.write(lambda db: _replace(db, values, fresh=not known), durable=False)


def _digest(steps: Iterable[PastStep]) -> str:
    total = hashlib.sha256()
    for step in steps:
        total.update(f"{step.key}\0{step.text}\0{step.base}\0".encode())
    return total.hexdigest()


def _replace(db: sqlite3.Connection, values: list[tuple[str, str, str, str, float]], *, fresh: bool) -> None:
    db.executemany("INSERT OR REPLACE INTO build_history VALUES (?, ?, ?, ?, ?)", values)
    if fresh:
        db.execute(
            "DELETE FROM build_history WHERE project NOT IN"
            " (SELECT project FROM build_history GROUP BY project ORDER BY max(built) DESC LIMIT ?)",
            (_PROJECTS,),
        )
