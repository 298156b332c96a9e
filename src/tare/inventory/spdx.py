"""SPDX 2.3 documents as JSON (spdx-spec v2.3, clauses 6 to 11)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

import msgspec

from tare.inventory.bill import Bill, File, Part, address, listed
from tare.inventory.licences import UNKNOWN
from tare.inventory.packages import PackageKind
from tare.version import __version__

MEDIA_TYPE = "application/spdx+json"
_DOCUMENT, _IMAGE = "SPDXRef-DOCUMENT", "SPDXRef-Image"
_TEAM = re.compile(r"\b(?:team|maintainers?|developers?|project|group|authority|foundation)\b", re.I)


def write_spdx(bill: Bill) -> Iterator[bytes]:
    """The document in pieces; equal bills give equal bytes."""
    head = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": bill.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/tare-{bill.document}",
        "creationInfo": {"created": bill.created, "creators": [f"Tool: tare-{__version__}"]},
        "documentDescribes": [_IMAGE],
    }
    yield msgspec.json.encode(head)[:-1] + b',\n"packages":['
    yield from listed(msgspec.json.encode(one) for one in _packages(bill))
    if bill.licences:
        yield b'],\n"hasExtractedLicensingInfos":['
        yield from listed(
            msgspec.json.encode({"licenseId": one.identifier, "name": one.name, "extractedText": one.text})
            for one in bill.licences
        )
    yield b'],\n"files":['
    yield from listed(msgspec.json.encode(_file(one)) for one in _files(bill))
    yield b'],\n"relationships":['
    yield from listed(
        msgspec.json.encode({"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other})
        for one, kind, other in _relationships(bill)
    )
    yield b"]}\n"


def _files(bill: Bill) -> Iterator[File]:
    yield from bill.files
    for part in bill.parts:
        yield from part.files


def _packages(bill: Bill) -> Iterator[dict[str, Any]]:
    image: dict[str, Any] = {
        "SPDXID": _IMAGE,
        "name": bill.name,
        "versionInfo": bill.image,
        "downloadLocation": UNKNOWN,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "comment": f"architecture {bill.architecture}; layers {', '.join(bill.diff_ids) or 'none'}",
    }
    yield image | _analysis(bill.files)
    for part in bill.parts:
        yield _package(part)


def _package(part: Part) -> dict[str, Any]:
    package = part.package
    found: dict[str, Any] = {
        "SPDXID": f"SPDXRef-{part.identifier}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": UNKNOWN,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": part.licence,
        "copyrightText": UNKNOWN,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}
        ],
    }
    if package.maintainer and (supplier := _actor(package.maintainer)):
        found["supplier"] = supplier
    if homepage := address(package.homepage):
        found["homepage"] = homepage
    if package.summary:
        found["summary"] = package.summary
    if package.kind is PackageKind.DEB:
        found["sourceInfo"] = f"built from the source package {package.source} {package.source_version}"
    return found | _analysis(part.files)


def _analysis(files: tuple[File, ...]) -> dict[str, Any]:
    """Whether files are listed, and the code over their digests (clause 7.9)."""
    if not files:
        return {"filesAnalyzed": False}
    digests = "".join(sorted(one.sha1 for one in files))
    code = hashlib.sha1(digests.encode(), usedforsecurity=False).hexdigest()
    return {"filesAnalyzed": True, "packageVerificationCode": {"packageVerificationCodeValue": code}}


def _actor(text: str) -> str:
    """A person or organisation as clause 7.5 wants it, from ``Name <address>``."""
    name, mail = parseaddr(text)
    name = " ".join(re.sub(r"[()]", " ", name or text.partition("<")[0] or mail).split())
    if not name:
        return ""
    kind = "Organization" if _TEAM.search(name) else "Person"
    return f"{kind}: {name} ({mail})" if "@" in mail and mail != name else f"{kind}: {name}"


def _file(file: File) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-{file.identifier}",
        "fileName": f".{file.path}",
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": file.sha1},
            {"algorithm": "SHA256", "checksumValue": file.sha256},
        ],
        "licenseConcluded": UNKNOWN,
        "copyrightText": UNKNOWN,
    }


def _relationships(bill: Bill) -> Iterator[tuple[str, str, str]]:
    yield _DOCUMENT, "DESCRIBES", _IMAGE
    for part in bill.parts:
        yield _IMAGE, "CONTAINS", f"SPDXRef-{part.identifier}"
    for file in bill.files:
        yield _IMAGE, "CONTAINS", f"SPDXRef-{file.identifier}"
    for part in bill.parts:
        own = f"SPDXRef-{part.identifier}"
        for file in part.files:
            yield own, "CONTAINS", f"SPDXRef-{file.identifier}"
        for held in part.holds:
            yield own, "CONTAINS", f"SPDXRef-{held}"
        for needed in part.needs:
            yield own, "DEPENDS_ON", f"SPDXRef-{needed}"
