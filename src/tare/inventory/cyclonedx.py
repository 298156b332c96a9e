"""CycloneDX 1.6 documents as JSON (ECMA-424)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

import msgspec

from tare.inventory.bill import Bill, File, Part, address, licence_of, listed
from tare.inventory.packages import PackageKind
from tare.version import __version__

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"
_IDENTIFIER = re.compile(r"[A-Za-z0-9.+-]+")


def write_cyclonedx(bill: Bill) -> Iterator[bytes]:
    """The document in pieces; equal bills give equal bytes."""
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{bill.document}",
        "version": 1,
        "metadata": {
            "timestamp": bill.created,
            "tools": {"components": [{"type": "application", "name": "tare", "version": __version__}]},
            "component": {
                "type": "container",
                "bom-ref": "Image",
                "name": bill.name,
                "version": bill.image,
                "properties": [
                    {"name": "tare:architecture", "value": bill.architecture},
                    *({"name": "tare:diff-id", "value": diff_id} for diff_id in bill.diff_ids),
                ],
            },
        },
    }
    yield msgspec.json.encode(head)[:-1] + b',\n"components":['
    yield from listed(msgspec.json.encode(one) for one in _components(bill))
    yield b'],\n"dependencies":['
    yield from listed(msgspec.json.encode(one) for one in _dependencies(bill))
    yield b"]}\n"


def _components(bill: Bill) -> Iterator[dict[str, Any]]:
    for part in bill.parts:
        yield _package(part)
    for file in bill.files:
        yield _file(file)


def _package(part: Part) -> dict[str, Any]:
    package = part.package
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": part.identifier,
        "name": package.name,
        "version": package.version,
        "purl": part.purl,
    }
    if package.kind is PackageKind.NPM and package.name.startswith("@"):
        found["group"], _, found["name"] = package.name.partition("/")
    if package.maintainer:
        name, mail = parseaddr(package.maintainer)
        found["publisher"] = name or mail or package.maintainer
    if package.summary:
        found["description"] = package.summary
    if licence := licence_of(part):
        simple = _IDENTIFIER.fullmatch(licence) and not licence.startswith("LicenseRef-")
        found["licenses"] = [{"license": {"id": licence}} if simple else {"expression": licence}]
    if homepage := address(package.homepage):
        found["externalReferences"] = [{"type": "website", "url": homepage}]
    if package.kind is PackageKind.DEB:
        found["properties"] = [
            {"name": "tare:source", "value": package.source},
            {"name": "tare:source-version", "value": package.source_version},
        ]
    if part.files:
        found["components"] = [_file(file) for file in part.files]
    return found


def _file(file: File) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": file.identifier,
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}, {"alg": "SHA-1", "content": file.sha1}],
    }


def _dependencies(bill: Bill) -> Iterator[dict[str, Any]]:
    yield {"ref": "Image", "dependsOn": [part.identifier for part in bill.parts]}
    for part in bill.parts:
        needs = [*dict.fromkeys((*part.needs, *part.holds))]
        yield {"ref": part.identifier, "dependsOn": needs} if needs else {"ref": part.identifier}
