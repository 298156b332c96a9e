"""Steps that ended well, as the build cache remembers them: enough to look into what they made.

A record has the step's fields and its result, but neither the Dockerfile's words nor what its binds showed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from tare.build import defaults
from tare.build.cache import Result
from tare.build.graph import RunMount, Script
from tare.build.kept import PREFIX, KeptMount, KeptStep, no_such_step, parse_reference
from tare.errors import InvalidArgument
from tare.store.store import Store


async def find_past(store: Store, reference: str) -> KeptStep:
    """The cached step whose key begins with the digits of ``reference``.

    Raises NotFound, and InvalidArgument for what is no identifier or fits several.
    """
    digits = parse_reference(reference)

    def load(db: sqlite3.Connection) -> list[tuple[str, str, str, float]]:
        query = (
            "SELECT key, result, fields, created FROM build_cache"
            " WHERE key >= ? AND key < ? AND kind = 'definition' LIMIT 2"
        )
        return db.execute(query, (f"sha256:{digits}", f"sha256:{digits}g")).fetchall()

    rows = await store.db.read(load)
    if len(rows) > 1:
        raise InvalidArgument(f"{PREFIX}{digits} fits several steps", hint="give more digits")
    for key, result, fields, created in rows:
        made = msgspec.json.decode(result, type=Result)
        if made.part is not None and made.chain:
            return _described(key, made, msgspec.json.decode(fields), created)
    raise no_such_step(digits)


def _described(key: str, result: Result, fields: Mapping[str, Any], created: float) -> KeptStep:
    assert result.part is not None
    step = KeptStep(
        key=key,
        stage="",
        text=_text(fields),
        place="",
        argv=tuple(fields.get("argv", ())),
        parent=result.chain[:-1],
        part=result.part,
        exit_code=0,
        created=result.created or created,
        env=(defaults.PATH,),
        bytes=result.bytes,
        failed=False,
    )
    return _as_run(step, fields) if fields.get("op") == "run" else step


def _text(fields: Mapping[str, Any]) -> str:
    match fields.get("op"):
        case "run":
            return " ".join(["RUN", *" ".join(fields.get("argv", ())).split()])
        case "copy":
            return " ".join(["COPY", *fields.get("sources", ()), str(fields.get("destination", ""))])
        case "workdir":
            return f"WORKDIR {fields.get('path', '')}"
        case other:
            return str(other or "").upper()


def _as_run(step: KeptStep, fields: Mapping[str, Any]) -> KeptStep:
    mounts = [_mount(item) for item in fields.get("mounts", ())]
    again = tuple(KeptMount(mount=mount) for mount in mounts if mount.kind in ("cache", "tmpfs"))
    withheld = (f"{mount.kind} mount {mount.target or mount.variable}" for mount in mounts)
    return msgspec.structs.replace(
        step,
        script=Script(step.argv[-1], fields["script"]) if fields.get("script") else None,
        env=tuple(fields.get("env", ())),
        cwd=fields.get("cwd", "/"),
        user=fields.get("user", ""),
        network=fields.get("network", "default"),
        insecure=bool(fields.get("insecure")),
        mounts=again,
        withheld=tuple(
            words for words, mount in zip(withheld, mounts, strict=True) if mount.kind not in ("cache", "tmpfs")
        ),
    )


def _mount(fields: Mapping[str, Any]) -> RunMount:
    mode, uid, gid, size = fields.get("attributes") or (None, None, None, 0)
    return RunMount(
        kind=fields["kind"],
        target=fields["target"],
        source=fields.get("source", "/"),
        read_only=bool(fields.get("read_only")),
        name=fields.get("name", ""),
        variable=fields.get("variable", ""),
        mode=mode,
        uid=uid,
        gid=gid,
        size=size,
    )
