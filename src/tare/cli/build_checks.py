"""Findings of the build checks as they are printed: at the end of a build, and as the answer to ``--check``."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]


def show_findings(findings: list[Document]) -> None:
    """A line for each finding and its rule's page, on standard error, as buildx ends a build."""
    if not findings:
        return
    colour = sys.stderr.isatty()
    title = "1 warning found" if len(findings) == 1 else f"{len(findings)} warnings found"
    lines = ["", f" {_yellow(f'{title} (tare build --check shows the lines):', colour)}"]
    told: set[str] = set()
    for finding in sorted(findings, key=lambda item: int(item["first_line"])):
        lines.append(f" - {finding['rule']}: {finding['message']} (line {finding['first_line']})")
        if finding["rule"] not in told:
            lines.append(f"   {finding['url'] or finding['page']}")
        told.add(finding["rule"])
    print("\n".join(lines), file=sys.stderr, flush=True)


def report_text(report: Document) -> str:
    """The report as ``docker build --check`` prints it, without the error."""
    findings = report["findings"]
    if not findings:
        return "" if report["error"] else "Check complete, no warnings found."
    count = "1 warning has" if len(findings) == 1 else f"{len(findings)} warnings have"
    return "\n".join([f"Check complete, {count} been found!", *_finding_lines(findings)])


def _finding_lines(findings: Iterable[Document]) -> Iterable[str]:
    for finding in findings:
        page = finding["url"] or finding["page"]
        yield f"\nWARNING: {finding['rule']} - {page}\n{finding['message']}\n{finding['excerpt']}"


def report_json(report: Document) -> str:
    """The report as BuildKit's document (``frontend/subrequests/lint``), and each rule's own page beside it."""
    source = {"filename": report["file"], "language": "Dockerfile", "data": _encoded(report["text"])}
    document: Document = {
        "warnings": [
            {
                "ruleName": finding["rule"],
                "description": finding["description"],
                **({"url": finding["url"]} if finding["url"] else {}),
                "detail": finding["message"],
                "page": finding["page"],
                "location": _location(finding),
            }
            for finding in report["findings"]
        ],
        "sources": [source],
    }
    if error := report["error"]:
        document["buildError"] = {"message": error["message"], "location": _location(error)}
    return json.dumps(document, indent=2, ensure_ascii=False)


def print_report(report: Document, *, as_json: bool) -> bool:
    """Print the report on standard output, its error on standard error. Returns whether there is nothing to change."""
    error = report["error"]
    text = report_json(report) if as_json else report_text(report)
    if text:
        print(text, flush=True)
    if error and not as_json:
        place = f"\n{error['excerpt']}" if error["excerpt"] else ""
        gap = "\n" if report["findings"] else ""
        print(f"{gap}ERROR: {error['message']}{place}", file=sys.stderr, flush=True)
    return not error and not report["findings"]


def _location(item: Document) -> Document:
    """A range for each line, as BuildKit has it."""
    if not item["first_line"]:
        return {}
    numbers = range(item["first_line"], item["last_line"] + 1)
    return {"ranges": [{"start": {"line": number}, "end": {"line": number}} for number in numbers]}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _yellow(text: str, colour: bool) -> str:
    return f"\033[33m{text}\033[0m" if colour else text
