"""Packages of languages: Python's (PyPA "Recording installed projects", core metadata) and Node's (package.json)."""

from __future__ import annotations

import csv
import email.parser
import email.policy
import json
import re
from typing import Any

from tare.inventory.dpkg import text_of
from tare.inventory.packages import Package, PackageKind, Registry
from tare.inventory.paths import Canonical
from tare.inventory.tree import Node, walk

_PYTHON = re.compile(r"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_NODE = re.compile(r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/@][^/]*/package\.json")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def read_languages(root: Node, registry: Registry) -> None:
    """Python's projects and Node's packages of the tree."""
    projects, modules = [], []
    for path, node in walk(root):
        if node.content is not None and node.content.text is not None:
            if _PYTHON.fullmatch(path):
                projects.append(path)
            elif _NODE.fullmatch(path):
                modules.append(path)
    _read_python(root, projects, registry)
    _read_node(root, modules, registry)


def _read_python(root: Node, records: list[str], registry: Registry) -> None:
    """Projects of ``*.dist-info`` and ``*.egg-info`` with the files that RECORD lists."""
    canonical = Canonical(root)
    for path in records:
        text = text_of(root, path)
        package = _project(text, path) if text is not None else None
        if package is None:
            continue
        registry.add(package)
        registry.claim(path, package)
        information = path.rpartition("/")[0]
        if not information.endswith((".dist-info", ".egg-info")):
            continue
        site = information.rpartition("/")[0]
        registry.claim_directory(information, package)
        for name in _recorded(text_of(root, f"{information}/RECORD") or ""):
            registry.claim(canonical.path(name.strip("/") if name.startswith("/") else _joined(site, name)), package)


def _recorded(text: str) -> list[str]:
    try:
        return [row[0] for row in csv.reader(text.split("\n")) if row and row[0]]
    except csv.Error:
        return []


def _joined(directory: str, name: str) -> str:
    parts = directory.split("/") if directory else []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _project(text: str, record: str) -> Package | None:
    head = text.encode("utf-8", "replace").decode("utf-8").split("\n\n", 1)[0] + "\n"
    fields = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(head)
    name, version = str(fields.get("Name") or ""), str(fields.get("Version") or "")
    if not _REQUIREMENT.fullmatch(name) or not version:
        return None
    licence = str(fields.get("License-Expression") or fields.get("License") or "")
    classifiers = [str(line).rpartition(" :: ")[2] for line in fields.get_all("Classifier", []) if "License ::" in line]
    needed = (str(line) for line in fields.get_all("Requires-Dist", []) if "extra ==" not in str(line))
    homepage = str(fields.get("Home-page") or "")
    return Package(
        kind=PackageKind.PYPI,
        name=re.sub(r"[-_.]+", "-", name).lower(),
        version=version,
        maintainer=str(fields.get("Author") or fields.get("Author-email") or "").split("\n", 1)[0],
        homepage=homepage if homepage != "UNKNOWN" else "",
        summary=str(fields.get("Summary") or "").split("\n", 1)[0],
        licence=licence if licence and licence != "UNKNOWN" and len(licence) < 100 else " AND ".join(classifiers),
        record=record,
        depends=tuple(
            dict.fromkeys(
                re.sub(r"[-_.]+", "-", match[1]).lower() for line in needed if (match := _REQUIREMENT.match(line))
            )
        ),
    )


def _read_node(root: Node, records: list[str], registry: Registry) -> None:
    """Packages below ``node_modules``; what is in a package's directory is its, but for packages nested in it."""
    for path in records:
        text = text_of(root, path)
        try:
            document = json.loads(text) if text is not None else None
        except (ValueError, RecursionError):
            continue
        package = _module(document, path) if isinstance(document, dict) else None
        if package is not None:
            registry.add(package)
            registry.claim_directory(path.rpartition("/")[0], package)


def _module(document: dict[str, Any], record: str) -> Package | None:
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not name or not isinstance(version, str) or not version:
        return None
    needed = document.get("dependencies")
    return Package(
        kind=PackageKind.NPM,
        name=name,
        version=version,
        maintainer=_text(document.get("author"), "name"),
        homepage=_text(document.get("homepage"), ""),
        summary=_text(document.get("description"), ""),
        licence=_text(document.get("license"), "type"),
        record=record,
        depends=tuple(sorted(str(item) for item in needed)) if isinstance(needed, dict) else (),
    )


def _text(value: object, member: str) -> str:
    if isinstance(value, dict):
        value = value.get(member)
    return value.split("\n", 1)[0] if isinstance(value, str) else ""
