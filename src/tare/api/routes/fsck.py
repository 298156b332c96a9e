"""Is the store what the database says: ``POST /tare/fsck``."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.errors import TareError
from tare.store.fsck.findings import Options, Problem, Progress, Report


@cancellable
async def fsck(request: web.Request) -> web.StreamResponse:
    """``POST /tare/fsck``: look at everything that is stored; ends when the client goes away.

    Body (optional): ``{"repair": false, "deep": false}``. The answer is one JSON document per line: ``{"event":
    "progress"|"problem", …}`` with the members of :class:`tare.store.fsck.findings.Progress` and ``Problem``, the last
    one ``result`` (``Report``) or ``error`` (``message``, ``code``, ``hint``).
    """
    document = params.without_nulls(await params.body_document(request, optional=True))
    options = Options(
        repair=params.convert(document.get("repair", False), bool),
        deep=params.convert(document.get("deep", False), bool),
    )
    stream = JsonStream(request)

    def observe(one: Problem | Progress) -> None:
        stream.report(_event("progress" if isinstance(one, Progress) else "problem", one))

    running = engine_of(request).fsck.run(options, observe)
    return await stream.run(running, lambda report: [{**_event("result", report), "clean": report.is_clean}], _failure)


def _event(name: str, one: Problem | Progress | Report) -> dict[str, Any]:
    return {"event": name, **msgspec.to_builtins(one)}


def _failure(error: TareError) -> dict[str, Any]:
    return {"event": "error", "message": error.message, "code": error.code, "hint": error.hint}


ROUTES: list[Any] = [("POST", "/tare/fsck", fsck)]
