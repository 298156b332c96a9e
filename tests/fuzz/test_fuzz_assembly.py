"""Whatever a declarative file or a lock file says, it is read and can be lowered, or refused with a place."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tare.build.assembly.document import read_document
from tare.build.assembly.lockfile import read_lock
from tare.build.assembly.lowering import lower
from tare.build.assembly.schema import document_schema
from tare.build.assembly.yaml_nodes import DocumentError

FIELDS = sorted({name for kind in document_schema()["$defs"].values() for name in kind["properties"]})
KEYS = st.sampled_from([*FIELDS, "amd64", "curl", "A"])
SCALARS = st.sampled_from(
    ["curl", "curl=1.0", "", "/a", "/a/", "1", "0755", "true", "~", "1s", "$X '\"\\", "a\0b", "[", "\u2028", "x" * 200]
) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
MARKS = (" ", "  ", "\n", "\n- ", "- ", "\t", "[", "]", "{", "}", ", ", ": ", "'", '"', "|\n", ">-\n", "#", "&a", "*a")
OTHERS = ("version: 1\n", "!!str ", "---\n", "...\n", "%YAML 1.1\n", "? ", "\x07", "\ufeff", "curl", "é")
PIECES = st.sampled_from([*(f"{name}:" for name in FIELDS), *MARKS, *OTHERS])


def check(text: str) -> None:
    for read in (lambda: lower(read_document(text, "a.yaml"), "a.yaml", stages={}), lambda: read_lock(text, "a.lock")):
        try:
            read()
        except DocumentError as error:
            assert error.reason and error.code
            assert 1 <= error.line <= len(text.splitlines()) + 2
            assert error.column >= 1
            assert str(error)


@given(st.lists(PIECES, max_size=24).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text(text: str) -> None:
    check(text)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_data(data: object) -> None:
    check(json.dumps(data))  # JSON is YAML
