"""The JSON schema of declarative files, made of the structures that they are read with.

``python -m tare.build.assembly.schema`` writes it to standard output; ``docs/distroless.schema.json`` is that text.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from tare.build.assembly.document import Document

_HEAD = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tare's distroless.yaml"}
_NULL = {"type": "null"}
_SCALARS = ["string", "number", "boolean"]


def document_schema() -> dict[str, Any]:
    """The schema of a document (JSON Schema 2020-12).

    Text may be written without quotes: ``release: 12`` is a number to those who validate, and text to the reader.
    """
    schema = _HEAD | msgspec.json.schema(Document)
    found: dict[str, Any] = _unquoted(schema)
    return found


def _unquoted(value: Any) -> Any:
    """``value`` with numbers and truth values allowed wherever it allows any text, and nothing left empty."""
    if isinstance(value, list):
        return [_unquoted(item) for item in value if item != _NULL]
    if not isinstance(value, dict):
        return value
    found = {key: _unquoted(item) for key, item in value.items() if (key, item) != ("default", None)}
    if found.get("type") == "string":
        found["type"] = _SCALARS
    if isinstance(options := found.get("enum"), list):
        found["enum"] = [*options, *(int(item) for item in options if isinstance(item, str) and item.isdecimal())]
    return found


def schema_text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(document_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
