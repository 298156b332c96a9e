"""``build --context-ls``: what of the context is in, what is left out, and by which rule."""

from __future__ import annotations

import json
from typing import Any

from tare.cli.build_context import Context
from tare.cli.units import human_size
from tare.client.blocking import post
from tare.client.endpoint import Endpoint
from tare.errors import InternalError

_NEEDED = ("context", "remote", "dockerfile", "dockerfile_text")


def list_context(endpoint: Endpoint, document: dict[str, Any], context: Context, *, as_json: bool) -> None:
    """Print a line for each path, totals last; JSON documents, one per line, with ``as_json``."""
    request = {name: document[name] for name in _NEEDED if name in document}
    last: dict[str, Any] = {}
    with post(endpoint, "/tare/build/context", request, body=context.body) as answer:
        for last in answer.documents():
            if last["event"] != "paths":
                continue
            for entry in last["paths"]:
                print(json.dumps(entry, separators=(",", ":")) if as_json else _line(entry))
    if last.get("event") == "error":
        raise InternalError(last["message"], hint=last["hint"])
    print(json.dumps(last, separators=(",", ":")) if as_json else "\n".join(_totals(last)), flush=True)


def _line(entry: dict[str, Any]) -> str:
    path = entry["path"] + ("/" if entry["kind"] == "directory" else "")
    size = human_size(entry["size"]) if entry["kind"] == "file" else ""
    note = entry["rule"]
    if note and entry["included"]:
        note = f"brought back by {note}"
    elif note and entry["kind"] == "directory":
        note += "" if entry["pruned"] else ", looked into for exceptions"
    state = "in " if entry["included"] else "out"
    return f"{state}  {size:>7}  {path}{f'  <- {note}' if note else ''}"


def _totals(summary: dict[str, Any]) -> list[str]:
    files, out = summary["files"], summary["out"]
    lines = [f"in: {_count(files, 'file')}, {human_size(summary['bytes'])}"]
    if out:
        pruned = summary["pruned"]
        looked = f", {_count(pruned, 'directory', 'directories')} not looked into" if pruned else ""
        lines.append(f"out: {_count(out, 'path')}{looked}")
        lines.extend(f"  {count:>5}  {rule}" for rule, count in summary["rules"].items())
    lines.append(f"ignore file: {summary['ignore_file'] or 'none'}")
    return lines


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
