"""What declarative files are called."""

from __future__ import annotations

import re

DOCUMENT_MISSING = "document-missing"
"""The code of the error for a declarative file that is not where a Dockerfile names it."""

_DOCUMENT = re.compile(r"(?:\.{1,2})?/.*\.ya?ml", re.DOTALL)


def is_document(name: str) -> bool:
    """Whether a name in a Dockerfile is the path of a declarative file; no image is called like that."""
    return _DOCUMENT.fullmatch(name) is not None
