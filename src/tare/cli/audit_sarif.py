"""Audit reports as SARIF 2.1.0 (OASIS), which code hosts and editors show."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from tare import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "IMAGEROOT"
_LEVELS = {"info": "note", "low": "note", "medium": "warning", "high": "error", "critical": "error"}
_SCORES = {"info": "0.0", "low": "3.0", "medium": "5.5", "high": "8.0", "critical": "9.5"}


def to_sarif(found: dict[str, Any]) -> dict[str, Any]:
    """The document for an answer of ``/tare/…/audit``."""
    rules = found["Rules"]
    places = {rule["Id"]: index for index, rule in enumerate(rules)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "tare audit", "version": __version__, "rules": [_rule(rule) for rule in rules]}
                },
                "originalUriBaseIds": {
                    ROOT: {"description": {"text": f"The root file system of {found['Kind']} {found['Name']}."}}
                },
                "results": [_result(one, found, places) for one in found["Findings"]],
                "columnKind": "unicodeCodePoints",
                "properties": {"kind": found["Kind"], "id": found["Id"], "name": found["Name"]},
            }
        ],
    }


def _rule(rule: dict[str, str]) -> dict[str, Any]:
    return {
        "id": rule["Id"],
        "shortDescription": {"text": _sentence(rule["Title"])},
        "fullDescription": {"text": _sentence(rule["Why"])},
        "help": {"text": _sentence(rule["Fix"])},
        "defaultConfiguration": {"level": _LEVELS[rule["Severity"]]},
        "properties": {"tags": ["security"], "security-severity": _SCORES[rule["Severity"]]},
    }


def _result(one: dict[str, Any], found: dict[str, Any], places: dict[str, int]) -> dict[str, Any]:
    marks = "\n".join((one["Rule"], one["Path"], one["What"]))
    result: dict[str, Any] = {
        "ruleId": one["Rule"],
        "ruleIndex": places[one["Rule"]],
        "level": _LEVELS[one["Severity"]],
        "message": {"text": f"{one['Path']}: {one['What']}. {_sentence(one['Fix'])}"},
        "locations": [_location(one)],
        "partialFingerprints": {"tareAudit/v1": hashlib.sha256(marks.encode()).hexdigest()},
    }
    if one["Layer"] is not None:
        layer = found["Layers"][one["Layer"]]
        result["properties"] = {"layer": layer["Digest"], "createdBy": layer["CreatedBy"]}
    if one["Ignored"]:
        result["suppressions"] = [{"kind": "external", "justification": one["Ignored"]}]
    return result


def _location(one: dict[str, Any]) -> dict[str, Any]:
    if one["Path"].startswith("/"):
        uri = quote(one["Path"].lstrip("/")) or "."
        return {"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": ROOT}}}
    return {"logicalLocations": [{"fullyQualifiedName": one["Path"], "kind": "member"}]}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
