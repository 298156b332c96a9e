"""Builds on Tare's own route: the request, and every event as a JSON document.

The documents' ``event`` is one of ``plan``, ``started``, ``output``, ``done``, ``failed``, ``explained``, ``notice``,
``finding``, ``finished``, ``result``, ``error``; the other members are the fields of the event
(:mod:`tare.build.events`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tare.api.params import convert, without_nulls
from tare.build.checks.findings import Finding
from tare.build.events import (
    BuildEvent,
    BuildFinished,
    Notice,
    PlanMade,
    StepExplained,
    VertexDone,
    VertexFailed,
    VertexOutput,
    VertexStarted,
)
from tare.build.failures import BuildStepFailed, kept_step
from tare.build.request import OutputRequest, Ulimit
from tare.engine.requests import BuildJob
from tare.errors import InvalidArgument, TareError

if TYPE_CHECKING:
    from tare.build.assembly.lockfile import LockUpdate
    from tare.build.listing import ContextEntry, ContextSummary
    from tare.build.request import BuildResult, ForecastLine

_NAMES: dict[type[Any], str] = {
    PlanMade: "plan",
    VertexStarted: "started",
    VertexDone: "done",
    VertexFailed: "failed",
    StepExplained: "explained",
    Notice: "notice",
    Finding: "finding",
}


class _OutputBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    type: str
    destination: str = ""
    attributes: dict[str, str] = {}
    owner: tuple[int, int] | None = None


class _UlimitBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str
    soft: int
    hard: int


class _BuildBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    context: str = ""
    remote: str = ""
    dockerfile: str = "Dockerfile"
    dockerfile_text: str | None = None
    tags: list[str] = []
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    network: str = ""
    extra_hosts: list[str] = []
    platform: str = ""
    shm_size: int = 0
    quiet: bool = False
    contexts: dict[str, str] = {}
    secrets: dict[str, bytes] = {}
    ssh: dict[str, list[str]] = {}
    allow: list[str] = []
    no_cache_stages: list[str] = []
    outputs: list[_OutputBody] = []
    annotations: dict[str, str] = {}
    ulimits: list[_UlimitBody] = []
    check: bool = False
    describe: Literal["", "targets", "outline"] = ""
    plan_only: bool = False
    why: bool = False
    keep_failed: bool = False
    budget: int = 0
    lock_text: str | None = None
    update_lock: bool = False


def read_build(document: dict[str, Any], tar: AsyncIterator[bytes] | None = None) -> BuildJob:
    """The body of ``POST /tare/build``: fields of BuildJob by their own names, ``context`` an absolute directory.

    Instead of a directory there may be ``tar``, an address in ``remote``, or only ``dockerfile_text``.
    """
    body = convert(without_nulls(document), _BuildBody)
    if sum((bool(body.context), bool(body.remote), tar is not None)) > 1:
        raise InvalidArgument("a build has one context", hint="give a directory, an address or a tar")
    context = Path(body.context) if body.context else None
    if context is not None and not context.is_absolute():
        raise InvalidArgument(f"build context {body.context!r}: expected an absolute path on the engine's host")
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name != "context"}
    for name in ("tags", "extra_hosts", "allow", "no_cache_stages"):
        values[name] = tuple(values[name])
    values["ssh"] = {name: tuple(paths) for name, paths in body.ssh.items()}
    values["outputs"] = tuple(OutputRequest(**msgspec.structs.asdict(item)) for item in body.outputs)
    values["ulimits"] = tuple(Ulimit(**msgspec.structs.asdict(item)) for item in body.ulimits)
    return BuildJob(context=context, tar=tar, **values)


def render_build_event(event: BuildEvent) -> dict[str, Any]:
    """One event; output is text, bytes that are not UTF-8 are replaced."""
    if isinstance(event, VertexOutput):
        return {"event": "output", "id": event.id, "stream": event.stream, "data": event.data.decode(errors="replace")}
    if isinstance(event, BuildFinished):
        return {"event": "finished", "image_id": str(event.image_id), "tags": list(event.tags)}
    return {"event": _NAMES[type(event)], **msgspec.to_builtins(event)}


def render_result(result: BuildResult) -> dict[str, Any]:
    """The last document of a build that went well: the image and the weigh-in."""
    return {
        "event": "result",
        "image_id": str(result.image_id) if result.image_id else None,
        "manifest": msgspec.to_builtins(result.manifest),
        "names": list(result.names),
        "warnings": list(result.warnings),
        "findings": [msgspec.to_builtins(finding) for finding in result.findings],
        "report": msgspec.to_builtins(result.report) if result.report else None,
        "locks": [_lock(lock) for lock in result.locks],
        "ledger": [msgspec.to_builtins(line) for line in result.ledger],
        "shipped": result.shipped,
        "left_behind": result.left_behind,
        "rewritten": result.rewritten,
    }


def _lock(lock: LockUpdate) -> dict[str, Any]:
    return {
        "context": lock.context,
        "file": lock.file,
        "text": lock.text,
        "beside": lock.beside,
        "changes": [msgspec.to_builtins(change) for change in lock.changes],
    }


def render_forecast(lines: Sequence[ForecastLine]) -> dict[str, Any]:
    """The last document of a plan (``plan_only``): every step with its verdict and the causes."""
    return {"event": "result", "forecast": [msgspec.to_builtins(line) for line in lines]}


def render_failure(error: TareError) -> dict[str, Any]:
    """The last document of a build that failed.

    ``exit_code`` is the failed command's, null for other failures; ``step`` the reference under which the failed step
    is kept, empty when it is not.
    """
    failed = error if isinstance(error, BuildStepFailed) else None
    return {
        "event": "error",
        "message": error.message if failed else str(error),
        "code": error.code,
        "hint": error.hint,
        "exit_code": failed.exit_code if failed else None,
        "output": list(failed.output) if failed else [],
        "place": failed.place if failed else "",
        "step": kept_step(error),
    }


def render_paths(entries: Sequence[ContextEntry]) -> dict[str, Any]:
    """Some paths of a context; bytes of a name that are not UTF-8 are replaced."""
    paths = [msgspec.to_builtins(entry) for entry in entries]
    for path in paths:
        path["path"] = os.fsencode(path["path"]).decode(errors="replace")
    return {"event": "paths", "paths": paths}


def render_context(summary: ContextSummary) -> dict[str, Any]:
    """The last document of a context's listing: the totals."""
    return {"event": "context", **msgspec.to_builtins(summary)}
