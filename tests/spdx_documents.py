"""Check SPDX documents: by the rules of the published JSON schema of SPDX 2.3, and by SPDX's own reader and validator.

The schema is not in any package. What it asks of the parts that Tare writes stands here: the properties that each
object may have, those that it must have, and the values of enumerations; like there, nothing else is allowed.
"""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft7Validator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}


def one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def thing(required: str, optional: str = "", **typed: dict[str, Any]) -> dict[str, Any]:
    """An object: names of required and optional properties, texts unless their type is given."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "properties": {name: typed.get(name, TEXT) for name in names},
        "required": required.split(),
        "additionalProperties": False,
    }


def many(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, **more}


CHECKSUM = thing(
    "algorithm checksumValue",
    algorithm=one_of(
        *("SHA1", "BLAKE3", "SHA3-384", "SHA256", "SHA384", "BLAKE2b-512", "BLAKE2b-256", "SHA3-512", "MD2"),
        *("ADLER32", "MD4", "SHA3-256", "BLAKE2b-384", "SHA512", "MD6", "MD5", "SHA224"),
    ),
)
PACKAGE = thing(
    "SPDXID downloadLocation name",
    "attributionTexts builtDate checksums comment copyrightText description externalRefs filesAnalyzed hasFiles"
    " homepage licenseComments licenseConcluded licenseDeclared licenseInfoFromFiles originator packageFileName"
    " packageVerificationCode primaryPackagePurpose releaseDate sourceInfo summary supplier validUntilDate versionInfo",
    attributionTexts=TEXTS,
    checksums=many(CHECKSUM),
    externalRefs=many(
        thing(
            "referenceCategory referenceLocator referenceType",
            "comment",
            referenceCategory=one_of("OTHER", "PERSISTENT-ID", "SECURITY", "PACKAGE-MANAGER"),
        )
    ),
    filesAnalyzed={"type": "boolean"},
    hasFiles=TEXTS,
    licenseInfoFromFiles=TEXTS,
    packageVerificationCode=thing(
        "packageVerificationCodeValue",
        "packageVerificationCodeExcludedFiles",
        packageVerificationCodeExcludedFiles=TEXTS,
    ),
    primaryPackagePurpose=one_of(
        *("OTHER", "INSTALL", "ARCHIVE", "FIRMWARE", "APPLICATION", "FRAMEWORK", "LIBRARY", "CONTAINER", "SOURCE"),
        *("DEVICE", "OPERATING_SYSTEM", "FILE"),
    ),
)
FILE = thing(
    "SPDXID checksums fileName",
    "attributionTexts comment copyrightText fileContributors fileTypes licenseComments licenseConcluded"
    " licenseInfoInFiles noticeText",
    checksums=many(CHECKSUM, minItems=1),
    attributionTexts=TEXTS,
    fileContributors=TEXTS,
    fileTypes=TEXTS,
    licenseInfoInFiles=TEXTS,
)
DOCUMENT = thing(
    "SPDXID creationInfo dataLicense name spdxVersion",
    "comment documentDescribes documentNamespace files hasExtractedLicensingInfos packages relationships",
    creationInfo=thing("created creators", "comment licenseListVersion", creators=many(TEXT, minItems=1)),
    documentDescribes=TEXTS,
    hasExtractedLicensingInfos=many(thing("extractedText licenseId", "comment name seeAlsos", seeAlsos=TEXTS)),
    packages=many(PACKAGE),
    files=many(FILE),
    relationships=many(
        thing(
            "spdxElementId relatedSpdxElement relationshipType",
            "comment",
            relationshipType=one_of("CONTAINS", "CONTAINED_BY", "DESCRIBES", "DESCRIBED_BY", "DEPENDS_ON", "OTHER"),
        )
    ),
)


def valid_spdx(text: str | bytes) -> dict[str, Any]:
    """The document; fails with what is wrong with it."""
    document: dict[str, Any] = json.loads(text)
    wrong = [f"{error.json_path}: {error.message[:200]}" for error in Draft7Validator(DOCUMENT).iter_errors(document)]
    assert not wrong
    messages = validate_full_spdx_document(JsonLikeDictParser().parse(document))
    assert not messages, [message.validation_message for message in messages]
    return document
