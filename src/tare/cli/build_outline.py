"""Answers to ``--call targets`` and ``--call outline``, as buildx prints them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

Document = dict[str, Any]


def targets_text(report: Document) -> str:
    """A table of the stages."""
    rows = [("TARGET", "DESCRIPTION")]
    for target in report["targets"]:
        default = "(default)" if target["default"] else ""
        rows.append((" ".join(part for part in (target["name"], default) if part), target["description"]))
    return _table(rows, 1)


def targets_json(report: Document) -> str:
    """BuildKit's document."""
    targets = [
        {
            **_given(name=target["name"], default=target["default"], description=target["description"]),
            "base": target["base"],
            "location": _location(target),
        }
        for target in report["targets"]
    ]
    return _json({"targets": targets, "sources": [_encoded(report["text"])]})


def outline_text(report: Document) -> str:
    """Tables of what the target takes; those without rows are left out."""
    parts: list[str] = []
    if report["name"] or report["description"]:
        head = [("TARGET:", report["name"] or "(default)")]
        if report["description"]:
            head.append(("DESCRIPTION:", report["description"]))
        parts.append(_table(head, 1))
    if report["args"]:
        rows = [(item["name"], item["value"], item["description"]) for item in report["args"]]
        parts.append(_table([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows], 3))
    for title, name in (("SECRET", "secrets"), ("SSH", "ssh")):
        if report[name]:
            rows_ = [(item["name"], "true" if item["required"] else "") for item in report[name]]
            parts.append(_table([(title, "REQUIRED"), *rows_], 3))
    return "\n\n".join(parts)


def outline_json(report: Document) -> str:
    """BuildKit's document."""
    args = [
        {
            "name": item["name"],
            **_given(description=item["description"], value=item["value"]),
            "location": _location(item),
        }
        for item in report["args"]
    ]
    mounted = {
        name: [
            {"name": item["name"], **_given(required=item["required"]), "location": _location(item)}
            for item in report[name]
        ]
        for name in ("secrets", "ssh")
    }
    found = _given(name=report["name"], description=report["description"], args=args, **mounted)
    return _json({**found, "sources": [_encoded(report["text"])]})


def print_answer(report: Document, method: str, *, as_json: bool) -> None:
    """Print the answer to ``method`` on standard output."""
    printers = {"targets": (targets_text, targets_json), "outline": (outline_text, outline_json)}
    print(printers[method][as_json](report), flush=True)


def _given(**values: object) -> Document:
    return {name: value for name, value in values.items() if value}


def _location(item: Document) -> Document:
    return {"ranges": [{"start": {"line": item["line"]}, "end": {"line": item["line"]}}]}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _json(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _table(rows: Iterable[Sequence[str]], gap: int) -> str:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]))]
    return "\n".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
